"""The same work on many items in several processes, and limits on threads.

Worker processes end with the process that started them, also when that was killed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import TypeVar

from nnunet_liver_ext.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")
ITEMS_PER_PROCESS = 4
"""Starting a process takes as long as the work on a few items."""
MOST_PROCESSES = 8
"""The default's upper limit: a large case takes a gigabyte."""


def choose_processes(wanted: int | None, items: int) -> int:
    """The number of processes for some items: as wanted, or what they are worth by default.

    Args:
        wanted: number of processes, or None for as many as there are processors, but at least four
            items for each and at most `MOST_PROCESSES`.
        items: number of items; there are never more processes.

    Returns:
        1 or more.
    """
    if wanted is not None:
        return max(1, min(wanted, items))
    return max(1, min(_processors(), items // ITEMS_PER_PROCESS, MOST_PROCESSES))


def run_in_processes(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    processes: int,
    *,
    threads: int | None = None,
) -> Iterator[tuple[int, Result]]:
    """Works on all items and yields each item's index with its result, as soon as it is there.

    With one process or one item everything happens in this process, in the order of the items.

    Args:
        work: a function that can be pickled.
        items: what it is called with, one by one.
        processes: number of worker processes.
        threads: of SimpleITK in each worker; an equal share of the processors by default.

    Raises:
        InputError: a worker was ended from outside.
    """
    if processes == 1 or len(items) <= 1:
        yield from ((index, work(item)) for index, item in enumerate(items))
        return
    pool = ProcessPoolExecutor(
        min(processes, len(items)),
        multiprocessing.get_context("spawn"),  # SimpleITK's threads do not survive a fork
        _start_worker,
        (threads or max(1, _processors() // processes),),
    )
    try:
        indices = {pool.submit(work, item): index for index, item in enumerate(items)}
        for future in as_completed(indices):
            yield indices[future], future.result()
    except BrokenProcessPool:
        raise InputError(
            "a worker process was killed, probably because memory ran out; run again with fewer"
            " processes (--processes). A script must call this inside"
            ' `if __name__ == "__main__":`, or with one process.'
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def limit_threads(number: int = 1) -> Iterator[None]:
    """Limits the threads of SimpleITK and torch inside the block, as far as they are imported."""
    with_threads: list[tuple[Callable[[int], None], int]] = []
    if (sitk := sys.modules.get("SimpleITK")) is not None:
        process = sitk.ProcessObject
        with_threads.append(
            (
                process.SetGlobalDefaultNumberOfThreads,
                process.GetGlobalDefaultNumberOfThreads(),
            )
        )
    if (torch := sys.modules.get("torch")) is not None:
        with_threads.append((torch.set_num_threads, torch.get_num_threads()))
    for set_threads, _ in with_threads:
        set_threads(number)
    try:
        yield
    finally:
        for set_threads, before in with_threads:
            set_threads(before)


def exit_with_parent() -> None:
    """Ends this worker process as soon as the process that started it is gone.

    Called at a worker's start; in the main process it does nothing. A worker whose parent was
    killed would wait for ever to hand over its result, or write into what is being repeated.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _start_worker(threads: int) -> None:
    exit_with_parent()
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def _exit_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
