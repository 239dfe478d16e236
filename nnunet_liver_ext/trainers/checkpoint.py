"""What our trainers keep in a checkpoint, and whether a checkpoint fits a trainer.

nnU-Net writes and reads its own part. Ours is one more entry of the same file, so that stock tools
still read it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nnunet_liver_ext import __version__
from nnunet_liver_ext.checkpoint_files import read_nnunet_checkpoint
from nnunet_liver_ext.environment import is_trusted
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.phases import IN_WORDS, SEGMENTOR, Phase, find_phase
from nnunet_liver_ext.trainers.recipe import NOT_A_NUMBER, PLANS_KEY, Recipe

if TYPE_CHECKING:
    from nnunet_liver_ext.trainers.base import LiverTrainer

UNFINISHED = ".unfinished_"


def save_with_extra(path: Path, save: Callable[[str], None], extra: dict[str, Any]) -> None:
    """Lets `save` write nnU-Net's checkpoint and adds our entry; never half a file at `path`.

    What a save that was killed has left beside it is removed.
    """
    for left in path.parent.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=UNFINISHED) as folder:
        written = Path(folder) / path.name
        save(str(written))
        if not written.exists():  # nnU-Net's --disable_checkpointing, and ranks other than 0
            return
        checkpoint = read_nnunet_checkpoint(written, trust=True)  # `save` has just written it
        complete = Path(folder) / f"complete_{path.name}"
        torch.save({**checkpoint, PLANS_KEY: extra}, complete)
        del checkpoint
        written.unlink()
        complete.replace(path)


def describe_state(trainer: LiverTrainer) -> dict[str, Any]:
    """Our entry of a trainer's checkpoint."""
    companion = trainer.companion
    return {
        "version": __version__,
        "recipe": trainer.recipe.to_json(),
        "seed": trainer.seed,
        "history": trainer.history,
        "phase": trainer.phase.name,
        "objective": trainer.objective.state_dict(),
        "kept_best": trainer.kept_best,
        "companion": None if companion is None else companion.state_dict(),
    }


def restore_state(trainer: LiverTrainer, extra: Mapping[str, Any]) -> None:
    """Gives a trainer the state that `describe_state` described; a seed of the recipe stays."""
    trainer.objective.load_state_dict(extra["objective"])
    if trainer.companion is not None:
        trainer.companion.load_state_dict(extra["companion"])
    trainer.history = extra["history"]
    if trainer.recipe.seed is None:
        trainer.seed = extra["seed"]
    trainer.kept_best = extra.get("kept_best", False)


def read_extra(
    path: Path, trainer_name: str, recipe: Recipe, *, companion: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Our entry of a checkpoint, after checking that this trainer can continue from it.

    Args:
        path: the checkpoint.
        trainer_name: class name of the trainer that wants to continue.
        recipe: its recipe.
        companion: whether it needs the state of a companion network.

    Returns:
        The entry with the number of `epochs` that are behind it, and a line for each number of the
        recipe that differs now.

    Raises:
        InputError: there is no such file, it is damaged or holds more than weights and numbers,
            another trainer or a later version of the package wrote it, or it lacks the companion
            network.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint.")
    checkpoint = read_nnunet_checkpoint(path, trust=is_trusted())
    written_by = checkpoint["trainer_name"]
    if written_by != trainer_name or PLANS_KEY not in checkpoint:
        raise InputError(
            f"{path}: was written by {written_by} and cannot be continued by {trainer_name}."
        )
    extra = {**checkpoint[PLANS_KEY], "epochs": checkpoint["current_epoch"]}
    check_version(extra["version"], path)
    before, now = extra["recipe"], recipe.to_json()
    for name in NOT_A_NUMBER:
        if before.get(name) != now[name]:
            raise InputError(
                f"{path}: was trained with {name} {before.get(name)}, {trainer_name} has"
                f" {now[name]}."
            )
    if companion and extra.get("companion") is None:
        raise InputError(
            f"{path}: holds no companion network, so {trainer_name} cannot continue from it; name"
            " it as segmentor_checkpoint in the recipe to start from its segmentor."
        )
    before = Recipe.from_json(before).to_json()
    changed = [
        f"{name} was {before[name]}, is now {now[name]}"
        for name in now
        if name in before and before[name] != now[name]
    ]
    return extra, changed


def check_phase(path: Path, extra: Mapping[str, Any], phases: Sequence[Phase]) -> None:
    """InputError if other numbers have moved the phases away from where the checkpoint is."""
    trained = extra["epochs"]
    before, now = extra.get("phase", SEGMENTOR), find_phase(phases, trained - 1).name
    if before != now:
        raise InputError(
            f"{path}: its last epoch ({trained - 1}) trained {IN_WORDS[before]}, with these"
            f" numbers it would have trained {IN_WORDS[now]}: set warmup_epochs and"
            " companion_epochs to what they were."
        )


def check_not_kept_best(path: Path, extra: Mapping[str, Any], num_epochs: int) -> None:
    """InputError if the checkpoint is the best state of a training that is to be longer now."""
    if extra.get("kept_best", False) and extra["epochs"] < num_epochs:
        raise InputError(
            f"{path}: is the best state of a finished training, not its last one, so it cannot"
            " be trained on; train anew, or start from it with segmentor_checkpoint."
        )


def check_version(version: str, source: Path | str) -> None:
    """InputError if a later (minor or major) version of the package wrote `source`."""
    if _release(version) > _release(__version__):
        raise InputError(
            f"{source}: was written by nnunet_liver_ext {version}, this is {__version__}: "
            "install that version or a later one."
        )


def _release(version: str) -> tuple[int, ...]:
    """(major, minor) of a version such as "1.2.3" or "1.2rc1"."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
