"""Measures many cases in several processes; each has one case in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeVar

from nnunet_liver_ext.console import progress_bar
from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.measuring.cache import CaseCache, Item, sizes_and_times
from nnunet_liver_ext.evaluation.measuring.one_case import CaseResult
from nnunet_liver_ext.workers import choose_processes, run_in_processes

Outcome = CaseResult | CaseFailure
Measured = tuple[Outcome, Mapping[str, Any] | None]
"""An outcome, and `cache.sizes_and_times` before it was measured if it is not from the cache."""


class OfPatient(Item, Protocol):
    """An item that knows its patient."""

    @property
    def patient(self) -> str: ...


Case = TypeVar("Case", bound=OfPatient)


def measure_all(
    work: Callable[[Case], Outcome],
    cases: Sequence[Case],
    cache: CaseCache,
    processes: int | None,
    description: str,
) -> list[Outcome]:
    """The outcome of every case, in their order; what the cache has is not measured again.

    Raises:
        InputError: a process was killed. What was measured before is in the cache.
    """
    outcomes: dict[int, Outcome] = {}
    with progress_bar() as progress:
        task = progress.add_task(description, total=len(cases))

        def keep(index: int, measured: Measured) -> None:
            outcome, seen = measured
            outcomes[index] = outcome
            if isinstance(outcome, CaseResult) and seen is not None:
                cache.put(cases[index], outcome, seen)
            progress.advance(task)

        for index, case in enumerate(cases):
            if (result := cache.get(case)) is not None:
                keep(index, (replace(result, patient=case.patient), None))
        todo = [index for index in range(len(cases)) if index not in outcomes]
        measured = run_in_processes(
            partial(_measure_with_times, work),
            [cases[index] for index in todo],
            choose_processes(processes, len(todo)),
            threads=1,
        )
        for number, outcome_and_times in measured:
            keep(todo[number], outcome_and_times)
    return [outcomes[index] for index in range(len(cases))]


def _measure_with_times(work: Callable[[Case], Outcome], case: Case) -> Measured:
    """The outcome, and what the files were like before."""
    try:
        seen = sizes_and_times(case.files)
    except OSError:  # the work will say what is wrong
        seen = None
    return work(case), seen
