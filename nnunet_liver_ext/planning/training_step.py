"""One training step of any trainer on made-up images of any size: what memory is traced by.

It is the step of the trainers themselves (`trainers.game`) in the phase in which all networks play,
without data, optimizers and devices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import Tensor, nn

from nnunet_liver_ext.networks.strategies import STRATEGIES, Strategy
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.planning.fake_tensor_memory import LiveStorages, mixed_precision
from nnunet_liver_ext.trainers.game import Batch, Game, Step, build_voxel_loss
from nnunet_liver_ext.trainers.objectives import (
    OBJECTIVES,
    Losses,
    Objective,
    ObjectiveSetup,
    VoxelLoss,
)
from nnunet_liver_ext.trainers.phases import BOTH
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
        self.network = training.strategy.build(
            self._build_network, training.num_inputs, training.num_outputs
        )
        self.network.train()
        of_nnunet = nnUNetTrainer._get_deep_supervision_scales(self._nnunet_trainer(True))
        self.scales: list[list[float]] = self.network.supervised_scales or of_nnunet
        setup = ObjectiveSetup(
            training.recipe.objective_numbers,
            sizes.patch_size,
            sizes.spacing_mm,
            training.num_classes,
            1 if training.pair is not None else training.data_channels,
        )
        self.objective: Objective = OBJECTIVES[training.recipe.objective](setup, self._voxel_loss())
        self.objective.train()

    def run(self, live: LiveStorages, mixed: bool) -> int:
        """A step of every player; returns the bytes that the segmentor's keeps."""
        kept: list[int] = []

        def step_segmentor(loss: Tensor) -> None:
            kept.append(live.bytes)
            loss.backward()

        self.play(self.made_up_batch(), self.made_up_batch, step_segmentor, mixed=mixed)
        return kept[0]

    def play(
        self,
        batch: Batch,
        draw: Callable[[], Batch],
        step_segmentor: Step = Tensor.backward,
        *,
        mixed: bool = False,
    ) -> list[Losses]:
        """The players' losses in the phase in which all play, on this and further batches."""
        turns = Turns.from_recipe(self.training.recipe, self.sizes.batch_size)
        game = Game(
            network=self.network,
            objective=self.objective,
            pair=self.training.pair,
            # further steps need no more memory than the second
            turns=replace(
                turns,
                companion_steps=min(turns.companion_steps, 2),
                segmentor_steps=min(turns.segmentor_steps, 2),
            ),
            step_segmentor=step_segmentor,
            step_companion=Tensor.backward,
            autocast=lambda: mixed_precision(mixed),
            device=torch.device("cpu"),
        )
        return game.play(batch, BOTH, draw)

    def made_up_batch(self) -> Batch:
        """A batch of zeros."""
        size, number = self.sizes.patch_size, self.sizes.batch_size
        levels = [
            [round(n * scale) for n, scale in zip(size, scales, strict=True)]
            for scales in self.scales
        ]
        target = [torch.zeros(number, 1, *level, dtype=torch.int16) for level in levels]
        return {
            "data": torch.zeros(number, self.training.data_channels, *size),
            "target": target if self.training.recipe.deep_supervision else target[0],
        }

    def _build_network(self, inputs: int, outputs: int) -> nn.Module:
        architecture = self.sizes.architecture
        return get_network_from_plans(
            architecture["network_class_name"],
            architecture["arch_kwargs"],
            architecture["_kw_requires_import"],
            inputs,
            outputs,
            allow_init=False,
            deep_supervision=self.training.recipe.deep_supervision,
        )

    def _voxel_loss(self) -> VoxelLoss:
        supervised = self.training.recipe.deep_supervision
        weights = self.network.supervision_weights if supervised else None
        return build_voxel_loss(
            self.training.recipe,
            lambda: nnUNetTrainer._build_loss(self._nnunet_trainer(supervised and weights is None)),
            weights,
        )

    def _nnunet_trainer(self, supervised: bool) -> Any:
        """What nnU-Net's own methods ask of a trainer when they build its loss and its scales."""
        strides = self.sizes.architecture["arch_kwargs"]["strides"]
        return SimpleNamespace(
            configuration_manager=SimpleNamespace(
                batch_dice=bool(self.training.recipe.batch_dice), pool_op_kernel_sizes=strides
            ),
            label_manager=SimpleNamespace(has_regions=False, ignore_label=None),
            enable_deep_supervision=supervised,
            is_ddp=False,
            _do_i_compile=lambda: False,
            _get_deep_supervision_scales=lambda: self.scales,
        )
