"""Worker processes that do not outlive their parent."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.process import BaseProcess


def exit_with_parent() -> None:
    """Ends this process when the one that started it is gone; to be called at a worker's start, no
    effect elsewhere.

    A worker whose parent was killed would wait for ever to hand over its result, or write into what
    is being repeated.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
