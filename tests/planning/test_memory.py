"""What a training needs: against nnU-Net's own reference, and against real steps on small
images."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_liver_ext.planning.architectures import ARCHITECTURES, plans_entry
from nnunet_liver_ext.planning.configuration_memory import describe_training
from nnunet_liver_ext.planning.fake_tensor_memory import LiveStorages
from nnunet_liver_ext.planning.memory import estimate_memory, trace_step
from nnunet_liver_ext.planning.training_step import Sizes, Training, TrainingStep
from nnunet_liver_ext.trainers.recipe import Recipe
from tests.planning.made_up_datasets import IMAGES, PAIRS, TUMOURS


def nnunets(dims: int, *, residual: bool = False) -> dict[str, Any]:
    """nnU-Net's network for patches of 128³ or 512²."""
    features = [32, 64, 128, 256, 320, 320] if dims == 3 else [32, 64, 128, 256, 512, 512, 512, 512]
    stages = len(features)
    convolutions = (
        {
            "n_blocks_per_stage": [1, 3, 4, 6, 6, 6, 6, 6][:stages],
            "n_conv_per_stage_decoder": [1] * (stages - 1),
        }
        if residual
        else {"n_conv_per_stage": [2] * stages, "n_conv_per_stage_decoder": [2] * (stages - 1)}
    )
    kwargs = {
        "n_stages": stages,
        "features_per_stage": features,
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": [[3] * dims] * stages,
        "strides": [[1] * dims] + [[2] * dims] * (stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
        **convolutions,
    }
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": kwargs,
        "_kw_requires_import": ["conv_op", "norm_op", "nonlin"],
    }


def numbers_in_feature_maps(architecture: dict[str, Any], patch: tuple[int, ...]) -> float:
    of_plans = [
        architecture[key] for key in ("network_class_name", "arch_kwargs", "_kw_requires_import")
    ]
    with torch.device("meta"):
        return get_network_from_plans(
            *of_plans, 1, 3, allow_init=False
        ).compute_conv_feature_map_size(patch)


ORDINARY = Training(Recipe(strategy="one_view"), None, 1, 3)


@pytest.mark.parametrize(
    ("dims", "patch", "batch", "reference"),
    [(3, (128, 128, 160), 2, 560e6), (2, (512, 512), 12, 85e6)],
)
def test_nnunets_reference_is_eight_gigabytes(
    dims: int, patch: tuple[int, ...], batch: int, reference: float
):
    """`ExperimentPlanner`: 560e6 numbers in the feature maps of a sample, two in a batch, 85e6 and
    twelve in 2D."""
    architecture = nnunets(dims)
    memory = estimate_memory(ORDINARY, Sizes(architecture, patch, (1.0,) * dims, batch))
    scaled = memory.activations_gb * reference / numbers_in_feature_maps(architecture, patch)
    at_reference = memory.total_gb - memory.activations_gb + scaled
    assert at_reference == pytest.approx(8.0, rel=0.01 if dims == 3 else 0.12)
    assert at_reference <= 8.0


def test_nnunets_residual_encoder_takes_what_its_planner_says():
    """`nnUNetPlannerResEncM`: "Target is ~9-11 GB VRAM max"."""
    memory = estimate_memory(
        ORDINARY, Sizes(nnunets(3, residual=True), (128, 128, 128), (1.0, 1.0, 1.0), 2)
    )
    assert 9.0 <= memory.total_gb <= 11.0


def tiny_sizes(name: str, options: dict[str, Any] | None = None) -> Sizes:
    """A small configuration of one of our networks."""
    tiny = ARCHITECTURES[name].tiny("3d_fullres", options or {})
    entry = plans_entry(
        ARCHITECTURES[name], (3.0, 1.5, 1.5), (16, 64, 64), {**(options or {}), **tiny.arguments()}
    )
    patch = tuple(
        min(n, most)
        for n, most in zip(tiny.patch, (18, 52, 52) if options else (16, 32, 32), strict=True)
    )
    return Sizes(entry, patch, (3.0, 1.5, 1.5), 2)


def of_pairs(strategy: str, objective: str, **numbers: Any) -> Training:
    return describe_training(PAIRS, Recipe(strategy=strategy, objective=objective, **numbers))


STEPS = [
    ("anisotropic", None, of_pairs("single_input_specialized", "gan")),
    ("anisotropic", {"padding": "valid"}, of_pairs("single_input", "gambling")),
    ("di2in", None, of_pairs("single_input", "gan", companion_steps=3, companion_batch_size=4)),
    ("slice", None, of_pairs("dual_output", "dice_ce", optimizer="adam")),
    ("models-genesis", None, of_pairs("dual_output_specialized", "similarity_elastic")),
    ("anisotropic", None, describe_training(IMAGES, Recipe(strategy="one_view"))),
    ("slice", None, describe_training(TUMOURS, Recipe(strategy="image_alone"))),
]


