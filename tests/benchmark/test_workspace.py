"""Commands in a folder of their own: their log, their epochs, their end."""

from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from nnunet_liver_ext.benchmark import workspace as module
from nnunet_liver_ext.benchmark.workspace import Workspace, last_epoch, warnings_of_training
from nnunet_liver_ext.errors import InputError

TRAINING = """
import time
for epoch in range(3):
    print(f"2026-01-01 00:00:00.0: Epoch {epoch} ", flush=True)
    print("2026-01-01 00:00:00.0: Epoch time: 1.5 s", flush=True)
    time.sleep(0.3)
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for kind in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{kind}", "")  # put back afterwards
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.05)
    return Workspace(tmp_path / "out", Console(file=io.StringIO()), {"seed": 1})


def test_the_epochs_of_a_training_are_told_and_logged(workspace: Workspace):
    told: list[int] = []
    workspace.run("python", "-c", TRAINING, log="logs/a.txt", tell_epoch=told.append)
    assert sorted(set(told)) == [0, 1, 2]
    assert told == sorted(told)
    log = (workspace.out / "logs" / "a.txt").read_text()
    assert "$ python -c" in log
    assert log.count("\n2026-01-01 00:00:00.0: Epoch time: 1.5 s") == 3


def test_epochs_of_an_earlier_run_in_the_same_log_do_not_count(tmp_path: Path):
    log = tmp_path / "log.txt"
    log.write_text("a: Epoch 7 \n")
    assert last_epoch(log) == 7
    assert last_epoch(log, begun=log.stat().st_size) is None


def test_a_command_that_fails_names_its_log(workspace: Workspace):
    with pytest.raises(InputError, match=r"python ended with code 3; its output is .*log\.txt"):
        workspace.run("python", "-c", "import sys; sys.exit(3)")


def test_a_command_that_takes_too_long_is_ended(workspace: Workspace, monkeypatch):
    monkeypatch.setattr(module, "LONGEST_STEP_S", 0)
    with pytest.raises(InputError, match="did not end within 0 hours"):
        workspace.run("python", "-c", "import time; time.sleep(60)")
    assert not workspace._processes


def test_running_commands_can_be_stopped(workspace: Workspace):
    failures: list[InputError] = []

    def run() -> None:
        try:
            workspace.run("python", "-c", "import time; time.sleep(60)")
        except InputError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    end = time.monotonic() + 20
    while not workspace._processes and time.monotonic() < end:
        time.sleep(0.02)
    workspace.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert "ended with code -15" in str(failures[0])


def test_what_a_trainer_warned_of_is_told_once(tmp_path: Path):
    log = tmp_path / "log.txt"
    assert warnings_of_training(log) == []
    log.write_text("a: Epoch 0 \na: WARNING: too short \nb: fine\nb: WARNING: too short \n")
    assert warnings_of_training(log) == ["too short"]
