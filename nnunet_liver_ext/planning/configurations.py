"""Pure functions plans -> plans: variants that inherit and carry a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from nnunet_liver_ext.errors import InputError

Plans = dict[str, Any]
CONFIGURATION_KEYS = ("batch_size", "patch_size")
"""Numbers of a configuration itself that a variant may change; all others belong to the recipe."""


def add_variant(plans: Plans, name: str, base: str, numbers: Mapping[str, Any]) -> Plans:
    """The plans with one more configuration `name` that inherits from `base` and has other numbers.

    Raises:
        InputError: the name is taken or contains "__", the base is missing, or a patch does not fit
            the network's strides.
    """
    if "__" in name or not name:
        raise InputError(f"{name!r} is no configuration name: nnU-Net splits folder names at '__'.")
    if name in plans["configurations"]:
        raise InputError(
            f"plans {plans['plans_name']} have a configuration {name} already: choose another name."
        )
    check_configuration(plans, base)
    plans = deepcopy(plans)
    plans["configurations"][name] = {"inherits_from": base}
    return set_numbers(plans, name, numbers)


def set_numbers(plans: Plans, configuration: str, numbers: Mapping[str, Any]) -> Plans:
    """The plans with other recipe numbers, `batch_size` or `patch_size` in this configuration."""
    check_configuration(plans, configuration)
    plans = deepcopy(plans)
    entry = plans["configurations"][configuration]
    entry |= {key: value for key, value in numbers.items() if key in CONFIGURATION_KEYS}
    recipe = {key: value for key, value in numbers.items() if key not in CONFIGURATION_KEYS}
    if recipe:
        entry["recipe"] = {**entry.get("recipe", {}), **recipe}
    if "patch_size" in numbers:
        from nnunet_liver_ext.planning.network_of_plans import check_patch  # torch takes seconds

        check_patch(inherited_value(plans, configuration, "architecture"), numbers["patch_size"])
    if "batch_size" in numbers and not (
        isinstance(numbers["batch_size"], int) and numbers["batch_size"] > 0
    ):
        raise InputError(
            f"batch_size must be a whole number above 0, found {numbers['batch_size']!r}."
        )
    return plans


def remove_cascade(plans: Plans) -> Plans:
    """The plans without nnU-Net's cascade, which is not possible with pairs."""
    plans = deepcopy(plans)
    plans["configurations"].pop("3d_cascade_fullres", None)
    for entry in plans["configurations"].values():
        entry.pop("next_stage", None)
    return plans


def inherited_value(plans: Plans, configuration: str, key: str) -> Any:
    """A key of a configuration or of the nearest ancestor that has it."""
    entry = plans["configurations"][configuration]
    while key not in entry:
        entry = plans["configurations"][entry["inherits_from"]]
    return entry[key]


def ancestry(plans: Plans, configuration: str) -> list[str]:
    """The configuration, what it inherits from, and so on; ends where an ancestor is missing."""
    names: list[str] = []
    while configuration in plans["configurations"] and configuration not in names:
        names.append(configuration)
        configuration = plans["configurations"][configuration].get("inherits_from", "")
    return names


def check_configuration(plans: Plans, base: str) -> None:
    """InputError if there is no such configuration."""
    if base not in plans["configurations"]:
        known = ", ".join(plans["configurations"])
        raise InputError(
            f"plans {plans['plans_name']} have no configuration {base}; there are {known}."
        )
