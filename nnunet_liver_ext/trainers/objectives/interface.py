"""What an objective is: the losses of the players, from views only.

So an objective works for pairs and for ordinary datasets. It declares its own numbers and sees
nothing else of a recipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from nnunet_liver_ext.trainers.objectives.views import View
from nnunet_liver_ext.trainers.ranges import check_fields

PhaseName = Literal["segmentor", "companion", "both"]
"""Who learns."""
SEGMENTOR: PhaseName = "segmentor"
COMPANION: PhaseName = "companion"
BOTH: PhaseName = "both"


@dataclass(frozen=True)
class Losses:
    """What one player is trained on, and what is written to the log."""

    total: Tensor
    """Scalar; its gradient trains the player."""
    terms: dict[str, Tensor]
    """Named scalars, unweighted."""
    figures: dict[str, Tensor] = field(default_factory=dict)
    """Scalars that tell how the game stands, named "group: curve"; nan where a batch has nothing to
    say."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveNumbers:
    """The numbers of an objective, each with its range; objectives with numbers have a sub-class.

    Their names are flat keys of a recipe: beside the common numbers, and only for this objective.
    """

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class ObjectiveSetup:
    """What an objective is built for."""

    numbers: Any
    """An instance of the objective's `numbers_type`."""
    patch_size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    num_classes: int
    """K of each view."""
    image_channels: int
    """Channels of a view's image."""


class Objective(nn.Module):
    """The losses of the segmentor and of its companion network, if it has one."""

    numbers_type: ClassVar[type[ObjectiveNumbers]] = ObjectiveNumbers
    """The numbers that a recipe may give it."""
    has_companion = False
    companion: nn.Module | None
    warmup_share = 1.0
    """Share of the epochs in which the segmentor is trained alone, if the recipe does not say."""
    companion_share = 0.0
    """Share of the epochs in which the companion is trained alone after that."""
    companion_learns_from_annotations = False
    """Whether the companion alone is trained without a look at the segmentor."""

    def __init__(self) -> None:
        super().__init__()
        self.companion = None

    @classmethod
    def check(cls, numbers: Any, patch_size: Sequence[int], spacing_mm: Sequence[float]) -> None:
        """InputError if the numbers or the patch do not fit; called before anything is created."""

    @property
    def companion_compiles(self) -> bool:
        """Whether torch.compile may compile the companion."""
        return True

    def describe(self) -> str:
        """The companion network in one line for the log."""
        return type(self.companion).__name__

    def segmentor_loss(self, views: Sequence[View], phase: PhaseName) -> Losses:
        """The loss that trains the segmentor."""
        raise NotImplementedError

    def companion_loss(self, views: Sequence[View], phase: PhaseName) -> Losses:
        """The loss that trains the companion, from views without a graph."""
        raise NotImplementedError

    def examine(self, views: Sequence[View], *, thoroughly: bool) -> dict[str, Tensor]:
        """Figures of a validation batch, named "group: curve".

        They are thorough at the end of the companion's own phase.
        """
        return {}

    def verdict(self, figures: Mapping[str, float]) -> list[str]:
        """What the thorough figures say about the companion, as lines for the log."""
        return []


def mean(terms: Mapping[str, Tensor]) -> Tensor:
    """Mean of named scalars."""
    return torch.stack(list(terms.values())).mean()
