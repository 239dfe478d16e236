"""One process at a time in a folder that is written for minutes.

The lock is a small file in the folder (filelock's `SoftFileLease`): it names host and process, and
a thread renews it. So it holds on the shared file systems of clusters, too, where flock may not. A
lock whose process has ended on this host, or that nobody has renewed for `SILENCE_S`, is taken over
with a note.
"""

from __future__ import annotations

import functools
import inspect
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from filelock import SoftFileLease, Timeout

from nnunet_liver_ext.errors import InputError

LOCK_FILE = ".nnunet_liver.lock"
SILENCE_S = 120.0
"""A lock that was not renewed for so many seconds is taken over; all processes must agree on it."""
AT_ONCE_S = 1.0
"""Time for taking over the lock of a process that has ended on this host."""

Tell = Callable[[str], None]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def tell_on_stderr(note: str) -> None:
    """Prints a note where it does not mix with results."""
    sys.stderr.write(f"Note: {note}\n")


class FolderLock:
    """Keeps other processes out of a folder until it is released or this process ends.

    The folder is made if it is missing, and removed again if it is empty afterwards. A process may
    hold several locks of the same folder.
    """

    def __init__(self, folder: Path, tell: Tell = tell_on_stderr) -> None:
        """
        Args:
            folder: the folder to write to.
            tell: is given a note if a lock is taken over, or was lost.

        Raises:
            InputError: another process works in the folder, or it cannot be written.
        """
        self.folder, self.tell = folder, tell
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; the results need a folder.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lease = SoftFileLease(
                folder.resolve() / LOCK_FILE,
                lease_duration=SILENCE_S,
                thread_local=False,
                is_singleton=True,
            )
            self._acquire()
        except OSError as error:
            self._remove_empty_folders()
            raise InputError(
                f"{folder}: cannot be written ({error.strerror or error}); mend that, or choose"
                " another folder."
            ) from None

    def release(self) -> None:
        """Lets others in."""
        lost = self._lease.compromise
        self._lease.release()
        if lost is not None:
            self.tell(
                f"{self.folder}: its lock was lost meanwhile ({lost.reason}), so another process"
                " may have written here, too; look whether all is there, or do it again."
            )
        self._remove_empty_folders()

    def hold_on(self) -> None:
        """Locks the folder again if the lock was lost, as by a file server that was away.

        Raises:
            InputError: another process works in the folder meanwhile.
        """
        if self._lease.compromise is not None:
            self._lease.release(force=True)
            self._acquire()

    def _acquire(self) -> None:
        owner = None if self._lease.is_locked else self._lease.owner
        try:
            self._lease.acquire(timeout=AT_ONCE_S)
        except Timeout:
            self._wait_for_a_sign_of_life()
        if owner is not None:
            self.tell(
                f"{self.folder}: was locked by process {owner.pid} on {owner.hostname}, which has"
                " ended or gave no sign of life: its lock was taken over, and what it left half"
                " done is done again."
            )

    def _wait_for_a_sign_of_life(self) -> None:
        """Takes over a lock that another host's process does not renew; InputError if it does."""
        before = self._renewed_at()
        if self._is_elsewhere() or self._silence_s() > SILENCE_S:
            self.tell(
                f"{self._holder()} Waiting for its next sign of life, at most {SILENCE_S:.0f} s."
            )
            with suppress(Timeout):
                self._lease.acquire(
                    timeout=SILENCE_S + 10 * AT_ONCE_S,
                    cancel_check=lambda: self._renewed_at() not in (before, None),
                )
                return
        raise InputError(
            f"{self._holder()} Wait for it, end it, or choose another folder; if it dies, the same"
            f" command takes over its lock ({LOCK_FILE} in this folder)."
        )

    def _holder(self) -> str:
        owner = self._lease.owner
        who = "another process" if owner is None else f"process {owner.pid} on {owner.hostname}"
        return (
            f"{self.folder}: {who} works in this folder"
            f" (last sign of life {self._silence_s():.0f} s ago)."
        )

    def _is_elsewhere(self) -> bool:
        """Whether the holder is on another host, where nobody can see whether it is alive."""
        owner = self._lease.owner  # filelock adds a container's number to the host's name
        return owner is not None and owner.hostname.partition("?")[0] != socket.gethostname()

    def _silence_s(self) -> float:
        """Seconds since the lock was renewed, 0 if it is gone."""
        renewed_at = self._renewed_at()
        return 0.0 if renewed_at is None else max(0.0, time.time() - renewed_at)

    def _renewed_at(self) -> float | None:
        with suppress(OSError):
            return Path(self._lease.lock_file).stat().st_mtime
        return None

    def _remove_empty_folders(self) -> None:
        for folder in self._made:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def locked_folder(folder: Path, tell: Tell = tell_on_stderr) -> Iterator[None]:
    """Keeps other processes out of a folder within the block; as `FolderLock`."""
    lock = FolderLock(folder, tell)
    try:
        yield
    finally:
        lock.release()


def locks_folder(
    argument: str,
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Makes a function keep other processes out of the folder that this argument names."""

    def decorate(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            with locked_folder(Path(signature.bind(*args, **kwargs).arguments[argument])):
                return function(*args, **kwargs)

        return run

    return decorate
