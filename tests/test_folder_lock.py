"""One process at a time in a folder: a live one is named, a dead or silent one is followed."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from nnunet_liver_ext import folder_lock
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.folder_lock import LOCK_FILE, FolderLock, locked_folder, locks_folder
from tests.held_folders import Hold, write_lock


def test_a_folder_is_locked_within_the_block_and_nothing_stays(tmp_path: Path):
    folder = tmp_path / "a" / "b"
    with locked_folder(folder):
        assert (folder / LOCK_FILE).is_file()
        with locked_folder(folder):  # of the same process
            pass
        assert (folder / LOCK_FILE).is_file()
    assert not (tmp_path / "a").exists()
    with locked_folder(folder):
        (folder / "result").touch()
    assert [path.name for path in folder.iterdir()] == ["result"]


def test_what_is_raised_within_the_block_unlocks_it(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), locked_folder(tmp_path):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_function_that_locks_the_folder_of_an_argument(tmp_path: Path):
    @locks_folder("out")
    def write(name: str, out: Path) -> list[str]:
        return [name, *(path.name for path in out.iterdir())]

    assert write("a", tmp_path) == ["a", LOCK_FILE]
    assert write(out=tmp_path, name="b") == ["b", LOCK_FILE]
    assert not list(tmp_path.iterdir())


def test_who_works_in_the_folder_is_named(tmp_path: Path, hold: Hold):
    other = hold(tmp_path)
    with pytest.raises(InputError) as caught:
        FolderLock(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: process {other.pid} on {socket.gethostname()}")
    assert "works in this folder (last sign of life " in message
    assert "s ago). Wait for it, end it, or choose another folder; if it dies" in message
    assert "\n" not in message
    other.communicate()  # it ends well
    notes: list[str] = []
    FolderLock(tmp_path, notes.append).release()
    assert notes == []


def test_a_process_that_was_killed_is_followed_at_once_and_said(tmp_path: Path, hold: Hold):
    other = hold(tmp_path)
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / LOCK_FILE).exists()
    notes: list[str] = []
    with locked_folder(tmp_path, notes.append):
        pass
    assert len(notes) == 1
    assert f"was locked by process {other.pid} on {socket.gethostname()}" in notes[0]
    assert "its lock was taken over" in notes[0]
    assert not (tmp_path / LOCK_FILE).exists()


@pytest.mark.parametrize("age_s", [0, 3600, -3600])
def test_another_host_that_is_silent_is_followed(age_s: float, tmp_path: Path, monkeypatch):
    """By our own clock, whatever that of the other host says; so restarted jobs go on."""
    monkeypatch.setattr(folder_lock, "SILENCE_S", 1.5)
    write_lock(tmp_path, host="node7", age_s=age_s)
    notes: list[str] = []
    start = time.monotonic()
    with locked_folder(tmp_path, notes.append):
        assert "node7" not in (tmp_path / LOCK_FILE).read_text()
    assert time.monotonic() - start >= 1.5
    assert "process 4321 on node7 works in this folder" in notes[0]
    assert "Waiting for its next sign of life" in notes[0]
    assert "was locked by process 4321 on node7" in notes[1]
    assert "taken over" in notes[1]


@pytest.mark.parametrize("age_s", [0, 3600, -3600])
def test_another_host_that_renews_its_lock_is_left_alone(age_s: float, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(folder_lock, "SILENCE_S", 30.0)
    monkeypatch.setattr(folder_lock, "AT_ONCE_S", 0.1)
    path = write_lock(tmp_path, host="node7", age_s=age_s)
    before, stop = path.read_text(), threading.Event()

    def renew() -> None:
        while not stop.wait(1.0):
            os.utime(path, (time.time() - age_s,) * 2)

    thread = threading.Thread(target=renew)
    thread.start()
    start = time.monotonic()
    try:
        with pytest.raises(InputError, match="process 4321 on node7 works in this folder"):
            FolderLock(tmp_path, lambda _: None)
    finally:
        stop.set()
        thread.join()
    assert time.monotonic() - start < 15  # at its first sign of life
    assert path.read_text() == before


def test_a_lock_that_is_lost_is_said_and_taken_again(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(folder_lock, "SILENCE_S", 0.6)
    monkeypatch.setattr(folder_lock, "AT_ONCE_S", 0.1)
    notes: list[str] = []
    lock = FolderLock(tmp_path, notes.append)
    lock.hold_on()
    (tmp_path / LOCK_FILE).unlink()
    time.sleep(1.5)  # two renewals
    lock.hold_on()
    assert (tmp_path / LOCK_FILE).exists()
    (tmp_path / LOCK_FILE).unlink()
    write_lock(tmp_path, host=socket.gethostname(), age_s=-60, pid=os.getppid())
    time.sleep(1.5)
    with pytest.raises(InputError, match=rf"process {os.getppid()} on .* works in this folder"):
        lock.hold_on()
    assert notes == []


def test_a_lost_lock_is_said_at_the_end(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(folder_lock, "SILENCE_S", 0.6)
    notes: list[str] = []
    with locked_folder(tmp_path, notes.append):
        (tmp_path / LOCK_FILE).unlink()
        time.sleep(1.0)
    assert "its lock was lost meanwhile (marker-missing)" in notes[0]


def test_a_forked_process_takes_no_lock_along(tmp_path: Path):
    with locked_folder(tmp_path):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert (tmp_path / LOCK_FILE).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path):
    tmp_path.chmod(0o555)
    with pytest.raises(InputError, match=r"cannot be written \(Permission denied\)"):
        FolderLock(tmp_path)
    tmp_path.chmod(0o755)


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: is a file; the results need a folder"):
        FolderLock(tmp_path / "file")
    with pytest.raises(InputError, match=r"cannot be written \(Not a directory\)"):
        FolderLock(tmp_path / "file" / "out")
