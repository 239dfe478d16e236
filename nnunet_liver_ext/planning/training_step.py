"""One training step of any trainer on made-up images of any size: what memory is traced by.

It is the step of `trainers.base.LiverTrainer` in the phase in which all networks play, from the
same strategies, objectives and losses, without data, optimizers and devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunet_liver_ext.networks.strategies import STRATEGIES, Strategy
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.planning.traced_step import LiveStorages, mixed_precision
from nnunet_liver_ext.trainers.objectives import (
    OBJECTIVES,
    Objective,
    Task,
    View,
    VoxelLoss,
    make_views,
)
from nnunet_liver_ext.trainers.phases import BOTH
from nnunet_liver_ext.trainers.players import frozen
from nnunet_liver_ext.trainers.recipe import Recipe
from nnunet_liver_ext.trainers.turns import Turns


@dataclass(frozen=True)
class Training:
    """What of a trainer and its dataset takes memory."""

    recipe: Recipe
    pair: PairLabels | None
    num_inputs: int
    """nnU-Net's channels, an organ mask included."""
    num_outputs: int
    """nnU-Net's labels or regions."""

    @property
    def strategy(self) -> type[Strategy]:
        return STRATEGIES[self.recipe.strategy]

    @property
    def data_channels(self) -> int:
        """Of a batch; the organ mask is among the labels by then."""
        return self.num_inputs - self.strategy.strips_organ_mask

    @property
    def num_classes(self) -> int:
        return self.num_outputs if self.pair is None else self.pair.num_classes


@dataclass(frozen=True)
class Sizes:
    """What of a configuration takes memory; sizes (z, y, x) or (y, x)."""

    architecture: Mapping[str, Any]
    """As in plans: network_class_name, arch_kwargs, _kw_requires_import."""
    patch_size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    batch_size: int


class TrainingStep:
    """One training step as the trainer takes it."""

    def __init__(self, training: Training, sizes: Sizes) -> None:
        self.training, self.sizes = training, sizes
        recipe = training.recipe

        def build(inputs: int, outputs: int) -> nn.Module:
            of_plans = [
                sizes.architecture[key]
                for key in ("network_class_name", "arch_kwargs", "_kw_requires_import")
            ]
            supervised = recipe.deep_supervision
            return get_network_from_plans(
                *of_plans, inputs, outputs, allow_init=False, deep_supervision=supervised
            )

        self.network = training.strategy.build(build, training.num_inputs, training.num_outputs)
        self.network.train()
        self.scales = self._scales()
        image_channels = 1 if training.pair is not None else training.data_channels
        task = Task(
            recipe, sizes.patch_size, sizes.spacing_mm, training.num_classes, image_channels
        )
        self.objective: Objective = OBJECTIVES[recipe.objective](
            task, VoxelLoss.of(recipe, self._nnunet_loss)
        )
        self.objective.train()

    def run(self, live: LiveStorages, mixed: bool) -> int:
        """The step of the companion, if there is one, and that of the segmentor; what the latter
        keeps."""
        companion, turns = (
            self.objective.companion,
            Turns.of(self.training.recipe, self.sizes.batch_size),
        )
        on_one_batch = turns.on_one_batch(BOTH)
        if companion is not None and not on_one_batch:
            with torch.no_grad():
                views = self._forward(turns.companion_batches, mixed)
            self._companion_step(views, mixed)
            del views
        views = self._forward(1, mixed)
        if companion is not None and on_one_batch:
            self._companion_step(views, mixed)
        with frozen(companion):
            with mixed_precision(mixed):
                losses = self.objective.segmentor_loss(views, BOTH)
            kept = live.bytes
            losses.total.backward()
        return kept

    def _forward(self, batches: int, mixed: bool) -> list[View]:
        size, number = self.sizes.patch_size, batches * self.sizes.batch_size
        data = torch.zeros(number, self.training.data_channels, *size)
        sizes = [
            [round(n * scale) for n, scale in zip(size, scales, strict=True)]
            for scales in self.scales
        ]
        target = [torch.zeros(number, 1, *level, dtype=torch.int16) for level in sizes]
        with mixed_precision(mixed):
            output = self.network(data)
            supervised = self.training.recipe.deep_supervision
            return make_views(
                self.training.pair, data, output, target if supervised else target[0], joint=False
            )

    def _companion_step(self, views: Sequence[View], mixed: bool) -> None:
        with mixed_precision(mixed):
            losses = self.objective.companion_loss([view.detached() for view in views], BOTH)
        losses.total.backward()

    def _scales(self) -> list[list[float]]:
        """Resolution of each output; nnU-Net's own networks halve it by their strides and leave out
        the coarsest stage."""
        own = self.network.supervised_scales
        if own is not None:
            return own
        strides = self.sizes.architecture["arch_kwargs"]["strides"]
        scales, total = [], [1.0] * len(self.sizes.patch_size)
        for stride in strides[:-1]:
            total = [scale / step for scale, step in zip(total, stride, strict=True)]
            scales.append(total)
        return scales

    def _nnunet_loss(self, dice: float, ce: float) -> nn.Module:
        settings = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
        loss = DC_and_CE_loss(
            settings, {}, weight_ce=ce, weight_dice=dice, dice_class=MemoryEfficientSoftDiceLoss
        )
        if not self.training.recipe.deep_supervision:
            return loss
        number = len(self.scales)
        weights = self.network.supervision_weights or [
            *[1.0] * (number - 1),
            float(number == 1),
        ]  # nnU-Net's last is 0
        return DeepSupervisionWrapper(loss, weights)
