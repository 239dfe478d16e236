"""The registor of a trained model: it finds how image 1 is to be moved onto image 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_liver_ext.checkpoint_files import read_nnunet_checkpoint
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.networks.registor import Registor
from nnunet_liver_ext.trainers.game import objective_setup
from nnunet_liver_ext.trainers.objectives import OBJECTIVES, VoxelLoss
from nnunet_liver_ext.trainers.recipe import PLANS_KEY, Recipe

COMPANION = "companion."
"""Prefix of the companion's weights in an objective's state."""


def load_registor(
    folder: Path, fold: str, checkpoint: str, device: torch.device, *, trust: bool = False
) -> Registor:
    """The registor of one fold of a model, with its trained weights.

    Args:
        folder: of the model, with plans.json and dataset.json.
        fold: "0", "1", ... or "all".
        checkpoint: file name in the fold's folder.
        device: where the registor is to run.
        trust: the model's author may run what he wrote.

    Raises:
        InputError: the model has no registor, or its checkpoint cannot be read safely.
    """
    content = read_nnunet_checkpoint(folder / f"fold_{fold}" / checkpoint, trust=trust)
    registor = _build_companion(folder, content) if PLANS_KEY in content else None
    if not isinstance(registor, Registor):
        raise InputError(
            f"{folder}: a model of {content['trainer_name']} has no registor, so it knows no"
            " deformation; only those of the nnUNetTrainerSimilarity trainers do."
        )
    weights = {
        name.removeprefix(COMPANION): value
        for name, value in content[PLANS_KEY]["objective"].items()
        if name.startswith(COMPANION)
    }
    registor.load_state_dict(weights)
    return registor.to(device).eval()


def _build_companion(folder: Path, content: dict[str, Any]) -> nn.Module | None:
    """The untrained companion, from the plans, the dataset.json and the recipe in a checkpoint."""
    plans = PlansManager(read_json(folder / "plans.json"))
    configuration = plans.get_configuration(content["init_args"]["configuration"])
    dataset_json = read_json(folder / "dataset.json")
    recipe = Recipe.from_json(content[PLANS_KEY]["recipe"])
    setup = objective_setup(recipe, plans, configuration, dataset_json)
    return OBJECTIVES[recipe.objective](setup, VoxelLoss({})).companion
