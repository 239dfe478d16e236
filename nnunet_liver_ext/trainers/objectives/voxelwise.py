"""Voxel-wise losses: nnU-Net's Dice and cross-entropy, each by its name (Couteaux et al. 2021,
section 3.3, losses 1-3).

For K = 2 classes the cross-entropy of the softmax is the binary cross-entropy of the foreground's
probability.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from nnunet_liver_ext.trainers.objectives.interface import Losses, Objective, Task, mean
from nnunet_liver_ext.trainers.objectives.views import View, finest_level
from nnunet_liver_ext.trainers.phases import PhaseName
from nnunet_liver_ext.trainers.recipe import Recipe


class VoxelLoss(nn.Module):
    """Weighted sum of nnU-Net's losses, with deep supervision where the network has it."""

    def __init__(self, parts: Mapping[str, tuple[float, nn.Module]]) -> None:
        """
        Args:
            parts: weight and loss of (logits, target) by name.
        """
        super().__init__()
        self.weights = {name: weight for name, (weight, _) in parts.items()}
        self.parts = nn.ModuleDict({name: loss for name, (_, loss) in parts.items()})

    @classmethod
    def of(cls, recipe: Recipe, loss_of: Callable[[float, float], nn.Module]) -> VoxelLoss:
        """Dice and cross-entropy with the recipe's weights, those above 0.

        Args:
            recipe: `dice_weight`, `ce_weight`.
            loss_of: weights of Dice and cross-entropy -> nnU-Net's loss of them.
        """
        parts = {"Dice": (recipe.dice_weight, 1.0, 0.0), "CE": (recipe.ce_weight, 0.0, 1.0)}
        return cls(
            {
                name: (weight, loss_of(dice, ce))
                for name, (weight, dice, ce) in parts.items()
                if weight > 0
            }
        )

    def forward(self, view: View) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a view, and its unweighted terms."""
        like = finest_level(
            view.logits
        )  # nnU-Net's cross-entropy of a patch that is ignored altogether is no tensor
        terms = {
            name: torch.as_tensor(loss(view.logits, view.target), device=like.device)
            for name, loss in self.parts.items()
        }
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return total, {f"{name} {view.name}": term for name, term in terms.items()}


class Voxelwise(Objective):
    """The voxel loss, the mean over the views. Every other objective begins with it."""

    def __init__(self, task: Task, voxel_loss: VoxelLoss) -> None:
        super().__init__()
        self.task = task
        self.voxel_loss = voxel_loss

    def segmentor_loss(self, views: Sequence[View], phase: PhaseName) -> Losses:
        return self.voxelwise(views)

    def voxelwise(self, views: Sequence[View]) -> Losses:
        totals: dict[str, Tensor] = {}
        terms: dict[str, Tensor] = {}
        for view in views:
            totals[view.name], of_view = self.voxel_loss(view)
            terms |= of_view
        return Losses(mean(totals), terms)
