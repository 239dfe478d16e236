"""The game of a trainer: its players with their optimizers, on its device and its data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from nnunet_liver_ext.trainers.game import Game
from nnunet_liver_ext.trainers.objectives.views import Annotations, dilation_in_voxels
from nnunet_liver_ext.trainers.players import autocast, optimizer_step

if TYPE_CHECKING:
    from nnunet_liver_ext.trainers.base import LiverTrainer


def make_game(trainer: LiverTrainer) -> Game:
    """The players of an initialised trainer, as they are now."""

    def step_segmentor(loss: Tensor) -> None:
        optimizer_step(
            loss,
            trainer.network.parameters(),
            trainer.optimizer,
            trainer.grad_scaler,
            clip=trainer.recipe.gradient_clip,
        )

    def step_companion(loss: Tensor) -> None:
        if trainer.companion is not None:
            trainer.companion.step(loss)

    return Game(
        network=trainer.network,
        objective=trainer.objective,
        pair=trainer.pair,
        turns=trainer.turns,
        step_segmentor=step_segmentor,
        step_companion=step_companion,
        autocast=lambda: autocast(trainer.device),
        device=trainer.device,
        find_annotations=lambda cases: find_annotations(trainer, cases),
    )


def find_annotations(trainer: LiverTrainer, cases: Sequence[str]) -> Annotations:
    """What of a batch of these cases is annotated."""
    of_images = None
    if trainer.pair is not None:
        of_images = trainer.incomplete.availability(cases, trainer.pair.modalities)
    return Annotations(of_images, trainer.organ is not None, _organ_dilation(trainer))


def describe_organ_dilation(trainer: LiverTrainer) -> str:
    """Where the voxel loss counts, for the log; empty if that is everywhere.

    It warns where the dilation is less than half a voxel along every axis.
    """
    radius_mm, dilation = trainer.recipe.organ_dilation_mm, _organ_dilation(trainer)
    if dilation is None or trainer.organ is None:
        return ""
    where = (
        f"the voxel loss counts within the {trainer.organ.name} mask dilated by {radius_mm:g} mm,"
        f" which is {' x '.join(map(str, dilation))} voxels"
    )
    return f"WARNING: {where}: nothing." if radius_mm and not any(dilation) else f"{where}."


def _organ_dilation(trainer: LiverTrainer) -> tuple[int, ...] | None:
    """Voxels along each axis of a patch; None where the loss counts everywhere."""
    radius_mm, configuration = trainer.recipe.organ_dilation_mm, trainer.configuration_manager
    if trainer.organ is None or radius_mm is None:
        return None
    return dilation_in_voxels(radius_mm, configuration.spacing, len(configuration.patch_size))
