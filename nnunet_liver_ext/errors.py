"""Errors that users read: a sentence that names the file, what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one clear sentence; the command line prints it and exits 1.
    """


CASE_FAILURES = (InputError, OSError, RuntimeError, MemoryError)
"""What may go wrong with one case while others go on; CUDA's lack of memory is a RuntimeError."""


@dataclass(frozen=True)
class CaseFailure:
    """One case of a batch that could not be processed, and why; the other cases go on."""

    case: str
    reason: str


def failure_reason(error: BaseException) -> str:
    """Why a case failed, in one line; SimpleITK puts what matters into its last."""
    if isinstance(error, InputError):
        return str(error)
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


class SomeCasesFailed(InputError):
    """A batch ended with failures, which the message lists.

    Everything else has been processed before.
    """

    def __init__(self, failures: Sequence[CaseFailure], total: int) -> None:
        self.failures = list(failures)
        lines = "\n".join(f"  {failure.case}: {failure.reason}" for failure in self.failures)
        super().__init__(f"{len(self.failures)} of {total} cases could not be processed:\n{lines}")


def last_line(error: BaseException) -> str:
    """The last line of an error's message, into which ITK puts what matters; else its kind."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


class NonFiniteLoss(RuntimeError):
    """A loss became nan or infinite: training stops, and the last checkpoint stays as it is."""

    def __init__(self, term: str, value: float, epoch: int) -> None:
        super().__init__(
            f'training stopped in epoch {epoch}: the loss "{term}" is {value}. The last checkpoint'
            " is untouched; continue from it (--c) with a lower learning rate or a lower weight of"
            " this term."
        )
