"""What the segmentor is trained on. An objective sees views only, so it works for pairs and for ordinary datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnunet_liver_ext.networks.strategies import Levels


@dataclass(frozen=True)
class View:
    """One image with its own mask, as a batch. B batch, K classes, ... spatial axes."""

    name: str
    """The modality ("T1"), or "image" in an ordinary dataset."""
    image: Tensor
    """(B, 1, ...); all channels (B, C, ...) in an ordinary dataset."""
    logits: Levels
    """(B, K, ...), with deep supervision a list from fine to coarse."""
    target: Levels
    """Labels (B, 1, ...), or a list of them."""


@dataclass(frozen=True)
class Losses:
    """What one player is trained on, and what is written to the log."""

    total: Tensor
    """Scalar; its gradient trains the player."""
    terms: dict[str, Tensor]
    """Named scalars, unweighted."""


class Objective(nn.Module):
    """The segmentor's loss; companions (discriminator, gambler, registor) are its sub-modules."""

    def segmentor_loss(self, views: Sequence[View]) -> Losses:
        """The loss that trains the segmentor."""
        raise NotImplementedError


class DiceCrossEntropy(Objective):
    """nnU-Net's own Dice plus cross-entropy loss, the mean over the views."""

    def __init__(self, loss: Callable[[Levels, Levels], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def segmentor_loss(self, views: Sequence[View]) -> Losses:
        terms = {f"Dice+CE {view.name}": self.loss(view.logits, view.target) for view in views}
        return Losses(torch.stack(list(terms.values())).mean(), terms)


OBJECTIVES: dict[str, type[Objective]] = {"dice_ce": DiceCrossEntropy}
