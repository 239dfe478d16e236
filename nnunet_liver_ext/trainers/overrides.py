"""How plans and protocols override the numbers of a recipe.

The configuration in the plans may carry `"recipe": {...}` with other numbers, its ancestors along
`inherits_from` too (nnU-Net merges configurations shallowly, so the nested recipes are merged here,
oldest ancestor first), and `"protocol": NAME` with its edition (`protocols`): class < protocol <
plans. Strategy, objective and a promised network are what a trainer's name says and cannot be
overridden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.objectives import OBJECTIVES
from nnunet_liver_ext.trainers.protocols import find_protocol
from nnunet_liver_ext.trainers.recipe import (
    Recipe,
    foreign_owners,
    number_names,
    objective_number_names,
    sort_numbers,
)


def override(recipe: Recipe, numbers: Mapping[str, Any], where: str) -> Recipe:
    """The recipe with other numbers, by their flat names.

    Raises:
        InputError: an unknown number (the message lists the known ones), one of another objective
            (it names that objective), a wrong type or a value outside its range.
    """
    if not isinstance(numbers, Mapping):
        raise InputError(
            f'{where}: recipe must be numbers by name, such as {{"num_epochs": 500}}, found'
            f" {numbers!r}."
        )
    _check_owners(recipe, numbers, where)
    try:
        fields = sort_numbers(numbers, recipe.objective, recipe.voxel_terms)
        options = {**recipe.objective_options, **fields.pop("objective_options")}
        return replace(recipe, objective_options=options, **fields)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _check_owners(recipe: Recipe, numbers: Mapping[str, Any], where: str) -> None:
    for name, owners in foreign_owners(numbers, recipe.objective).items():
        known = objective_number_names(recipe.objective)
        raise InputError(
            f"{where}: {name} is a number of objective {' and '.join(owners)}; this trainer's"
            f" objective {recipe.objective} has"
            f" {', '.join(known) if known else 'no numbers of its own'}."
        )


def override_known(recipe: Recipe, numbers: Mapping[str, Any], where: str) -> Recipe:
    """`override` for plans that trainers share: other objectives' numbers are only checked.

    Raises:
        InputError: a number that no objective has, a wrong type or a value outside its range.
    """
    if not isinstance(numbers, Mapping):
        return override(recipe, numbers, where)
    unknown = sorted(set(numbers) - set(number_names(OBJECTIVES)))
    if unknown:
        known = ", ".join(sorted(number_names(OBJECTIVES)))
        raise InputError(f"{where}: unknown recipe keys {unknown}; known are {known}.")
    foreign = foreign_owners(numbers, recipe.objective)
    for name, owners in foreign.items():
        for owner in owners:
            other = replace(recipe, objective=owner, objective_options={})
            override(other, {name: numbers[name]}, where)
    known_here = {name: value for name, value in numbers.items() if name not in foreign}
    return override(recipe, known_here, where)


def resolve(
    recipe: Recipe,
    plans: Mapping[str, Any],
    configuration: str,
    *,
    override: Callable[[Recipe, Mapping[str, Any], str], Recipe] = override,
) -> Recipe:
    """A trainer's recipe with the numbers of the protocol, the configuration and its ancestors.

    Args:
        recipe: the trainer's own.
        plans: content of a plans file.
        configuration: name of a configuration in it.
        override: `override`, or `override_known` where no trainer has been chosen yet.

    Raises:
        InputError: as `override`, an unknown protocol, or a missing or circular `inherits_from`.
    """
    ancestry = _ancestry(plans, configuration)
    with_protocol = (entry for _, entry in ancestry if entry.get("protocol") is not None)
    if (entry := next(with_protocol, None)) is not None:
        protocol = find_protocol(entry["protocol"])
        numbers = protocol.numbers_of(entry.get("protocol_edition", 1))
        recipe = override(recipe, numbers, f"protocol {protocol.name}")
    for name, entry in reversed(ancestry):
        recipe = override(
            recipe,
            entry.get("recipe", {}),
            f"plans {plans.get('plans_name')}, configuration {name}",
        )
    return recipe


def _ancestry(plans: Mapping[str, Any], configuration: str) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, entry) of the configuration, its parent, its parent's parent, ..."""
    if configuration not in plans["configurations"]:
        known = ", ".join(plans["configurations"])
        raise InputError(
            f"plans {plans.get('plans_name')} have no configuration {configuration}; there are"
            f" {known}."
        )
    entries: list[tuple[str, Mapping[str, Any]]] = []
    name: str | None = configuration
    while name is not None:
        if name not in plans["configurations"] or name in dict(entries):
            raise InputError(
                f"plans {plans.get('plans_name')}: configuration {configuration} inherits from"
                f" {name}, which is"
                f" {'missing' if name not in plans['configurations'] else 'circular'}."
            )
        entries.append((name, plans["configurations"][name]))
        name = entries[-1][1].get("inherits_from")
    return entries
