"""Measures many cases in several processes; each has one case in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from typing import Any, Protocol, TypeVar

from nnunet_liver_ext.console import progress_bar
from nnunet_liver_ext.errors import CaseFailure, InputError
from nnunet_liver_ext.evaluation.measuring.cache import CaseCache, Item, sizes_and_times
from nnunet_liver_ext.evaluation.measuring.one_case import CaseResult

Outcome = CaseResult | CaseFailure
Measured = tuple[Outcome, Mapping[str, Any] | None]
"""An outcome, and `cache.sizes_and_times` before it was measured if it is not from the cache."""
CASES_PER_PROCESS = 4  # starting a process takes as long as a few cases
MOST_PROCESSES = 8  # by default: a large case takes a gigabyte


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
        todo = {index: case for index, case in enumerate(cases) if index not in outcomes}
        number = number_of_processes(processes, len(todo))
        if number == 1:
            for index, case in todo.items():
                keep(index, _measured(work, case))
        elif todo:
            _in_pool(work, todo, number, keep)
    return [outcomes[index] for index in range(len(cases))]


def number_of_processes(wanted: int | None, cases: int) -> int:
    """As wanted, but not more than cases; else as many as there are processors and work for, at
    most `MOST_PROCESSES`."""
    if wanted is not None:
        return max(1, min(wanted, cases))
    processors = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, min(processors, cases // CASES_PER_PROCESS, MOST_PROCESSES))


def _in_pool(
    work: Callable[[Case], Outcome],
    todo: Mapping[int, Case],
    processes: int,
    keep: Callable[[int, Measured], None],
) -> None:
    # "spawn": ITK's threads do not survive a fork.
    with ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_one_thread
    ) as pool:
        try:
            waiting = {pool.submit(_measured, work, case): index for index, case in todo.items()}
            for done in as_completed(waiting):
                keep(waiting[done], done.result())
        except BrokenProcessPool:
            raise InputError(
                "a process ended before its time: for lack of memory (use fewer --processes), or as"
                ' a script calls this outside `if __name__ == "__main__":` (or use processes=1).'
                " What was measured is kept."
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _measured(work: Callable[[Case], Outcome], case: Case) -> Measured:
    """The outcome, and what the files were like before."""
    try:
        seen = sizes_and_times(case.files)
    except OSError:  # the work will say what is wrong
        seen = None
    return work(case), seen


def _one_thread() -> None:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
