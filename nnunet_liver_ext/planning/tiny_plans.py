"""Pure functions plans -> plans: so small that they train on a CPU in seconds, to try things, in
tests and in the demo."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from nnunet_liver_ext.planning.sizing import SHORTEST_AXIS
from nnunet_liver_ext.planning.variants import Plans, ancestry, check_base

TINY_RECIPE = {
    "num_epochs": 10,
    "num_iterations_per_epoch": 40,
    "num_val_iterations_per_epoch": 4,
    "save_every": 1,
    "optimizer": "adam",
    "initial_lr": 5e-3,
    "mirroring": False,
}
"""What lets a tiny network learn something within 400 iterations."""

Rows = tuple[tuple[int, ...], ...]
FLAT_THEN_ALL: Rows = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))


@dataclass(frozen=True)
class TinySizes:
    """Numbers of a tiny configuration, axes (z, y, x) or (y, x)."""

    patch: tuple[int, ...]
    """At most."""
    features: tuple[int, ...]
    """By stage, as are strides and kernels."""
    strides: Rows
    kernels: Rows | None
    """None: the network has one kind only."""
    batch_size: int
    convolutions: Mapping[str, int] = field(default_factory=dict)
    """Argument of the network -> convolutions or blocks in each stage; one fewer in those of a
    decoder."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the network."""

    def arguments(self) -> dict[str, Any]:
        """Of the network."""
        stages = len(self.features)
        found: dict[str, Any] = {"n_stages": stages, "features_per_stage": list(self.features)}
        found["strides"] = [list(stride) for stride in self.strides]
        if self.kernels is not None:
            found["kernel_sizes"] = [list(kernel) for kernel in self.kernels]
        lists = {
            name: [number] * (stages - name.endswith("decoder"))
            for name, number in self.convolutions.items()
        }
        return {**found, **lists, **self.others}


PLAIN = {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 1}
RESIDUAL = {"n_blocks_per_stage": 1, "n_conv_per_stage_decoder": 1}
TINY = {
    "3d_fullres": TinySizes(
        patch=(16, 48, 64),
        features=(4, 8, 16, 16),
        strides=FLAT_THEN_ALL,
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        batch_size=2,
        convolutions=PLAIN,
    ),
    "2d": TinySizes(
        patch=(96, 96),
        features=(8, 16, 32, 32),
        strides=((1, 1), (2, 2), (2, 2), (2, 2)),
        kernels=((3, 3), (3, 3), (3, 3), (3, 3)),
        batch_size=8,
        convolutions=PLAIN,
    ),
}
"""nnU-Net's network by configuration; the first that a dataset has is the one that becomes tiny."""

TINY_NETWORKS = {
    "AnisotropicUNet": TinySizes(
        patch=(16, 48, 64),
        features=(4, 8, 16, 16),
        strides=FLAT_THEN_ALL,
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        batch_size=2,
    ),
    "DI2IN": TinySizes(
        patch=(16, 48, 64),
        features=(4, 8, 16),
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        kernels=None,
        batch_size=2,
    ),
    "SliceUNet": TinySizes(
        patch=(4, 64, 64),
        features=(8, 16, 32),
        strides=((1, 1, 1), (1, 2, 2), (1, 2, 2)),
        kernels=None,
        batch_size=2,
    ),
    "ModelsGenesisUNet": TinySizes(
        patch=(16, 48, 64),
        features=(4, 8, 16, 16),
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
        kernels=None,
        batch_size=2,
    ),
}
"""By the name of the network's class."""

TINY_UNPADDED = TinySizes(
    patch=(18, 52, 52),
    features=(4, 8, 16),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    kernels=((1, 3, 3), (1, 3, 3), (3, 3, 3)),
    batch_size=2,
)
"""AnisotropicUNet with padding="valid"; the patch has to be as it is."""


def tiny(plans: Plans) -> Plans:
    """The plans with only `3d_fullres` (and variants of it), tiny. The protocol, if there is one,
    stays.

    A dataset of single slices has no `3d_fullres`; its `2d` is kept instead.
    """
    name = next((name for name in TINY if name in plans["configurations"]), "3d_fullres")
    check_base(plans, name)
    plans = deepcopy(plans)
    entry = plans["configurations"][name]
    sizes = _sizes(name, entry["architecture"])
    entry["architecture"]["arch_kwargs"] |= sizes.arguments()
    patch = (
        list(sizes.patch)
        if sizes is TINY_UNPADDED
        else _tiny_patch(sizes, entry["median_image_size_in_voxels"])
    )
    entry |= {"patch_size": patch, "batch_size": sizes.batch_size, "recipe": dict(TINY_RECIPE)}
    entry.pop("next_stage", None)
    kept = [other for other in plans["configurations"] if name in ancestry(plans, other)]
    plans["configurations"] = {
        other: plans["configurations"][other] for other in kept if other != "3d_cascade_fullres"
    }
    return plans


def _sizes(name: str, architecture: Mapping[str, Any]) -> TinySizes:
    network = architecture.get("network_class_name", "").rpartition(".")[2]
    arguments = architecture["arch_kwargs"]
    if arguments.get("padding") == "valid":
        return TINY_UNPADDED
    sizes = TINY_NETWORKS.get(network, TINY[name])
    if "n_blocks_per_stage" in arguments:
        return _changed(sizes, convolutions=RESIDUAL)
    if network == "SliceUNet":
        neighbours = arguments.get("neighbours", 0)
        others = {"encoder": "plain", "neighbours": neighbours}  # the features of VGG11 are fixed
        return _changed(
            sizes, patch=(sizes.patch[0] + 2 * neighbours, *sizes.patch[1:]), others=others
        )
    return sizes


def _changed(sizes: TinySizes, **fields: Any) -> TinySizes:
    return TinySizes(**{**vars(sizes), **fields})


def _tiny_patch(sizes: TinySizes, median_size: Sequence[float]) -> list[int]:
    """At most `sizes.patch`, not much larger than the images, and a multiple of the strides."""
    factors = [
        math.prod(stride[axis] for stride in sizes.strides) for axis in range(len(sizes.patch))
    ]
    return [
        min(largest, math.ceil(max(size, SHORTEST_AXIS) / factor) * factor)
        for largest, size, factor in zip(sizes.patch, median_size, factors, strict=True)
    ]