@pytest.mark.parametrize(("name", "options", "training"), STEPS)
def test_the_traced_step_needs_what_the_real_one_needs(
    name: str, options: dict[str, Any] | None, training: Training
):
    sizes = tiny_sizes(name, options)
    traced = trace_step(training, sizes, mixed=False)
    step = TrainingStep(training, sizes)
    with LiveStorages() as live:
        kept = step.run(live, mixed=False)
    assert live.peak == pytest.approx(traced.peak, rel=0.02)
    assert kept == pytest.approx(traced.kept, rel=0.02)


@pytest.mark.parametrize("name", ["anisotropic", "slice"])
def test_what_is_kept_is_what_autograd_saves(name: str):
    """torch.autograd.graph.saved_tensors_hooks, each storage once; beside it are the batch and the
    outputs."""
    training, sizes = of_pairs("single_input", "dice_ce"), tiny_sizes(name)
    step, saved, known = TrainingStep(training, sizes), [0], {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known and not isinstance(tensor, torch.nn.Parameter):
            known[storage._cdata] = weakref.ref(storage)
            saved[0] += storage.nbytes()
        return tensor

    with (
        LiveStorages() as live,
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        kept = step.run(live, mixed=False)
    assert 0.85 * kept <= saved[0] <= 1.02 * kept


def test_half_precision_halves_what_is_kept():
    training, sizes = of_pairs("single_input", "dice_ce"), tiny_sizes("anisotropic")
    single, half = trace_step(training, sizes, mixed=False), trace_step(training, sizes)
    assert 0.45 < half.kept / single.kept < 0.7


def test_both_images_of_a_pair_are_a_batch_of_twice_as_many():
    sizes = tiny_sizes("anisotropic")
    pairs = trace_step(of_pairs("single_input", "dice_ce"), sizes)
    ordinary = trace_step(
        describe_training(IMAGES, Recipe(strategy="one_view")), replace(sizes, batch_size=4)
    )
    assert pairs.peak == pytest.approx(ordinary.peak, rel=0.03)
    assert pairs.segmentor_parameters == ordinary.segmentor_parameters


def test_two_networks_are_counted():
    sizes = tiny_sizes("anisotropic")
    one, two = (
        of_pairs(strategy, "dice_ce") for strategy in ("single_input", "single_input_specialized")
    )
    assert (
        trace_step(two, sizes).segmentor_parameters
        == 2 * trace_step(one, sizes).segmentor_parameters
    )


@pytest.mark.parametrize("objective", ["gan", "embedding", "gambling"])
def test_companions_are_counted(objective: str):
    sizes = tiny_sizes("anisotropic")
    alone, with_companion = (
        trace_step(of_pairs("single_input", key), sizes) for key in ("dice_ce", objective)
    )
    assert with_companion.companion_parameters > 1000
    assert alone.companion_parameters == 0
    assert with_companion.peak > alone.peak


@pytest.mark.parametrize(
    ("numbers", "bytes_per_weight"),
    [
        ({}, 8),
        ({"optimizer": "adam"}, 12),
        ({"momentum": 0.0}, 4),
        ({"optimizer": "adamw", "momentum": 0.0}, 12),
    ],
)
def test_weights_and_optimizers(numbers: dict[str, Any], bytes_per_weight: int):
    training, sizes = of_pairs("single_input", "dice_ce", **numbers), tiny_sizes("models-genesis")
    weights = trace_step(training, sizes).segmentor_parameters
    assert estimate_memory(training, sizes).weights_gb == pytest.approx(
        weights * bytes_per_weight / 1e9
    )


def test_an_organ_mask_is_no_input():
    sizes = tiny_sizes("slice")
    with_mask = trace_step(describe_training(TUMOURS, Recipe(strategy="image_alone")), sizes)
    without = trace_step(describe_training(IMAGES, Recipe(strategy="one_view")), sizes)
    assert with_mask == without


def test_more_patches_need_more():
    training, sizes = of_pairs("single_input", "dice_ce"), tiny_sizes("di2in")
    totals = [
        estimate_memory(training, replace(sizes, batch_size=batch)).activations_gb
        for batch in (2, 3, 4)
    ]
    assert totals[2] - totals[1] == pytest.approx(totals[1] - totals[0], rel=0.02)
    assert totals[1] > 1.4 * totals[0]
