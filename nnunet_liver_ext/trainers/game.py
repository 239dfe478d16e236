"""One iteration of a training: from a batch to the steps of its players.

The players are the segmentor and, if the objective has one, its companion network. The trainer
plays with data, optimizers and devices; planning plays without content to count memory
(`planning.training_step`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunet_liver_ext.dataset_json.organ_mask import OrganMask
from nnunet_liver_ext.networks.strategies import unwrap
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.trainers.objectives.interface import (
    COMPANION,
    SEGMENTOR,
    Losses,
    Objective,
    ObjectiveSetup,
    PhaseName,
)
from nnunet_liver_ext.trainers.objectives.views import (
    EVERYTHING,
    Annotations,
    View,
    concatenate_views,
    make_views,
)
from nnunet_liver_ext.trainers.objectives.voxelwise import VoxelLoss
from nnunet_liver_ext.trainers.recipe import Recipe
from nnunet_liver_ext.trainers.turns import Turns

Batch = Mapping[str, Any]
"""nnU-Net's batch: `data`, `target` and the `keys` of its cases."""
Step = Callable[[Tensor], None]
"""Takes a player's step from its loss: backward, and the optimizer."""


@dataclass(frozen=True, kw_only=True)
class Game:
    """Who plays, and how a player takes a step."""

    network: nn.Module
    """A strategy, possibly compiled and distributed."""
    objective: Objective
    pair: PairLabels | None
    turns: Turns
    step_segmentor: Step
    step_companion: Step
    autocast: Callable[[], AbstractContextManager[Any]]
    device: torch.device
    find_annotations: Callable[[Sequence[str]], Annotations] = lambda cases: EVERYTHING
    """What of a batch is annotated, from the names of its cases."""

    def play(self, batch: Batch, phase: PhaseName, draw: Callable[[], Batch]) -> list[Losses]:
        """The steps of the players of a phase, the segmentor's last.

        Args:
            batch: the first one of the iteration.
            phase: who learns.
            draw: gives the further batches that the iteration needs.
        """
        turns = self.turns
        if self.objective.companion is None or phase == SEGMENTOR:
            return [self.play_segmentor(self.views(batch), phase)]
        if phase == COMPANION:
            return [self.play_companion(self.companion_views(batch, phase, draw), phase)]
        if turns.on_one_batch(phase):
            views = self.views(batch)
            return [self.play_companion(views, phase), self.play_segmentor(views, phase)]
        played = []
        for step in range(turns.companion_steps + turns.segmentor_steps):
            batch = draw() if step > 0 else batch
            if step < turns.companion_steps:
                seen = self.companion_views(batch, phase, draw)
                played.append(self.play_companion(seen, phase))
                del seen
            else:
                played.append(self.play_segmentor(self.views(batch), phase))
        return played

    def views(self, batch: Batch, *, without_segmentor: bool = False) -> list[View]:
        """What the objective sees of a batch."""
        data, target = self._on_device(batch["data"]), self._on_device(batch["target"])
        with self.autocast(), unwrap(self.network).as_in_training():
            return make_views(
                self.pair,
                data,
                None if without_segmentor else self.network(data),
                target,
                joint=not self.network.training,
                annotations=self.find_annotations(batch.get("keys", ())),
            )

    def companion_views(
        self, batch: Batch, phase: PhaseName, draw: Callable[[], Batch]
    ) -> list[View]:
        """The views of one of the companion's batches, without a graph.

        A companion that is alone and learns from annotations needs no segmentor.
        """
        alone = phase == COMPANION and self.objective.companion_learns_from_annotations
        rest = (draw() for _ in range(self.turns.companion_batches - 1))
        with torch.no_grad():
            return concatenate_views(
                [self.views(part, without_segmentor=alone) for part in (batch, *rest)]
            )

    def play_companion(self, views: Sequence[View], phase: PhaseName) -> Losses:
        """A step of the companion, on views whose graph into the segmentor is cut off first."""
        with self.autocast():
            losses = self.objective.companion_loss([view.detach() for view in views], phase)
        self.step_companion(losses.total)
        return losses

    def play_segmentor(self, views: Sequence[View], phase: PhaseName) -> Losses:
        """A step of the segmentor; the companion gets no gradient."""
        with freeze(self.objective.companion):
            with self.autocast():
                losses = self.objective.segmentor_loss(views, phase)
            self.step_segmentor(losses.total)
        return losses

    def _on_device(self, tensors: Any) -> Any:
        if isinstance(tensors, list):
            return [self._on_device(tensor) for tensor in tensors]
        return tensors.to(self.device, non_blocking=True)


@contextmanager
def freeze(module: nn.Module | None) -> Iterator[None]:
    """No parameter of the module gets a gradient meanwhile; gradients still flow through it."""
    parameters = [] if module is None else list(module.parameters())
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def build_voxel_loss(
    recipe: Recipe,
    build_nnunet_loss: Callable[[], nn.Module],
    level_weights: Sequence[float] | None = None,
) -> VoxelLoss:
    """The voxel loss of a recipe.

    Args:
        recipe: its `voxel_terms`.
        build_nnunet_loss: builds nnU-Net's own loss, with or without deep supervision.
        level_weights: of each output of deep supervision; None: those of nnU-Net's loss.
    """
    if level_weights is None:
        level_weights = getattr(build_nnunet_loss(), "weight_factors", None)

    def build_for_one_level() -> nn.Module:
        loss = build_nnunet_loss()
        return loss.loss if isinstance(loss, DeepSupervisionWrapper) else loss

    return VoxelLoss.from_weights(recipe.voxel_terms, build_for_one_level, level_weights)


def objective_setup(
    recipe: Recipe,
    plans: PlansManager,
    configuration: ConfigurationManager,
    dataset_json: dict[str, Any],
) -> ObjectiveSetup:
    """What an objective is built for, from plans and dataset.json of a training or a model."""
    pair = PairLabels.from_dataset_json(dataset_json)
    channels = determine_num_input_channels(plans, configuration, dataset_json)
    if OrganMask.from_dataset_json(dataset_json) is not None:
        channels -= 1
    labels = plans.get_label_manager(dataset_json)
    return ObjectiveSetup(
        recipe.objective_numbers,
        tuple(configuration.patch_size),
        tuple(configuration.spacing),
        labels.num_segmentation_heads if pair is None else pair.num_classes,
        channels if pair is None else 1,
    )
