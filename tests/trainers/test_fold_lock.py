"""Two trainings do not share a fold's folder; the ranks of one training share its lock."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from nnunet_liver_ext import folder_lock
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.folder_lock import LOCK_FILE
from tests.held_folders import Hold, write_lock
from tests.training import make_trainer, quietly, run_epochs

NAME = "nnUNetTrainerSingleInput"


def fold(trainer: Any) -> Path:
    return Path(trainer.output_folder)


def test_a_second_training_does_not_begin(nnunet_root: Path, tmp_path: Path, hold: Hold):
    trainer = make_trainer(nnunet_root, tmp_path, NAME)
    other = hold(fold(trainer))
    for begin in (trainer.initialize, trainer.on_train_start):
        with pytest.raises(InputError, match=rf"process {other.pid} on .* works in this folder"):
            quietly(begin)
    assert not trainer.was_initialized
    assert {path.suffix for path in fold(trainer).iterdir()} == {".txt", ".lock"}  # its log


def test_a_training_that_was_killed_is_followed_and_its_log_says_so(
    nnunet_root: Path, tmp_path: Path, hold: Hold
):
    trainer = make_trainer(nnunet_root, tmp_path, NAME)
    other = hold(fold(trainer))
    other.kill()
    other.wait()
    run_epochs(trainer, 1)
    log = Path(trainer.log_file).read_text()
    assert f"was locked by process {other.pid} on {socket.gethostname()}" in log
    assert (fold(trainer) / "checkpoint_best.pth").exists()
    assert (fold(trainer) / LOCK_FILE).exists()


def test_other_ranks_do_not_ask_for_the_lock(nnunet_root: Path, tmp_path: Path, hold: Hold):
    """Rank 0 holds it for all; `test_ddp` runs two."""
    trainer = make_trainer(nnunet_root, tmp_path, NAME)
    hold(fold(trainer))
    trainer.local_rank = 1
    quietly(trainer.initialize)
    assert trainer.was_initialized


def test_a_training_whose_folder_was_taken_over_stops(
    nnunet_root: Path, tmp_path: Path, monkeypatch
):
    """As after a night in which its machine slept."""
    monkeypatch.setattr(folder_lock, "SILENCE_S", 0.9)
    monkeypatch.setattr(folder_lock, "AT_ONCE_S", 0.1)
    trainer = make_trainer(nnunet_root, tmp_path, NAME)
    quietly(trainer.initialize)
    (fold(trainer) / LOCK_FILE).unlink()
    write_lock(fold(trainer), host=socket.gethostname(), age_s=-60, pid=os.getppid())
    time.sleep(1.0)
    with pytest.raises(InputError, match=rf"process {os.getppid()} on .* works in this folder"):
        run_epochs(trainer, 1)
    assert not list(fold(trainer).glob("*.pth"))
