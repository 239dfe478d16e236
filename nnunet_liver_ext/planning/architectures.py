"""The architectures of `nnunet_liver plan --architecture`, an entry each.

`nnunet` and `resenc` are nnU-Net's own, with nnU-Net's planners. Sizes and spacings are (z, y, x).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.planning import patch_rules
from nnunet_liver_ext.planning.anisotropic_topology import anisotropic_topology, doubling_features
from nnunet_liver_ext.planning.architecture_entry import (
    Architecture,
    Arguments,
    Rows,
    TinySizes,
    as_lists,
)

DYNAMIC, OURS = "dynamic_network_architectures.architectures.unet", "nnunet_liver_ext.networks"
CONVOLUTION_2D = "torch.nn.modules.conv.Conv2d"
IMPORTED = ("conv_op", "norm_op", "dropout_op", "nonlin")
"""Arguments whose names in the plans stand for classes."""


def _stages(strides: Rows, features: Sequence[int]) -> Arguments:
    return {
        "n_stages": len(features),
        "strides": as_lists(strides),
        "features_per_stage": list(features),
    }


# nnU-Net's networks

TINY_NNUNET = {
    "3d_fullres": TinySizes(
        patch=(16, 48, 64),
        features=(4, 8, 16, 16),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        convolutions={"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 1},
    ),
    "2d": TinySizes(
        patch=(96, 96),
        features=(8, 16, 32, 32),
        strides=((1, 1), (2, 2), (2, 2), (2, 2)),
        kernels=((3, 3), (3, 3), (3, 3), (3, 3)),
        batch_size=8,
        convolutions={"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 1},
    ),
}
RESIDUAL_BLOCKS = {"n_blocks_per_stage": 1, "n_conv_per_stage_decoder": 1}

NNUNET = Architecture(
    name="nnunet",
    title="",
    network=f"{DYNAMIC}.PlainConvUNet",
    planner="nnunet_liver_ext.planning.nnunet_planners:NNUNetPlanner",
    tiny=lambda configuration, arguments: TINY_NNUNET[configuration],
)
RESENC = Architecture(
    name="resenc",
    title="ResEnc",
    network=f"{DYNAMIC}.ResidualEncoderUNet",
    planner="nnunet_liver_ext.planning.nnunet_planners:ResEncPlanner",
    tiny=lambda configuration, arguments: replace(
        TINY_NNUNET[configuration], convolutions=RESIDUAL_BLOCKS
    ),
)


# AnisotropicUNet (Hänsch et al. 2022): by the spacing, or with padding="valid" to the letter

TINY_ANISOTROPIC = replace(TINY_NNUNET["3d_fullres"], convolutions={})
TINY_UNPADDED = TinySizes(
    patch=(18, 52, 52),
    features=(4, 8, 16),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    kernels=((1, 3, 3), (1, 3, 3), (3, 3, 3)),
    fixed_patch=True,
)


def _anisotropic_arguments(
    spacing_mm: Sequence[float], size: Sequence[float], options: Mapping[str, Any]
) -> Arguments:
    from nnunet_liver_ext.networks.anisotropic_unet import FEATURES, KERNEL_SIZES, STRIDES

    padding = options.get("padding", "same")
    if padding == "valid":
        strides, kernels, features = as_lists(STRIDES), as_lists(KERNEL_SIZES), list(FEATURES)
    else:
        strides, kernels = anisotropic_topology(spacing_mm, size)
        features = doubling_features(len(strides))
    return {
        "padding": padding,
        "dropout_before_convolutions": True,
        **_stages(strides, features),
        "kernel_sizes": kernels,
    }


def _anisotropic_patches(network: Any, *images: Any) -> list[list[int]]:
    unpadded = network.padding == "valid"
    rule = patch_rules.unpadded_tiles if unpadded else patch_rules.isotropic_patches
    return rule(network, *images)


ANISOTROPIC = Architecture(
    name="anisotropic",
    title="Anisotropic",
    network=f"{OURS}.anisotropic_unet.AnisotropicUNet",
    arguments=_anisotropic_arguments,
    patches=_anisotropic_patches,
    tiny=lambda configuration, arguments: (
        TINY_UNPADDED if arguments.get("padding") == "valid" else TINY_ANISOTROPIC
    ),
)


# DI2IN (Yang et al. 2017): whole volumes of 3 mm

TINY_DI2IN = TinySizes(
    patch=(16, 48, 64), features=(4, 8, 16), strides=((1, 1, 1), (2, 2, 2), (2, 2, 2))
)


def _di2in_arguments(*_: Any) -> Arguments:
    from nnunet_liver_ext.networks.di2in import FEATURES, STRIDES

    return _stages(STRIDES, FEATURES)


DI2IN = Architecture(
    name="di2in",
    title="DI2IN",
    network=f"{OURS}.di2in.DI2IN",
    arguments=_di2in_arguments,
    patches=patch_rules.whole_images,
    prefers_one_large_patch=True,
    spacing_mm=(3.0, 3.0, 3.0),
    tiny=lambda configuration, arguments: TINY_DI2IN,
)


# SliceUNet (student report with Antaros Medical): slabs of slices


def _slice_arguments(
    spacing_mm: Sequence[float], size: Sequence[float], options: Mapping[str, Any]
) -> Arguments:
    from nnunet_liver_ext.networks.slice_unet import PLAIN_FEATURES, STRIDES, VGG11_FEATURES

    features = VGG11_FEATURES if options.get("encoder") == "vgg11" else PLAIN_FEATURES
    if len(spacing_mm) == 3:
        return {"neighbours": 0, **_stages(STRIDES, features)}
    strides = [stride[1:] for stride in STRIDES]
    return {"neighbours": 0, "conv_op": CONVOLUTION_2D, **_stages(strides, features)}


def _tiny_slices(configuration: str, arguments: Mapping[str, Any]) -> TinySizes:
    neighbours = arguments.get("neighbours", 0)
    slab, across = ((), ()) if configuration == "2d" else ((4 + 2 * neighbours,), (1,))
    return TinySizes(
        patch=(*slab, 64, 64),
        features=(8, 16, 32),
        strides=((*across, 1, 1), (*across, 2, 2), (*across, 2, 2)),
        others={"encoder": "plain", "neighbours": neighbours},  # VGG11's features are fixed
    )


SLICE = Architecture(
    name="slice",
    title="Slice",
    network=f"{OURS}.slice_unet.SliceUNet",
    arguments=_slice_arguments,
    patches=patch_rules.slabs,
    takes_single_slices=True,
    tiny=_tiny_slices,
)


# ModelsGenesisUNet (Zhou et al. 2019)

TINY_MODELS_GENESIS = TinySizes(
    patch=(16, 48, 64),
    features=(4, 8, 16, 16),
    strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
)


def _models_genesis_arguments(*_: Any) -> Arguments:
    from nnunet_liver_ext.networks.models_genesis_unet import FEATURES, STRIDES

    return {**_stages(STRIDES, FEATURES), "views_share_statistics": False}


MODELS_GENESIS = Architecture(
    name="models-genesis",
    title="ModelsGenesis",
    network=f"{OURS}.models_genesis_unet.ModelsGenesisUNet",
    arguments=_models_genesis_arguments,
    tiny=lambda configuration, arguments: TINY_MODELS_GENESIS,
)


ARCHITECTURES = {
    entry.name: entry for entry in (NNUNET, RESENC, ANISOTROPIC, DI2IN, SLICE, MODELS_GENESIS)
}


def find_architecture(name: str) -> Architecture:
    """The entry of this name; InputError lists the known ones."""
    if name not in ARCHITECTURES:
        raise InputError(
            f"there is no architecture {name!r}: choose from {', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[name]


def plans_entry(
    architecture: Architecture,
    spacing_mm: Sequence[float],
    size: Sequence[float],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """`architecture` of a configuration of the plans.

    Args:
        architecture: one that nnU-Net's planner does not plan.
        spacing_mm: of the images after resampling.
        size: of the median image in voxels.
        options: further arguments of the network, or others.

    Raises:
        InputError: nnU-Net plans this architecture itself.
    """
    if architecture.arguments is None:
        raise InputError(
            f"{architecture.name} is planned by nnU-Net itself, which takes no options."
        )
    arguments = {**architecture.arguments(spacing_mm, size, options), **options}
    return {
        "network_class_name": architecture.network,
        "arch_kwargs": arguments,
        "_kw_requires_import": [name for name in IMPORTED if arguments.get(name) is not None],
    }
