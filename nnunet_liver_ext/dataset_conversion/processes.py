"""The same work on many studies, in several processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.workers import exit_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], processes: int
) -> Iterator[tuple[Item, Result]]:
    """Yields each item with its result as they come; in this process if there is only one.

    Raises:
        InputError: a worker process was killed from outside.
    """
    if processes == 1 or len(items) <= 1:
        for item in items:
            yield item, work(item)
        return
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // processes)
    pool = ProcessPoolExecutor(min(processes, len(items)), context, _start_worker, (threads,))
    try:
        waiting = {pool.submit(work, item): item for item in items}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    except BrokenProcessPool:
        raise InputError(
            "a worker process was killed, probably because memory ran out; repeat the command with"
            " fewer --processes."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(threads: int) -> None:
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    exit_with_parent()
