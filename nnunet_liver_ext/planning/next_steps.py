"""What to run after planning: the stock commands, with a trainer that fits the plans."""

from __future__ import annotations

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.planning.configuration_memory import KEY
from nnunet_liver_ext.planning.configurations import Plans, ancestry, inherited_value
from nnunet_liver_ext.trainers.overrides import resolve
from nnunet_liver_ext.trainers.protocols import PROTOCOLS
from nnunet_liver_ext.trainers.recipe import Recipe

ANY_TRAINER = "TRAINER"


def next_commands(dataset: str, plans: Plans, configuration: str) -> list[str]:
    """nnUNetv2_preprocess and nnUNetv2_train for a configuration of these plans."""
    if configuration not in plans["configurations"]:  # a dataset of single slices has 2d only
        configuration = next(iter(plans["configurations"]))
    name, preprocessed = plans["plans_name"], ancestry(plans, configuration)[-1]
    return [
        f"nnUNetv2_preprocess -d {dataset} -plans_name {name} -c {preprocessed}",
        (
            f"nnUNetv2_train {dataset} {configuration} 0 -p {name} -tr"
            f" {suggest_trainer(plans, configuration)}"
        ),
    ]


def suggest_trainer(plans: Plans, configuration: str) -> str:
    """The trainer that the plans fit best.

    It has the strategy that memory was planned for, and takes the numbers of the configuration.
    First come trainers of the objective that memory was planned for, then the protocol's own, then
    those that change fewest numbers.
    """
    from nnunet_liver_ext import trainers

    try:
        memory = inherited_value(plans, configuration, KEY)
    except KeyError:  # plans by nnU-Net itself, or of an earlier version
        return ANY_TRAINER
    class_name = inherited_value(plans, configuration, "architecture")["network_class_name"]
    plain = Recipe(strategy=memory["strategy"], objective=memory["objective"])
    recipes = {name: getattr(trainers, name).recipe for name in trainers.__all__}
    fitting = {
        name: recipe
        for name, recipe in recipes.items()
        if recipe.strategy == plain.strategy
        and recipe.architecture in (None, class_name.rpartition(".")[2])
        and _takes_numbers(recipe, plans, configuration)
    }
    of_protocol = _protocol_trainers(plans, configuration)
    wanted = f"nnUNetTrainer{plain.strategy.title().replace('_', '')}"

    def distance(name: str) -> tuple[bool, bool, int, bool, str]:
        recipe = fitting[name]
        return (
            recipe.objective != plain.objective,
            name not in of_protocol,
            _count_differences(recipe, plain),
            name != wanted,
            name,
        )

    return min(fitting, key=distance, default=ANY_TRAINER)


def _takes_numbers(recipe: Recipe, plans: Plans, configuration: str) -> bool:
    """Whether a trainer with this recipe would not refuse the configuration's numbers."""
    try:
        resolve(recipe, plans, configuration)
    except InputError:
        return False
    return True


def _protocol_trainers(plans: Plans, configuration: str) -> tuple[str, ...]:
    try:
        return PROTOCOLS[inherited_value(plans, configuration, "protocol")].trainers
    except KeyError:
        return ()


def _count_differences(recipe: Recipe, plain: Recipe) -> int:
    numbers = plain.to_json()
    return sum(value != numbers.get(key) for key, value in recipe.to_json().items())
