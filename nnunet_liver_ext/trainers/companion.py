"""The second player: an objective's companion with its optimizer, schedule and gradient scaler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.objectives import Objective
from nnunet_liver_ext.trainers.phases import SEGMENTOR, Phase, PhaseSchedule
from nnunet_liver_ext.trainers.players import broadcast, make_optimizer, optimizer_step
from nnunet_liver_ext.trainers.recipe import Recipe

if TYPE_CHECKING:
    from nnunet_liver_ext.trainers.base import LiverTrainer


class Companion:
    """Trains an objective's companion. On several ranks all begin with the weights of rank 0."""

    def __init__(
        self,
        objective: Objective,
        network: nn.Module,
        recipe: Recipe,
        phases: Sequence[Phase],
        *,
        device: torch.device,
        mixed_precision: bool,
        distributed: bool,
        compiled: bool,
    ) -> None:
        self.objective, self.network = objective, network
        self.clip, self.distributed = recipe.gradient_clip, distributed
        if compiled and objective.companion_compiles:
            network.compile()
        if distributed:
            broadcast(network)
        self.optimizer = make_optimizer(
            recipe.companion_optimizer,
            network.parameters(),
            lr=recipe.companion_lr,
            momentum=recipe.companion_momentum,
            weight_decay=recipe.companion_weight_decay,
        )
        self.schedule = PhaseSchedule(
            self.optimizer,
            phases,
            recipe.companion_lr,
            recipe.joint_companion_lr,
            recipe.lr_exponent,
        )
        self.scaler = torch.GradScaler(device.type) if mixed_precision else None

    @classmethod
    def from_trainer(cls, trainer: LiverTrainer, network: nn.Module) -> Companion:
        """The companion of a trainer whose objective has been built."""
        return cls(
            trainer.objective,
            network,
            trainer.recipe,
            trainer.phases,
            device=trainer.device,
            mixed_precision=trainer.grad_scaler is not None,
            distributed=trainer.is_ddp,
            compiled=trainer._do_i_compile(),
        )

    def begin_epoch(self, epoch: int, phase: Phase) -> list[str]:
        """Sets the learning rate of an epoch; returns lines for the log."""
        self.schedule.step(epoch)
        lines = [f"Phase: {phase}"]
        if phase.name != SEGMENTOR:
            lines.append(f"Learning rate of the companion network: {self.learning_rate:.3g}")
        return lines

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def step(self, loss: Tensor) -> None:
        """One `optimizer_step` on the companion's loss."""
        optimizer_step(
            loss,
            self.network.parameters(),
            self.optimizer,
            self.scaler,
            clip=self.clip,
            average=self.distributed,
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the objective's weights, and how the network is built."""
        scaler = None if self.scaler is None else self.scaler.state_dict()
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler,
            "described": self.objective.describe(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])


def check_companion(objective: Objective, extra: Mapping[str, Any], path: Path) -> None:
    """InputError if the companion in our entry of a checkpoint is built otherwise.

    Weights alone do not tell: those of another control grid would load, too.
    """
    before, now = (extra.get("companion") or {}).get("described"), objective.describe()
    if before is not None and before != now:
        raise InputError(
            f"{path}: its companion network is another one: {before}; this trainer's is: {now}."
        )
