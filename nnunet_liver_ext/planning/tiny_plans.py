"""Plans so small that they train on a CPU in seconds: to try things, in tests and in the demo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy

from nnunet_liver_ext.planning.architecture_entry import Architecture, TinySizes
from nnunet_liver_ext.planning.configurations import Plans, ancestry, check_configuration
from nnunet_liver_ext.planning.patch_search import SHORTEST_AXIS

CONFIGURATIONS = ("3d_fullres", "2d")
"""The first that a dataset has becomes tiny."""
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


def make_tiny(plans: Plans, architecture: Architecture) -> Plans:
    """The plans with only `3d_fullres` (and variants of it), tiny; the protocol stays.

    A dataset of single slices has no `3d_fullres`; its `2d` is kept instead.

    Raises:
        InputError: the plans have neither of the two.
    """
    name = next((name for name in CONFIGURATIONS if name in plans["configurations"]), "3d_fullres")
    check_configuration(plans, name)
    plans = deepcopy(plans)
    entry = plans["configurations"][name]
    arguments = entry["architecture"]["arch_kwargs"]
    sizes = architecture.tiny(name, arguments)
    arguments |= sizes.arguments()
    entry |= {
        "patch_size": _tiny_patch(sizes, entry["median_image_size_in_voxels"]),
        "batch_size": sizes.batch_size,
        "recipe": dict(TINY_RECIPE),
    }
    entry.pop("next_stage", None)
    kept = [other for other in plans["configurations"] if name in ancestry(plans, other)]
    plans["configurations"] = {
        other: plans["configurations"][other] for other in kept if other != "3d_cascade_fullres"
    }
    return plans


def _tiny_patch(sizes: TinySizes, median_size: Sequence[float]) -> list[int]:
    """At most `sizes.patch`, not much larger than the images, and a multiple of the strides."""
    if sizes.fixed_patch:
        return list(sizes.patch)
    factors = [math.prod(axis) for axis in zip(*sizes.strides, strict=True)]
    return [
        min(largest, math.ceil(max(size, SHORTEST_AXIS) / factor) * factor)
        for largest, size, factor in zip(sizes.patch, median_size, factors, strict=True)
    ]
