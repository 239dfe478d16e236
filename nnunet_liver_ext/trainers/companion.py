"""The second player: an objective's companion network with an optimizer, a schedule and a gradient
scaler of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.objectives import Losses, Objective, View
from nnunet_liver_ext.trainers.phases import Phase, PhaseSchedule
from nnunet_liver_ext.trainers.players import autocast, broadcast, make_optimizer, optimizer_step
from nnunet_liver_ext.trainers.recipe import Recipe


class Companion:
    """Trains the companion network of an objective. On several ranks all begin with the weights of
    rank 0."""

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
        self.objective, self.network, self.device = objective, network, device
        self.clip, self.distributed = recipe.gradient_clip, distributed
        if compiled and recipe.gradient_penalty == 0 and not recipe.spectral_norm:
            # compiled code has no second derivative, and spectral norm updates its vectors within
            # the forward pass
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

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def step(self, views: Sequence[View], phase: Phase) -> Losses:
        """One `optimizer_step` on views whose graph into the segmentor is cut off first."""
        with autocast(self.device):
            losses = self.objective.companion_loss([view.detached() for view in views], phase.name)
        parameters = self.network.parameters()
        optimizer_step(
            losses.total,
            parameters,
            self.optimizer,
            self.scaler,
            clip=self.clip,
            average=self.distributed,
        )
        return losses

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
