"""Memory of the configurations of a plans file: computed from the plans, and kept in them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.planning.configurations import Plans, inherited_value
from nnunet_liver_ext.planning.memory import Memory, estimate_memory
from nnunet_liver_ext.planning.plan_request import PlanRequest
from nnunet_liver_ext.planning.training_step import Sizes, Training
from nnunet_liver_ext.trainers.overrides import override, override_known, resolve
from nnunet_liver_ext.trainers.recipe import Recipe

KEY = "memory"
"""The key of a configuration under which its estimate is kept."""


def describe_training(dataset_json: Mapping[str, Any], recipe: Recipe) -> Training:
    """What of a dataset and a recipe takes memory."""
    labels = LabelManager(dict(dataset_json["labels"]), dataset_json.get("regions_class_order"))
    channels = (
        dataset_json.get("channel_names") or dataset_json["modality"]
    )  # as nnU-Net reads them
    return Training(
        recipe,
        PairLabels.from_dataset_json(dataset_json),
        len(channels),
        labels.num_segmentation_heads,
    )


def requested_recipe(request: PlanRequest) -> Recipe:
    """The recipe that a plan is made for: the protocol's numbers, and those asked for."""
    recipe = Recipe(strategy=request.strategy, objective=request.objective)
    if request.protocol is not None:
        recipe = override(recipe, request.protocol.numbers, f"protocol {request.protocol.name}")
    return override_known(recipe, request.numbers, "--set")


def configuration_sizes(plans: Plans, configuration: str) -> Sizes:
    """What of a configuration takes memory.

    Where slices keep their distance, the median distance counts.
    """
    patch, spacing = (
        tuple(inherited_value(plans, configuration, key)) for key in ("patch_size", "spacing")
    )
    if len(spacing) < len(patch):
        spacing = (plans["original_median_spacing_after_transp"][0], *spacing)
    batch = inherited_value(plans, configuration, "batch_size")
    return Sizes(inherited_value(plans, configuration, "architecture"), patch, spacing, batch)


def estimate_configuration(
    plans: Plans, configuration: str, dataset_json: Mapping[str, Any], strategy: str, objective: str
) -> Memory:
    """The memory of training this configuration.

    Raises:
        InputError: the network, the strategy or the objective does not fit.
    """
    recipe = Recipe(strategy=strategy, objective=objective)
    recipe = resolve(recipe, plans, configuration, override=override_known)
    return estimate_memory(
        describe_training(dataset_json, recipe), configuration_sizes(plans, configuration)
    )


def add_memory(plans: Plans, dataset_json: Mapping[str, Any], request: PlanRequest) -> Plans:
    """The plans with an estimate in every configuration that has a network of its own."""
    plans = deepcopy(plans)
    for name, entry in plans["configurations"].items():
        if "architecture" in entry:
            memory = estimate_configuration(
                plans, name, dataset_json, request.strategy, request.objective
            )
            made_for = {
                "strategy": request.strategy,
                "objective": request.objective,
                "target_gb": request.gpu_memory_gb,
            }
            entry[KEY] = {**memory.to_json(), **made_for, "counted": _sizes_to_json(plans, name)}
    return plans


def current_memory(
    plans: Plans, configuration: str, dataset_json: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The estimate in the plans, made anew for a variant with another patch or batch.

    None where the plans have none.
    """
    try:
        kept = inherited_value(plans, configuration, KEY)
    except KeyError:  # plans by nnU-Net itself, or of an earlier version
        return None
    if kept["counted"] == _sizes_to_json(plans, configuration):
        return kept
    return {
        **kept,
        **estimate_configuration(
            plans, configuration, dataset_json, kept["strategy"], kept["objective"]
        ).to_json(),
    }


def _sizes_to_json(plans: Plans, configuration: str) -> dict[str, Any]:
    """What an estimate was made for."""
    sizes = configuration_sizes(plans, configuration)
    return {"patch_size": list(sizes.patch_size), "batch_size": sizes.batch_size}
