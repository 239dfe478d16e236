"""Whether a trainer can train on a dataset; looked at before anything is created."""

from __future__ import annotations

from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_liver_ext.dataset_json.organ_mask import OrganMask
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.losses.voxel_terms import VOXEL_TERMS
from nnunet_liver_ext.networks.strategies import STRATEGIES, Strategy
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.trainers.objectives import OBJECTIVES
from nnunet_liver_ext.trainers.recipe import Recipe


def check_dataset(
    trainer: str,
    recipe: Recipe,
    plans: dict[str, Any],
    configuration: str,
    dataset_json: dict[str, Any],
) -> PairLabels | None:
    """Whether this trainer can train on this dataset; returns what its pair codes mean.

    Raises:
        InputError: a pair trainer on a dataset without pairs or the reverse, a cascade, regions or
            an ignore label in pairs or for a companion network, a patch that does not fit the
            objective.
    """
    pair = PairLabels.from_dataset_json(dataset_json)
    name = plans.get("dataset_name", "the dataset")
    entry = PlansManager(plans).get_configuration(configuration)
    _check_network(trainer, recipe, plans, configuration)
    _check_organ_mask(trainer, recipe, dataset_json, name)
    _check_layout(trainer, recipe, pair, name)
    _check_losses(trainer, recipe, pair, dataset_json, name)
    if OBJECTIVES[recipe.objective].has_companion and len(entry.spacing) != len(entry.patch_size):
        raise InputError(
            f"{trainer}: its companion network needs the distance of slices, which configuration"
            f" {configuration} leaves as it is in each case; plan with three numbers of --spacing."
        )
    OBJECTIVES[recipe.objective].check(recipe.objective_numbers, entry.patch_size, entry.spacing)
    _check_companion_batch(recipe, entry)
    if pair is not None:
        _check_pairs(trainer, dataset_json, name)
        if entry.previous_stage_name is not None:
            raise InputError(
                f"{trainer}: configuration {configuration} is a cascade, which is not possible with"
                " pairs."
            )
    return pair


def _check_layout(trainer: str, recipe: Recipe, pair: PairLabels | None, name: str) -> None:
    """InputError if a pair trainer got a dataset without pairs, or the reverse."""
    strategy: type[Strategy] = STRATEGIES[recipe.strategy]
    if strategy.is_pair and pair is None:
        raise InputError(
            f"{trainer} needs pairs, but dataset.json of {name} has no `pair` entry: convert it"
            " with nnunet_liver convert (without --preregister), or train with"
            " nnUNetTrainerPreregistered."
        )
    if not strategy.is_pair and pair is not None:
        raise InputError(
            f"{trainer} is for datasets with one mask per case, but {name} holds pairs: convert"
            " them with --preregister."
        )


def _check_losses(
    trainer: str,
    recipe: Recipe,
    pair: PairLabels | None,
    dataset_json: dict[str, Any],
    name: str,
) -> None:
    """InputError if a loss does not know the kind of labels that the dataset has."""
    weighted = (VOXEL_TERMS[key] for key, weight in recipe.voxel_terms.items() if weight > 0)
    without_regions = [term.title for term in weighted if not term.knows_regions]
    if without_regions and _has_regions(dataset_json):
        raise InputError(
            f"{trainer}: its voxel loss {without_regions[0]} does not know the regions that {name}"
            " has."
        )
    has_companion = OBJECTIVES[recipe.objective].has_companion
    if has_companion and pair is None and _has_unusual_labels(dataset_json):
        raise InputError(
            f"{trainer}: its companion network knows neither regions nor the ignore label that"
            f" {name} has."
        )


def _check_companion_batch(recipe: Recipe, entry: ConfigurationManager) -> None:
    """InputError if the companion's larger batch cannot be made of the loader's batches."""
    wanted = recipe.companion_batch_size
    if wanted is not None and recipe.crop_sizes > 0:
        raise InputError(
            "recipe: companion_batch_size joins several batches, which crop_sizes gives different"
            " sizes."
        )
    # plans that weights are imported for may have no batch size
    if wanted is not None and wanted % entry.batch_size:
        raise InputError(
            f"recipe: companion_batch_size ({wanted}) must be a multiple of the batch size"
            f" ({entry.batch_size})."
        )


def _check_pairs(trainer: str, dataset_json: dict[str, Any], name: str) -> None:
    """InputError if the cases of a dataset of pairs are not two images with plain labels."""
    # as nnU-Net reads them
    channels = len(dataset_json.get("channel_names") or dataset_json["modality"])
    if channels != 2:
        raise InputError(f"{trainer} needs a pair of images, but {name} has {channels} channels.")
    if _has_regions(dataset_json):
        raise InputError(
            f"{trainer}: dataset.json of {name} has regions, which are not possible in pairs."
        )


def _has_regions(dataset_json: dict[str, Any]) -> bool:
    return any(isinstance(label, (list, tuple)) for label in dataset_json["labels"].values())


def _has_unusual_labels(dataset_json: dict[str, Any]) -> bool:
    """Whether there are regions or nnU-Net's ignore label."""
    return "ignore" in dataset_json["labels"] or _has_regions(dataset_json)


def _check_network(trainer: str, recipe: Recipe, plans: dict[str, Any], configuration: str) -> None:
    """InputError if the trainer's name promises a network that the plans do not have."""
    network = (
        PlansManager(plans)
        .get_configuration(configuration)
        .network_arch_class_name.rpartition(".")[2]
    )
    if recipe.architecture is not None and network != recipe.architecture:
        raise InputError(
            f"{trainer} trains the network {recipe.architecture}, but configuration {configuration}"
            f" of plans {plans.get('plans_name')} has {network}: plan with nnunet_liver plan"
            f" --architecture {recipe.architecture.lower()}."
        )


def _check_organ_mask(
    trainer: str, recipe: Recipe, dataset_json: dict[str, Any], name: str
) -> None:
    """InputError if an organ mask is missing that is needed, or would be taken for an image."""
    organ = OrganMask.from_dataset_json(dataset_json)
    strips = STRATEGIES[recipe.strategy].strips_organ_mask
    if organ is None:
        asked = [
            key
            for key in ("foreground_share", "organ_dilation_mm")
            if getattr(recipe, key) is not None
        ]
        if strips or asked:
            what = trainer if strips else f"recipe: {asked[0]}"
            raise InputError(
                f"{what} needs an organ mask, but dataset.json of {name} has no `organ_mask` entry:"
                " convert it with a liver mask (nnunet_liver convert ... --task tumour)."
            )
        return
    if not strips:
        raise InputError(
            f"{trainer} would take the {organ.name} mask of {name} for an image: train"
            " nnUNetTrainerLiverTumor on it, or convert without --task tumour."
        )
    if _has_unusual_labels(dataset_json):
        raise InputError(f"{trainer} knows neither regions nor the ignore label that {name} has.")
