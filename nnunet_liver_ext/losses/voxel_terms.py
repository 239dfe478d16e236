"""Voxel losses by name: what a segmentor can be trained on voxel by voxel.

`VOXEL_TERMS` is their only list. A recipe gives each a weight, the number NAME_weight: that of Dice
is "dice_weight". A loss of your own is a function of logits and labels:

    @voxel_term("Tversky")
    def tversky_loss(logits: Tensor, labels: Tensor) -> Tensor: ...

It sees one resolution of one image; deep supervision is the trainer's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

NOT_COUNTED = -1
"""Label of voxels that no loss and no score counts."""

VoxelFunction = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, K, ...), labels (B, 1, ...) with NOT_COUNTED where nothing is known) -> scalar."""
BuildLoss = Callable[[], Any]
"""Builds nnU-Net's own loss for the dataset: `weight_dice`, `weight_ce`, `ignore_label`."""


@dataclass(frozen=True)
class VoxelTerm:
    """An entry of `VOXEL_TERMS`."""

    title: str
    """Its name in the log."""
    build: Callable[[BuildLoss], nn.Module]
    """Builds the module of (logits, target), with nnU-Net's loss where it needs that."""
    knows_regions: bool
    """Whether it can be trained on nnU-Net's regions, which may overlap."""


VOXEL_TERMS: dict[str, VoxelTerm] = {}
"""Every term by its name in a recipe; terms are added up in this order."""


def voxel_term(title: str) -> Callable[[VoxelFunction], VoxelFunction]:
    """Enters a function into `VOXEL_TERMS`; its name there is the title in lower case."""

    def enter(function: VoxelFunction) -> VoxelFunction:
        def build(build_nnunet_loss: BuildLoss) -> nn.Module:
            return _PlainTerm(function, getattr(build_nnunet_loss(), "ignore_label", None))

        VOXEL_TERMS[title.lower()] = VoxelTerm(title, build, knows_regions=False)
        return function

    return enter


class _PlainTerm(nn.Module):
    """A function of logits and labels; nnU-Net's ignore label becomes NOT_COUNTED."""

    def __init__(self, function: VoxelFunction, ignore_label: int | None) -> None:
        super().__init__()
        self.function, self.ignore_label = function, ignore_label

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.ignore_label is not None:
            labels = labels.masked_fill(labels == self.ignore_label, NOT_COUNTED)
        return self.function(logits, labels)


def _part_of_nnunets_loss(title: str, *, dice: float, ce: float) -> VoxelTerm:
    def build(build_nnunet_loss: BuildLoss) -> nn.Module:
        loss = build_nnunet_loss()
        loss.weight_dice, loss.weight_ce = dice, ce
        weighted: nn.Module = loss
        return weighted

    return VoxelTerm(title, build, knows_regions=True)


VOXEL_TERMS["dice"] = _part_of_nnunets_loss("Dice", dice=1.0, ce=0.0)
VOXEL_TERMS["ce"] = _part_of_nnunets_loss("CE", dice=0.0, ce=1.0)
