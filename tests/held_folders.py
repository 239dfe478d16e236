"""Folders that another process holds, or another host."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nnunet_liver_ext import folder_lock
from nnunet_liver_ext.folder_lock import LOCK_FILE

HOLD = """
import sys
from pathlib import Path
from nnunet_liver_ext.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
lock.release()
"""
Hold = Callable[[Path], subprocess.Popen[str]]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Begins another process that holds the lock of a folder until its input is closed."""
    processes = []

    def begin(folder: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def write_lock(folder: Path, *, host: str, age_s: float, pid: int = 4321) -> Path:
    """The lock of a process elsewhere, as filelock writes it."""
    path = folder / LOCK_FILE
    path.write_text(
        f"filelock/2\npid={pid}\nhost={host}\nmode=lease\ntoken={'0' * 32}\n"
        f"duration={folder_lock.SILENCE_S!r}\n"
    )
    os.utime(path, (time.time() - age_s,) * 2)
    return path
