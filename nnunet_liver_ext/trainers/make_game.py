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
    of_images, dilation = None, None
    if trainer.pair is not None:
        of_images = trainer.incomplete.availability(cases, trainer.pair.modalities)
    radius_mm, configuration = trainer.recipe.organ_dilation_mm, trainer.configuration_manager
    if trainer.organ is not None and radius_mm is not None:
        dims = len(configuration.patch_size)
        dilation = dilation_in_voxels(radius_mm, configuration.spacing, dims)
    return Annotations(of_images, trainer.organ is not None, dilation)
