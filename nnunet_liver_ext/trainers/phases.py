"""The phases of a training: the segmentor alone, its companion alone, both.

Each has a learning-rate schedule of its own.

(Couteaux et al. 2021, "Cooperating networks", section 2.2; the adversarial losses start from a
trained segmentor, too.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch.optim import Optimizer

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.objectives import OBJECTIVES
from nnunet_liver_ext.trainers.objectives.interface import BOTH, COMPANION, SEGMENTOR, PhaseName
from nnunet_liver_ext.trainers.recipe import Recipe

IN_WORDS = {
    SEGMENTOR: "the segmentor alone",
    COMPANION: "the companion network alone",
    BOTH: "segmentor and companion network",
}


@dataclass(frozen=True)
class Phase:
    """A range of epochs in which the same players learn."""

    name: PhaseName
    first: int
    """First epoch."""
    end: int
    """First epoch after it."""

    def __str__(self) -> str:
        return f"{IN_WORDS[self.name]} (epochs {self.first} to {self.end - 1})"


def plan_phases(recipe: Recipe) -> tuple[Phase, ...]:
    """The phases that are not empty, in their order.

    Args:
        recipe: its objective has the shares of the epochs where it names no numbers of epochs.

    Raises:
        InputError: the first two phases are longer than the training.
    """
    objective = OBJECTIVES[recipe.objective]
    if not objective.has_companion:
        return (Phase(SEGMENTOR, 0, recipe.num_epochs),)
    warmup = _epochs(
        recipe.warmup_epochs, recipe.segmentor_checkpoint, objective.warmup_share, recipe.num_epochs
    )
    alone = _epochs(
        recipe.companion_epochs,
        recipe.companion_checkpoint,
        objective.companion_share,
        recipe.num_epochs,
    )
    if warmup + alone > recipe.num_epochs:
        raise InputError(
            f"recipe: warmup_epochs ({warmup}) and companion_epochs ({alone}) are longer than the"
            f" training (num_epochs: {recipe.num_epochs})."
        )
    ends = (warmup, warmup + alone, recipe.num_epochs)
    starts = (0, *ends[:-1])
    names: Sequence[PhaseName] = (SEGMENTOR, COMPANION, BOTH)
    return tuple(
        Phase(*phase) for phase in zip(names, starts, ends, strict=True) if phase[1] < phase[2]
    )


def _epochs(given: int | None, checkpoint: str | None, share: float, num_epochs: int) -> int:
    if given is not None:
        return given
    if checkpoint is not None or share == 0:
        return 0
    return max(1, int(share * num_epochs)) if num_epochs > 2 else 0


def find_phase(phases: Sequence[Phase], epoch: int) -> Phase:
    """The phase of an epoch; the last one for what comes after the training."""
    return next((phase for phase in phases if epoch < phase.end), phases[-1])


def shows_companion(phases: Sequence[Phase], epoch: int) -> bool:
    """Whether an epoch's validation tells what the companion is worth.

    It does at the end of the companion's own phase; without one, when the companion begins to
    teach.
    """
    phase = find_phase(phases, epoch)
    if phase.name == COMPANION:
        return epoch == phase.end - 1
    never_alone = COMPANION not in {phase.name for phase in phases}
    return phase.name == BOTH and epoch == phase.first and never_alone


class PhaseSchedule:
    """Learning rate = start · (1 − progress of the phase)^exponent, anew in each phase."""

    def __init__(
        self,
        optimizer: Optimizer,
        phases: Sequence[Phase],
        alone: float,
        joint: float | None,
        exponent: float,
        drop_epoch: int | None = None,
    ) -> None:
        """Sets no learning rate yet.

        Args:
            optimizer: whose learning rate is set.
            phases: of the training.
            alone: learning rate at the beginning of a phase in which one player learns.
            joint: the same where both do; None for `alone`.
            exponent: 0 keeps it constant.
            drop_epoch: a tenth from this epoch of the segmentor's own phase on; None: no drop.
        """
        self.optimizer, self.phases, self.exponent, self.drop_epoch = (
            optimizer,
            phases,
            exponent,
            drop_epoch,
        )
        self.alone, self.joint = alone, alone if joint is None else joint

    def step(self, epoch: int) -> None:
        phase = find_phase(self.phases, epoch)
        start = self.joint if phase.name == BOTH else self.alone
        if (
            self.drop_epoch is not None
            and phase.name == SEGMENTOR
            and epoch - phase.first >= self.drop_epoch
        ):
            start /= 10
        progress = (epoch - phase.first) / (phase.end - phase.first)
        for group in self.optimizer.param_groups:
            group["lr"] = start * max(0.0, 1 - progress) ** self.exponent
