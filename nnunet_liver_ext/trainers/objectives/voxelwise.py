"""The voxel loss: a weighted sum of terms by name (Couteaux et al. 2021, section 3.3, losses 1-3).

For K = 2 classes the cross-entropy of the softmax is the binary cross-entropy of the foreground's
probability.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from torch import Tensor, nn

from nnunet_liver_ext.losses.voxel_terms import VOXEL_TERMS, BuildLoss
from nnunet_liver_ext.networks.strategies import Levels
from nnunet_liver_ext.trainers.objectives.interface import (
    Losses,
    Objective,
    ObjectiveSetup,
    PhaseName,
    mean,
)
from nnunet_liver_ext.trainers.objectives.views import View, finest_level


class VoxelLoss(nn.Module):
    """Weighted sum of voxel terms, with deep supervision where the network has it."""

    def __init__(self, parts: Mapping[str, tuple[float, nn.Module]]) -> None:
        """Takes its parts.

        Args:
            parts: weight and loss of (logits, target) by name.
        """
        super().__init__()
        self.weights = {name: weight for name, (weight, _) in parts.items()}
        self.parts = nn.ModuleDict({name: loss for name, (_, loss) in parts.items()})

    @classmethod
    def from_weights(
        cls,
        weights: Mapping[str, float],
        build_nnunet_loss: BuildLoss,
        level_weights: Sequence[float] | None,
    ) -> VoxelLoss:
        """The terms of `losses.voxel_terms` with a weight above 0.

        Args:
            weights: of each term by its name.
            build_nnunet_loss: builds nnU-Net's own loss for one resolution.
            level_weights: of each output of deep supervision; None: there is one output.
        """
        parts = {}
        for name, term in VOXEL_TERMS.items():
            if weights.get(name, 0) > 0:
                loss = term.build(build_nnunet_loss)
                if level_weights is not None:
                    loss = DeepSupervisionWrapper(loss, level_weights)
                parts[term.title] = weights[name], loss
        return cls(parts)

    def forward(self, logits: Levels, target: Levels) -> Tensor:
        """The loss, as nnU-Net calls its own: logits (B, K, ...) and labels, or lists of levels."""
        return self._total(self._terms(logits, target))

    def loss_of_view(self, view: View) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a view, and its unweighted terms by name and view."""
        terms = self._terms(view.logits, view.target)
        return self._total(terms), {f"{name} {view.name}": term for name, term in terms.items()}

    def _terms(self, logits: Levels, target: Levels) -> dict[str, Tensor]:
        # nnU-Net's cross-entropy of a patch that is ignored altogether is no tensor
        device = finest_level(logits).device
        return {
            name: torch.as_tensor(loss(logits, target), device=device)
            for name, loss in self.parts.items()
        }

    def _total(self, terms: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()


AnObjective = TypeVar("AnObjective", bound=type["Voxelwise"])
OBJECTIVES: dict[str, type[Voxelwise]] = {}
"""Every objective by its key in a recipe."""


def objective(key: str) -> Callable[[AnObjective], AnObjective]:
    """Enters a class into `OBJECTIVES`."""

    def enter(kind: AnObjective) -> AnObjective:
        OBJECTIVES[key] = kind
        return kind

    return enter


@objective("dice_ce")
class Voxelwise(Objective):
    """The voxel loss, the mean over the views. Every other objective begins with it."""

    def __init__(self, setup: ObjectiveSetup, voxel_loss: VoxelLoss) -> None:
        super().__init__()
        self.setup, self.numbers = setup, setup.numbers
        self.voxel_loss = voxel_loss

    def segmentor_loss(self, views: Sequence[View], phase: PhaseName) -> Losses:
        return self.voxelwise(views)

    def voxelwise(self, views: Sequence[View]) -> Losses:
        totals: dict[str, Tensor] = {}
        terms: dict[str, Tensor] = {}
        for view in views:
            totals[view.name], of_view = self.voxel_loss.loss_of_view(view)
            terms |= of_view
        return Losses(mean(totals), terms)
