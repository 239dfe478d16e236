"""Checkpoints and plans for the tests, from the descriptions of the published ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PAIRS = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "T1 liver": 1, "T2 liver": 2, "T1 and T2 liver": 3},
    "pair": {"modalities": ["T1", "T2"], "classes": ["background", "liver"]},
}
TINY = (4, 8, 16, 32)
VGG11 = {
    0: (3, 64),
    3: (64, 128),
    6: (128, 256),
    8: (256, 256),
    11: (256, 512),
    13: (512, 512),
    16: (512, 512),
    18: (512, 512),
}
"""Convolutions of configuration A: index in torchvision's `features` -> (inputs, outputs)."""


def images(channels: int = 1, classes: int = 2) -> dict[str, Any]:
    """A dataset.json with one mask per case."""
    labels = {"background": 0, **{f"class {label}": label for label in range(1, classes)}}
    return {"channel_names": {str(channel): "MR" for channel in range(channels)}, "labels": labels}


def models_genesis(
    widths: Sequence[int] = (64, 128, 256, 512), channels: int = 1, classes: int = 1
) -> dict[str, Tensor]:
    """Weights by the published names and shapes, without the prefix; random."""
    a, b, c, d = widths
    units: dict[str, tuple[int, int]] = {}
    for name, inputs, width in (("64", channels, a), ("128", a, b), ("256", b, c), ("512", c, d)):
        units |= {
            f"down_tr{name}.ops.0": (inputs, width // 2),
            f"down_tr{name}.ops.1": (width // 2, width),
        }
    for name, below, width in (("256", d, c), ("128", c, b), ("64", b, a)):
        units |= {
            f"up_tr{name}.ops.0": (below + width, width),
            f"up_tr{name}.ops.1": (width, width),
        }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (inputs, outputs) in units.items():
        shapes |= {
            f"{name}.conv1.weight": (outputs, inputs, 3, 3, 3),
            f"{name}.conv1.bias": (outputs,),
        }
        shapes |= {
            f"{name}.bn1.{part}": (outputs,)
            for part in ("weight", "bias", "running_mean", "running_var")
        }
        shapes[f"{name}.bn1.num_batches_tracked"] = ()
    for name, below in (("256", d), ("128", c), ("64", b)):
        shapes |= {
            f"up_tr{name}.up_conv.weight": (below, below, 2, 2, 2),
            f"up_tr{name}.up_conv.bias": (below,),
        }
    shapes |= {
        "out_tr.final_conv.weight": (classes, a, 1, 1, 1),
        "out_tr.final_conv.bias": (classes,),
    }
    return random_weights(shapes)


def vgg11(channels: int = 3) -> dict[str, Tensor]:
    """Weights by torchvision's names and shapes, with a small classifier behind them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (inputs, outputs) in VGG11.items():
        shapes[f"features.{index}.weight"] = (outputs, channels if index == 0 else inputs, 3, 3)
        shapes[f"features.{index}.bias"] = (outputs,)
    return random_weights({**shapes, "classifier.0.weight": (10, 20), "classifier.0.bias": (10,)})


def random_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(11)
    return {
        name: torch.tensor(300)
        if name.endswith("num_batches_tracked")
        else 0.05 * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


def save_models_genesis(path: Path, weights: Mapping[str, Tensor]) -> Path:
    """As published: an early torch's file format, in DataParallel, with the epoch."""
    content = {
        "epoch": 87,
        "state_dict": {f"module.{name}": tensor for name, tensor in weights.items()},
    }
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def write_plans(
    folder: Path, network: str, kwargs: Mapping[str, Any], dataset_json: Mapping[str, Any]
) -> Path:
    """A plans file with one configuration, and dataset.json beside it."""
    three_d = {
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
        **kwargs,
    }
    architecture = {
        "network_class_name": network,
        "arch_kwargs": three_d,
        "_kw_requires_import": [key for key in ("conv_op", "norm_op", "nonlin") if key in three_d],
    }
    configuration = {
        "patch_size": [16, 32, 32],
        "spacing": [3.0, 1.5, 1.5],
        "architecture": architecture,
    }
    plans = {
        "dataset_name": "Dataset501_Blobs",
        "plans_name": "nnUNetPlans",
        "configurations": {"3d_fullres": configuration},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(dataset_json))
    path = folder / "nnUNetPlans.json"
    path.write_text(json.dumps(plans))
    return path


def genesis_plans(
    folder: Path, dataset_json: Mapping[str, Any], features: Sequence[int] = TINY
) -> Path:
    network = "nnunet_liver_ext.networks.models_genesis_unet.ModelsGenesisUNet"
    return write_plans(folder, network, {"features_per_stage": list(features)}, dataset_json)


def slice_plans(folder: Path, dataset_json: Mapping[str, Any], **kwargs: Any) -> Path:
    strides = [[1, 1, 1], *[[1, 2, 2]] * 4]
    return write_plans(
        folder,
        "nnunet_liver_ext.networks.slice_unet.SliceUNet",
        {"strides": strides, **kwargs},
        dataset_json,
    )


def unet_plans(folder: Path, dataset_json: Mapping[str, Any], **kwargs: Any) -> Path:
    """nnU-Net's own plain network, tiny."""
    own = {
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    network = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    return write_plans(folder, network, {**own, **kwargs}, dataset_json)
