"""A step of a player: backward, the mean over ranks, clipping, the optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist

from nnunet_liver_ext.errors import NonFiniteLoss
from nnunet_liver_ext.trainers.objectives import Losses
from nnunet_liver_ext.trainers.scores import mean_of_figures


def make_optimizer(
    kind: Literal["sgd", "adam", "adamw"],
    parameters: Iterable[Tensor],
    *,
    lr: float,
    momentum: float | None,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or an Adam whose first beta is `momentum`.

    None is 0.99 for SGD and 0.9 for the Adams.
    """
    if momentum is None:
        momentum = 0.99 if kind == "sgd" else 0.9
    if kind == "sgd":
        return torch.optim.SGD(
            parameters, lr, momentum=momentum, nesterov=momentum > 0, weight_decay=weight_decay
        )
    adam = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
    return adam(parameters, lr, betas=(momentum, 0.999), weight_decay=weight_decay)


def autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Mixed precision on CUDA only, as in nnU-Net."""
    return torch.autocast("cuda") if device.type == "cuda" else nullcontext()


def optimizer_step(
    loss: Tensor,
    parameters: Iterable[Tensor],
    optimizer: torch.optim.Optimizer,
    scaler: torch.GradScaler | None,
    *,
    clip: float,
    average: bool = False,
) -> None:
    """One step of a player's optimizer.

    Args:
        loss: scalar.
        parameters: of the player.
        optimizer: of the player.
        scaler: of the player alone: an overflow of one player must not shrink the steps of the
            other.
        clip: largest norm of the gradient.
        average: take the mean of the gradients over all ranks (for networks that DDP does not
            wrap). It comes before the scaler looks for overflows, so all ranks skip a step or none.

    Raises:
        FloatingPointError: the loss is finite, its gradient is not, and there is no scaler that
            would have made it smaller.
    """
    parameters = list(parameters)
    optimizer.zero_grad(set_to_none=True)
    (loss if scaler is None else scaler.scale(loss)).backward()
    if average:
        average_gradients(parameters)
    if scaler is None:
        norm = nn.utils.clip_grad_norm_(parameters, clip)
        if torch.isfinite(norm):
            optimizer.step()
        elif torch.isfinite(loss):  # of other losses the log names the term
            raise FloatingPointError("the gradient of a finite loss")
        return
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(parameters, clip)
    scaler.step(optimizer)
    scaler.update()


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replaces every gradient by its mean over all ranks.

    All ranks must have gradients for the same parameters.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients]) / dist.get_world_size()
    dist.all_reduce(flat)
    pieces = flat.split([gradient.numel() for gradient in gradients])
    for gradient, piece in zip(gradients, pieces, strict=True):
        gradient.copy_(piece.view_as(gradient))


def broadcast(module: nn.Module) -> None:
    """Gives all ranks the weights and buffers of rank 0."""
    for tensor in module.state_dict().values():
        dist.broadcast(tensor, src=0)


def losses_to_numbers(played: Sequence[Losses], epoch: int) -> dict[str, float]:
    """The players' losses of one iteration: "total" of the last player, means of all terms.

    Raises:
        NonFiniteLoss: a total or a term is nan or infinite.
    """
    losses = [
        (name, term)
        for losses in played
        for name, term in {**losses.terms, "total": losses.total}.items()
    ]
    figures = [(name, figure) for losses in played for name, figure in losses.figures.items()]
    values = torch.stack(
        [tensor.detach().float() for _, tensor in losses + figures]
    ).tolist()  # one transfer for all
    for (name, _), value in zip(losses, values[: len(losses)], strict=True):
        if not math.isfinite(value):
            raise NonFiniteLoss(name, value, epoch)
    names = [f"training loss: {name}" for name, _ in losses] + [name for name, _ in figures]
    means = mean_of_figures(
        [{name: value} for name, value in zip(names, values, strict=True)], set()
    )
    del means["training loss: total"]
    return {"total": values[len(losses) - 1], **means}
