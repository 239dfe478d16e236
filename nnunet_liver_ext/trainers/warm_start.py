"""Starting from a trained segmentor or companion, heads and all.

(nnU-Net's own -pretrained_weights leaves the heads out.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nnunet_liver_ext.checkpoint_files import read_nnunet_checkpoint
from nnunet_liver_ext.environment import is_trusted, nnunet_folder
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.checkpoint import check_version
from nnunet_liver_ext.trainers.companion import check_companion
from nnunet_liver_ext.trainers.objectives import OBJECTIVES, Objective
from nnunet_liver_ext.trainers.recipe import PLANS_KEY, Recipe

IMPORTED = "imported"
"""Key of our entry in files of `nnunet_liver import-weights`: where the weights are from
(`weights.record`)."""


def find_checkpoint(name: str, fold: int | str) -> Path:
    """The file that a recipe names: {fold} filled in, relative to nnUNet_results.

    Raises:
        InputError: there is no such file.
    """
    path = Path(name.replace("{fold}", str(fold))).expanduser()
    if not path.is_absolute():
        path = nnunet_folder("results") / path
    if not path.is_file():
        raise InputError(
            f"{path}: no such checkpoint to start from (a recipe's checkpoint is absolute or in"
            " nnUNet_results)."
        )
    return path


def start_from_checkpoints(
    network: nn.Module, objective: Objective, recipe: Recipe, fold: int | str
) -> list[str]:
    """Loads the trained networks that a recipe names; returns lines for the log."""
    lines = []
    if recipe.segmentor_checkpoint is not None:
        path = find_checkpoint(recipe.segmentor_checkpoint, fold)
        lines += start_segmentor(network, path, recipe, fold)
    if recipe.companion_checkpoint is not None and objective.companion is not None:
        path = find_checkpoint(recipe.companion_checkpoint, fold)
        lines += start_companion(objective, path, recipe, fold)
    return lines


def start_segmentor(network: nn.Module, path: Path, recipe: Recipe, fold: int | str) -> list[str]:
    """Loads all of a segmentor's weights: one of our trainers', or imported ones.

    Returns:
        Lines for the log.

    Raises:
        InputError: the file is of another strategy or its weights do not fit the network.
    """
    checkpoint, extra = _read(path)
    strategy = extra["recipe"]["strategy"]
    if strategy != recipe.strategy:
        raise InputError(
            f"{path}: is a segmentor of strategy {strategy}, this trainer has {recipe.strategy}."
        )
    _load(network, checkpoint["network_weights"], path, "segmentor")
    if IMPORTED in extra:
        return [
            *_about_the_import(extra[IMPORTED], path, recipe),
            *_about_the_fold(checkpoint, path, fold),
        ]
    return [f"Started from the segmentor in {path}.", *_about_the_fold(checkpoint, path, fold)]


def start_companion(objective: Objective, path: Path, recipe: Recipe, fold: int | str) -> list[str]:
    """Loads the weights of an objective's companion; as `start_segmentor`."""
    checkpoint, extra = _read(path)
    if IMPORTED in extra:
        raise InputError(
            f"{path}: holds imported weights of a segmentor and no companion network; name another"
            " checkpoint."
        )
    if extra["recipe"]["objective"] != recipe.objective:
        other = extra["recipe"]["objective"]
        raise InputError(
            f"{path}: its companion network is of objective {other}, this trainer has"
            f" {recipe.objective}."
        )
    check_companion(objective, extra, path)
    _load(objective, extra["objective"], path, "companion network")
    return [
        f"Started from the companion network in {path}.",
        *_about_the_fold(checkpoint, path, fold),
    ]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    checkpoint = read_nnunet_checkpoint(path, trust=is_trusted())
    written_by = checkpoint["trainer_name"]
    if PLANS_KEY not in checkpoint:
        raise InputError(
            f"{path}: was written by {written_by}, which is none of this package's trainers: import"
            " its segmentor with nnunet_liver import-weights nnunet."
        )
    check_version(checkpoint[PLANS_KEY]["version"], path)
    return checkpoint, checkpoint[PLANS_KEY]


def _load(module: nn.Module, weights: dict[str, Tensor], path: Path, what: str) -> None:
    needed = module.state_dict()
    differing = sorted(set(needed) ^ set(weights)) + [
        name for name in needed if name in weights and needed[name].shape != weights[name].shape
    ]
    if differing:
        raise InputError(
            f"{path}: the weights of its {what} do not fit: {len(differing)} of {len(needed)}"
            f" differ in name or shape, first {differing[0]}; it needs the same plans (network,"
            " classes)."
        )
    module.load_state_dict(weights)


def _about_the_import(record: dict[str, Any], path: Path, recipe: Recipe) -> list[str]:
    """Where imported weights are from, under which licence, and a warning without warm-up."""
    weights = record["weights"]
    taken = sum(weight["outcome"] != "initialised" for weight in weights)
    lines = [
        f"Started from {path}: {taken} of {len(weights)} weights are of {record['file']}"
        f" ({record['kind']}, SHA-256 {record['sha256']}), the rest is initialised with seed"
        f" {record['seed']}."
    ]
    if record["licence"] is not None:
        lines.append(f"Licence of these weights: {record['licence']}.")
    if (
        taken < len(weights)
        and OBJECTIVES[recipe.objective].has_companion
        and recipe.warmup_epochs is None
    ):
        lines.append(
            "WARNING: this segmentor is not trained yet, but with a segmentor_checkpoint there is"
            " no warm-up before its companion network; set warmup_epochs in the recipe."
        )
    return lines


def _about_the_fold(checkpoint: dict[str, Any], path: Path, fold: int | str) -> list[str]:
    trained_on = checkpoint["init_args"].get("fold")
    if trained_on == fold or (trained_on is None and IMPORTED in checkpoint[PLANS_KEY]):
        return []
    return [
        f"WARNING: {path} was trained on fold {trained_on}, this is fold {fold}: it may have seen"
        " the validation cases, whose scores are then too good. Write {fold} where the path has"
        " the fold's number."
    ]
