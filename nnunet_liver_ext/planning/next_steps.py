"""What to run after planning: the stock commands, with a trainer that the memory was planned
for."""

from __future__ import annotations

from nnunet_liver_ext.planning.configuration_memory import KEY
from nnunet_liver_ext.planning.configurations import Plans, ancestry, inherited_value
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
    """The trainer with this strategy and objective that changes fewest numbers, the protocol's own
    first."""
    from nnunet_liver_ext import trainers

    try:
        memory = inherited_value(plans, configuration, KEY)
    except KeyError:  # plans by nnU-Net itself, or of an earlier version
        return ANY_TRAINER
    network = inherited_value(plans, configuration, "architecture")[
        "network_class_name"
    ].rpartition(".")[2]
    plain = Recipe(strategy=memory["strategy"], objective=memory["objective"])
    recipes = {name: getattr(trainers, name).recipe for name in trainers.__all__}
    fitting = {
        name: recipe
        for name, recipe in recipes.items()
        if (recipe.strategy, recipe.objective) == (plain.strategy, plain.objective)
        and recipe.architecture in (None, network)
    }
    preferred = _protocol_trainers(plans, configuration)
    wanted = f"nnUNetTrainer{plain.strategy.title().replace('_', '')}"

    def distance(name: str) -> tuple[bool, int, bool, str]:
        return name not in preferred, _count_differences(fitting[name], plain), name != wanted, name

    return min(fitting, key=distance, default=ANY_TRAINER)


def _protocol_trainers(plans: Plans, configuration: str) -> tuple[str, ...]:
    try:
        return PROTOCOLS[inherited_value(plans, configuration, "protocol")].trainers
    except KeyError:
        return ()


def _count_differences(recipe: Recipe, plain: Recipe) -> int:
    numbers = plain.to_json()
    return sum(value != numbers[key] for key, value in recipe.to_json().items())
