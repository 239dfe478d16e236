"""One pool of processes: results, limits, and workers that end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.workers import choose_processes, limit_threads, run_in_processes

PACKAGE = Path(__file__).parents[1] / "nnunet_liver_ext"
SLEEPING_WORKERS = """
import os, sys, time
from pathlib import Path
from nnunet_liver_ext.workers import run_in_processes

def sleep_long(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(300)

if __name__ == "__main__":
    list(run_in_processes(sleep_long, [sys.argv[1]] * 2, 2))
"""


def square(number: int) -> int:
    return number**2


def count_threads(_: int) -> int:
    return sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()


def kill_this_process(number: int) -> None:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def fail(number: int) -> None:
    raise InputError(f"item {number} is wrong.")


@pytest.mark.parametrize("processes", [1, 2])
def test_every_index_comes_with_its_result(processes: int):
    assert sorted(run_in_processes(square, [3, 4, 5], processes)) == [(0, 9), (1, 16), (2, 25)]


def test_one_process_works_here_and_in_order():
    assert list(run_in_processes(lambda name: (name, os.getpid()), ["b", "a"], 1)) == [
        (0, ("b", os.getpid())),
        (1, ("a", os.getpid())),
    ]


def test_workers_have_as_many_threads_as_asked_for():
    assert dict(run_in_processes(count_threads, [0, 1], 2, threads=1)) == {0: 1, 1: 1}


def test_an_error_of_the_work_comes_through():
    with pytest.raises(InputError, match=r"^item [12] is wrong\.$"):
        list(run_in_processes(fail, [1, 2], 2))


def test_a_killed_worker_is_one_sentence():
    with pytest.raises(InputError, match="a worker process was killed, probably because memory"):
        list(run_in_processes(kill_this_process, [0, 1], 2))


def test_workers_end_when_their_parent_is_killed(tmp_path: Path):
    script, started = tmp_path / "script.py", tmp_path / "started"
    script.write_text(SLEEPING_WORKERS)
    started.mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(script), str(started)],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        start_new_session=True,
    )
    try:
        assert wait_until(lambda: len(list(started.iterdir())) == 2, 60)
        parent.kill()
        parent.wait(timeout=10)
        workers = [int(path.name) for path in started.iterdir()]
        assert wait_until(lambda: not any(map(is_running, workers)), 10)
    finally:
        os.killpg(parent.pid, signal.SIGKILL) if parent.poll() is None else None


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    """Whether something holds within some seconds."""
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def is_running(process: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_no_other_module_makes_a_pool():
    with_pool = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "ProcessPoolExecutor" in path.read_text(encoding="utf-8")
    ]
    assert with_pool == ["workers.py"]


@pytest.mark.parametrize(
    ("wanted", "items", "processors", "expected"),
    [
        (3, 10, 16, 3),
        (3, 2, 16, 2),
        (3, 0, 16, 1),
        (None, 3, 16, 1),
        (None, 8, 16, 2),
        (None, 1000, 16, 8),
        (None, 1000, 4, 4),
    ],
)
def test_number_of_processes(
    wanted: int | None,
    items: int,
    processors: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("nnunet_liver_ext.workers._processors", lambda: processors)
    assert choose_processes(wanted, items) == expected


def test_threads_are_limited_in_a_block_and_restored_after_an_error():
    import torch

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(), torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), limit_threads(1):
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 1
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert before == (sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(), torch.get_num_threads())
