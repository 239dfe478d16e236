"""Pure functions plans -> plans: variants that inherit and carry a recipe, and tiny plans for tests and demos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from nnunet_liver_ext.errors import InputError

Plans = dict[str, Any]
CONFIGURATION_KEYS = ("batch_size", "patch_size")
"""Numbers of a configuration itself that a variant may change; all others belong to the recipe."""

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


@dataclass(frozen=True)
class TinySizes:
    """Numbers of a tiny configuration, axes (z, y, x) or (y, x)."""

    patch: tuple[int, ...]
    """At most."""
    features: tuple[int, ...]
    """By stage, as are strides and kernels."""
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]
    batch_size: int


TINY = {
    "3d_fullres": TinySizes(
        patch=(16, 48, 64),
        features=(4, 8, 16, 16),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2)),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
        batch_size=2,
    ),
    "2d": TinySizes(
        patch=(96, 96),
        features=(8, 16, 32, 32),
        strides=((1, 1), (2, 2), (2, 2), (2, 2)),
        kernels=((3, 3), (3, 3), (3, 3), (3, 3)),
        batch_size=8,
    ),
}
"""By configuration; the first that a dataset has is the one that becomes tiny."""


def with_variant(plans: Plans, name: str, base: str, numbers: Mapping[str, Any]) -> Plans:
    """The plans with one more configuration `name` that inherits from `base` and has other numbers.

    Raises:
        InputError: the name is taken or contains "__", the base is missing, or a patch does not fit the network's strides.
    """
    if "__" in name or not name:
        raise InputError(f"{name!r} is no configuration name: nnU-Net splits folder names at '__'.")
    if name in plans["configurations"]:
        raise InputError(f"plans {plans['plans_name']} have a configuration {name} already: choose another name.")
    _check_base(plans, base)
    plans = deepcopy(plans)
    plans["configurations"][name] = {"inherits_from": base}
    return with_numbers(plans, name, numbers)


def with_numbers(plans: Plans, configuration: str, numbers: Mapping[str, Any]) -> Plans:
    """The plans with other numbers in this configuration: recipe numbers, `batch_size`, `patch_size`."""
    _check_base(plans, configuration)
    plans = deepcopy(plans)
    entry = plans["configurations"][configuration]
    entry |= {key: value for key, value in numbers.items() if key in CONFIGURATION_KEYS}
    recipe = {key: value for key, value in numbers.items() if key not in CONFIGURATION_KEYS}
    if recipe:
        entry["recipe"] = {**entry.get("recipe", {}), **recipe}
    if "patch_size" in numbers:
        _check_patch(plans, configuration)
    if "batch_size" in numbers and not (isinstance(numbers["batch_size"], int) and numbers["batch_size"] > 0):
        raise InputError(f"batch_size must be a whole number above 0, found {numbers['batch_size']!r}.")
    return plans


def tiny(plans: Plans) -> Plans:
    """The plans with only `3d_fullres` (and variants of it), so small that it trains on a CPU in seconds: to try things.

    A dataset of single slices has no `3d_fullres`; its `2d` is kept instead.
    """
    name = next((name for name in TINY if name in plans["configurations"]), "3d_fullres")
    _check_base(plans, name)
    plans = deepcopy(plans)
    entry, sizes = plans["configurations"][name], TINY[name]
    stages = len(sizes.features)
    entry["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": list(sizes.features),
        "strides": [list(stride) for stride in sizes.strides],
        "kernel_sizes": [list(kernel) for kernel in sizes.kernels],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
    }
    patch = _tiny_patch(sizes, entry["median_image_size_in_voxels"])
    entry |= {"patch_size": patch, "batch_size": sizes.batch_size, "recipe": dict(TINY_RECIPE)}
    entry.pop("next_stage", None)
    kept = [other for other in plans["configurations"] if name in _ancestry(plans, other)]
    plans["configurations"] = {other: plans["configurations"][other] for other in kept if other != "3d_cascade_fullres"}
    return plans


def _tiny_patch(sizes: TinySizes, median_size: Sequence[float]) -> list[int]:
    """At most `sizes.patch`, not much larger than the images, and a multiple of the strides."""
    factors = [math.prod(stride[axis] for stride in sizes.strides) for axis in range(len(sizes.patch))]
    return [
        min(largest, math.ceil(size / factor) * factor)
        for largest, size, factor in zip(sizes.patch, median_size, factors, strict=True)
    ]


def without_cascade(plans: Plans) -> Plans:
    """The plans without nnU-Net's cascade, which is not possible with pairs."""
    plans = deepcopy(plans)
    plans["configurations"].pop("3d_cascade_fullres", None)
    for entry in plans["configurations"].values():
        entry.pop("next_stage", None)
    return plans


def inherited(plans: Plans, configuration: str, key: str) -> Any:
    """A key of a configuration or of the nearest ancestor that has it."""
    entry = plans["configurations"][configuration]
    while key not in entry:
        entry = plans["configurations"][entry["inherits_from"]]
    return entry[key]


def _ancestry(plans: Plans, configuration: str) -> list[str]:
    """The configuration, what it inherits from, and so on; ends where an ancestor is missing."""
    names: list[str] = []
    while configuration in plans["configurations"] and configuration not in names:
        names.append(configuration)
        configuration = plans["configurations"][configuration].get("inherits_from", "")
    return names


def _check_base(plans: Plans, base: str) -> None:
    if base not in plans["configurations"]:
        known = ", ".join(plans["configurations"])
        raise InputError(f"plans {plans['plans_name']} have no configuration {base}; there are {known}.")


def _check_patch(plans: Plans, configuration: str) -> None:
    patch = inherited(plans, configuration, "patch_size")
    strides = inherited(plans, configuration, "architecture")["arch_kwargs"]["strides"]
    factors = [1] * len(strides[0])
    for stride in strides:
        factors = [factor * step for factor, step in zip(factors, stride, strict=True)]
    fits = isinstance(patch, list | tuple) and len(patch) == len(factors)
    fits = fits and all(isinstance(n, int) and n > 0 and n % f == 0 for n, f in zip(patch, factors, strict=True))
    if not fits:
        raise InputError(f"patch_size {patch} must be {len(factors)} multiples of the network's strides {factors}.")
