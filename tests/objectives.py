"""Views, losses and stand-ins to build objectives from in tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn
from torch.nn import functional

from nnunet_liver_ext.trainers.objectives import OBJECTIVES, ObjectiveSetup, View, VoxelLoss

SHAPE = (8, 16, 16)
SPACING_MM = (3.0, 1.5, 1.5)
LEVEL_WEIGHTS = (2 / 3, 1 / 3)
SIMILARITY = [key for key in OBJECTIVES if key.startswith("similarity")]


def balls(batch: int, num_classes: int, offset: int) -> Tensor:
    """Labels (B, 1, ...): a ball of each class side by side."""
    z, y, x = torch.meshgrid(*[torch.arange(n) for n in SHAPE], indexing="ij")
    labels = torch.zeros(batch, 1, *SHAPE, dtype=torch.int16)
    for sample in range(batch):
        for label in range(1, num_classes):
            centre = 4 + 7 * (label - 1) + offset
            inside = (z - 4) ** 2 + (y - 8 + sample) ** 2 + (x - centre) ** 2 < 10
            labels[sample, 0][inside] = label
    return labels


def view(
    name: str,
    *,
    num_classes: int = 2,
    levels: int = 1,
    batch: int = 2,
    offset: int = 0,
    seed: int = 0,
) -> View:
    """A view whose logits are leaves of the graph, half right and half noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = balls(batch, num_classes, offset)
    logits, targets = [], []
    for level in range(levels):
        target = labels[(..., *[slice(None, None, 2**level)] * 3)]
        one_hot = functional.one_hot(target[:, 0].long(), num_classes).movedim(-1, 1).float()
        logits.append((one_hot + torch.randn(one_hot.shape, generator=generator)).requires_grad_())
        targets.append(target)
    image = torch.randn((batch, 1, *SHAPE), generator=generator)
    return View(
        name, image, logits if levels > 1 else logits[0], targets if levels > 1 else targets[0]
    )


def pair_of_views(**more: Any) -> list[View]:
    return [view("T1", seed=1, **more), view("T2", seed=2, offset=2, **more)]


def leaves(of: View) -> list[Tensor]:
    return of.logits if isinstance(of.logits, list) else [of.logits]


def voxel_loss(
    dice: float = 0.0, ce: float = 1.0, *, levels: int = 1, batch_dice: bool = False
) -> VoxelLoss:
    def part(weight_dice: float, weight_ce: float) -> nn.Module:
        settings = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False}
        loss = DC_and_CE_loss(
            settings,
            {},
            weight_ce=weight_ce,
            weight_dice=weight_dice,
            dice_class=MemoryEfficientSoftDiceLoss,
        )
        return loss if levels == 1 else DeepSupervisionWrapper(loss, LEVEL_WEIGHTS)

    parts = {"Dice": (dice, part(1, 0)), "CE": (ce, part(0, 1))}
    return VoxelLoss({name: part for name, part in parts.items() if part[0] > 0})


def build(
    key: str, *, num_classes: int = 2, levels: int = 1, dice: float = 0.0, **numbers: Any
) -> Any:
    kind = OBJECTIVES[key]
    setup = ObjectiveSetup(kind.numbers_type(**numbers), SHAPE, SPACING_MM, num_classes, 1)
    return kind(setup, voxel_loss(dice, levels=levels))


def gradients(of: Tensor, *tensors: Tensor) -> list[Tensor | None]:
    """None where the graph does not reach."""
    return list(torch.autograd.grad(of, tensors, allow_unused=True, retain_graph=True))


def is_reached(gradient: Tensor | None) -> bool:
    return gradient is not None and bool((gradient != 0).any())


class Constant(nn.Module):
    """A companion that answers as a function says."""

    def __init__(self, answer: Callable[..., Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *seen: Tensor) -> Tensor:
        return self.answer(*seen)
