"""What an objective is: the losses of the players, from views only, so that it works for pairs and
for ordinary datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunet_liver_ext.dataset_json.organ_mask import OrganMask
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.trainers.objectives.views import View
from nnunet_liver_ext.trainers.phases import PhaseName
from nnunet_liver_ext.trainers.recipe import Recipe


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


@dataclass(frozen=True)
class Task:
    """What an objective is built for."""

    recipe: Recipe
    patch_size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    num_classes: int
    """K of each view."""
    image_channels: int
    """Channels of a view's image."""


def task_of(
    recipe: Recipe,
    plans: PlansManager,
    configuration: ConfigurationManager,
    dataset_json: dict[str, Any],
) -> Task:
    """The task of a training, and of a trained model from the plans and the dataset.json that were
    saved with it."""
    pair = PairLabels.from_dataset_json(dataset_json)
    channels = determine_num_input_channels(plans, configuration, dataset_json)
    if OrganMask.from_dataset_json(dataset_json) is not None:
        channels -= 1
    return Task(
        recipe,
        tuple(configuration.patch_size),
        tuple(configuration.spacing),
        plans.get_label_manager(dataset_json).num_segmentation_heads
        if pair is None
        else pair.num_classes,
        channels if pair is None else 1,
    )


class Objective(nn.Module):
    """The losses of the segmentor and of its companion network, if it has one."""

    has_companion = False
    companion: nn.Module | None
    warmup_share = 1.0
    """Share of the epochs in which the segmentor is trained alone, unless the recipe says
    otherwise."""
    companion_share = 0.0
    """Share of the epochs in which the companion is trained alone after that."""
    companion_learns_from_annotations = False
    """Whether the companion alone is trained without a look at the segmentor."""

    def __init__(self) -> None:
        super().__init__()
        self.companion = None

    @classmethod
    def check(cls, recipe: Recipe, patch_size: Sequence[int], spacing_mm: Sequence[float]) -> None:
        """InputError if the recipe or the patch does not fit; called before anything is created."""

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
        """Figures of a validation batch, named "group: curve"; thoroughly at the end of the
        companion's own phase."""
        return {}

    def verdict(self, figures: Mapping[str, float]) -> list[str]:
        """What the thorough figures say about the companion, as lines for the log."""
        return []


def mean(terms: Mapping[str, Tensor]) -> Tensor:
    """Mean of named scalars."""
    return torch.stack(list(terms.values())).mean()
