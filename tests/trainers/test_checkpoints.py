from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_liver_ext.errors import InputError
from tests.conftest import DATASET
from tests.training import make_trainer, quietly, read_inputs, run_epochs, weights

NAME = "nnUNetTrainerSingleInput"
PLANS_NAME = "plansOfTheKilled"
LONG = {"num_epochs": 60, "warmup_epochs": 0}
"""More epochs than a run reaches before it is killed; with a companion network both learn from the
first one on."""


@pytest.fixture(scope="module")
def written(nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """checkpoint_latest.pth of a single-input trainer after one epoch."""
    trainer = make_trainer(nnunet_root, tmp_path_factory.mktemp("written"), NAME)
    run_epochs(trainer, 1)
    return Path(trainer.output_folder) / "checkpoint_latest.pth"


def changed(written: Path, target: Path, **extra: Any) -> Path:
    """A copy of the checkpoint with other values in our entry."""
    checkpoint = torch.load(written, weights_only=False)
    checkpoint["nnunet_liver_ext"] |= extra
    torch.save(checkpoint, target)
    return target


def refusal(nnunet_root: Path, results: Path, path: Path, name: str = NAME) -> str:
    """The sentence with which a new trainer refuses a checkpoint; nothing of it must have been
    taken over."""
    trainer = make_trainer(nnunet_root, results, name)
    quietly(trainer.initialize)
    before = weights(trainer)
    with pytest.raises(InputError) as error:
        trainer.load_checkpoint(str(path))
    assert all(torch.equal(before[key], value) for key, value in weights(trainer).items())
    assert trainer.current_epoch == 0
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


KILLED = """
import torch
from nnunetv2.run.run_training import run_training
run_training({dataset!r}, "3d_fullres", 0, {trainer!r}, {plans!r}, device=torch.device("cpu"))
"""


def train_until_killed(nnunet_root: Path, results: Path, name: str) -> Path:
    """Trains in another process through nnU-Net's own function and kills it in an epoch; returns
    its fold's folder."""
    plans, _ = read_inputs(nnunet_root, name, **LONG)
    plans["plans_name"] = PLANS_NAME
    del plans["continue_training"]
    (nnunet_root / "preprocessed" / DATASET / f"{PLANS_NAME}.json").write_text(json.dumps(plans))
    fold = results / DATASET / f"{name}__{PLANS_NAME}__3d_fullres" / "fold_0"
    code = KILLED.format(dataset=DATASET, trainer=name, plans=PLANS_NAME)
    environment = {**os.environ, "nnUNet_results": str(results)}
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while (
            not (fold / "checkpoint_latest.pth").exists()
            and run.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        time.sleep(0.3)
        assert run.poll() is None, "the training ended before it could be killed"
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    return fold


@pytest.mark.parametrize("name", [NAME, "nnUNetTrainerGAN"])
def test_killed_in_an_epoch_and_continued_equals_straight_through(
    name: str, nnunet_root: Path, tmp_path: Path, monkeypatch
):
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    fold = train_until_killed(nnunet_root, tmp_path, name)
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    arguments = (DATASET, "3d_fullres", 0, name, PLANS_NAME, True, torch.device("cpu"))
    continued = quietly(get_trainer_from_args, *arguments)
    assert Path(continued.output_folder) == fold
    quietly(maybe_load_checkpoint, continued, True, False)
    assert continued.current_epoch >= 1
    last = continued.current_epoch + 2
    run_epochs(continued, last)
    straight = make_trainer(nnunet_root, tmp_path / "straight", name, **LONG)
    run_epochs(straight, last)
    for key, value in weights(straight).items():
        assert torch.equal(value, weights(continued)[key]), key
    for key, value in straight.objective.state_dict().items():
        assert torch.equal(value, continued.objective.state_dict()[key]), key
    assert continued.history == straight.history
    assert continued._best_ema == straight._best_ema


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_full_disk_leaves_the_old_checkpoint_and_no_litter(
    failing_call: int, nnunet_root: Path, tmp_path: Path, monkeypatch
):
    trainer = make_trainer(nnunet_root, tmp_path, NAME)
    quietly(trainer.initialize)
    path = Path(trainer.output_folder) / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(path))
    before, files = path.read_bytes(), sorted(path.parent.iterdir())
    save, calls = torch.save, []

    def full(content: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) < failing_call:
            return save(content, target)
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    trainer.current_epoch = 3
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.save_checkpoint(str(path))
    assert len(calls) == failing_call
    assert path.read_bytes() == before
    assert sorted(path.parent.iterdir()) == files
    with pytest.raises(OSError, match="No space left"):
        trainer.save_checkpoint(str(path.with_name("checkpoint_best.pth")))
    assert sorted(path.parent.iterdir()) == files


def test_a_checkpoint_of_another_trainer(written: Path, nnunet_root: Path, tmp_path: Path):
    message = refusal(nnunet_root, tmp_path, written, "nnUNetTrainerDualInput")
    assert (
        "was written by nnUNetTrainerSingleInput and cannot be continued by nnUNetTrainerDualInput"
        in message
    )


def test_a_checkpoint_of_stock_nnunet(nnunet_root: Path, tmp_path: Path):
    stock = make_trainer(nnunet_root, tmp_path, "nnUNetTrainer")
    quietly(stock.initialize)
    path = tmp_path / "checkpoint_final.pth"
    stock.save_checkpoint(str(path))
    assert "was written by nnUNetTrainer and cannot be continued" in refusal(
        nnunet_root, tmp_path, path
    )


@pytest.mark.parametrize("version", ["99.0.0", "1.0rc1", "0.2.0.dev1"])
def test_a_checkpoint_of_a_later_version(
    version: str, written: Path, nnunet_root: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("nnunet_liver_ext.trainers.checkpoint.__version__", "0.1.7")
    path = changed(written, tmp_path / "later.pth", version=version)
    message = refusal(nnunet_root, tmp_path, path)
    assert f"was written by nnunet_liver_ext {version}, this is 0.1.7" in message
    assert "install that version or a later one" in message


@pytest.mark.parametrize("version", ["0.0.9", "0.1.99"])
def test_a_checkpoint_of_an_earlier_or_equal_release(
    version: str, written: Path, nnunet_root: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("nnunet_liver_ext.trainers.checkpoint.__version__", "0.1.7")
    trainer = make_trainer(nnunet_root, tmp_path, NAME)
    quietly(
        trainer.load_checkpoint, str(changed(written, tmp_path / "earlier.pth", version=version))
    )
    assert trainer.current_epoch == 1


def test_a_model_of_a_later_version_is_not_built(nnunet_root: Path, tmp_path: Path, monkeypatch):
    trainer = make_trainer(nnunet_root, tmp_path, NAME)
    trainer.plans_manager.plans["nnunet_liver_ext"]["version"] = "99.0"
    with pytest.raises(
        InputError, match=r"plans\.json of the model: was written by nnunet_liver_ext 99\.0"
    ):
        quietly(trainer.initialize)


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint(keep: float, written: Path, nnunet_root: Path, tmp_path: Path):
    path = tmp_path / "truncated.pth"
    content = written.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    assert "is no complete nnU-Net checkpoint" in refusal(nnunet_root, tmp_path, path)


def test_a_file_that_is_something_else_and_one_that_is_missing(nnunet_root: Path, tmp_path: Path):
    torch.save([1, 2, 3], tmp_path / "list.pth")
    assert "is no complete nnU-Net checkpoint" in refusal(
        nnunet_root, tmp_path, tmp_path / "list.pth"
    )
    assert "no such checkpoint" in refusal(nnunet_root, tmp_path, tmp_path / "missing.pth")


def test_another_strategy_under_the_same_name(written: Path, nnunet_root: Path, tmp_path: Path):
    recipe = torch.load(written, weights_only=False)["nnunet_liver_ext"]["recipe"]
    path = changed(written, tmp_path / "dual.pth", recipe={**recipe, "strategy": "dual_input"})
    assert f"was trained with strategy dual_input, {NAME} has single_input" in refusal(
        nnunet_root, tmp_path, path
    )


def test_changed_numbers_are_warned_of_in_the_log(written: Path, nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(nnunet_root, tmp_path, NAME, initial_lr=0.5, ce_weight=2.0)
    quietly(trainer.load_checkpoint, str(written))
    log = Path(trainer.log_file).read_text()
    assert "WARNING: the recipe has changed since checkpoint_latest.pth was written" in log
    assert "initial_lr was 0.01, is now 0.5" in log
    assert "ce_weight was 1.0, is now 2.0" in log
    assert "momentum was" not in log
    same = make_trainer(nnunet_root, tmp_path / "same", NAME)
    quietly(same.load_checkpoint, str(written))
    assert "WARNING" not in Path(same.log_file).read_text()


def test_the_best_epoch_so_far_is_remembered(written: Path, nnunet_root: Path, tmp_path: Path):
    """nnU-Net writes `latest` before it looks whether the epoch was the best one."""
    trainer = make_trainer(nnunet_root, tmp_path, NAME)
    quietly(trainer.load_checkpoint, str(written))
    assert torch.load(written, weights_only=False)["_best_ema"] is None
    assert trainer._best_ema == max(trainer.logger.get_value("ema_fg_dice", None))


def test_a_drawn_seed_is_continued_and_a_given_one_counts(
    written: Path, nnunet_root: Path, tmp_path: Path
):
    without = make_trainer(nnunet_root, tmp_path, NAME, seed=None)
    another = make_trainer(nnunet_root, tmp_path, NAME, seed=None)
    assert without.seed != another.seed
    quietly(without.initialize)
    without.save_checkpoint(str(tmp_path / "drawn.pth"))
    quietly(another.load_checkpoint, str(tmp_path / "drawn.pth"))
    assert another.seed == without.seed
    given = make_trainer(nnunet_root, tmp_path, NAME, seed=11)
    quietly(given.load_checkpoint, str(written))
    assert given.seed == 11


def test_without_checkpointing_nothing_is_written(nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(nnunet_root, tmp_path, NAME)
    trainer.disable_checkpointing = True
    run_epochs(trainer, 1, end=True)
    assert not list(tmp_path.rglob("*.pth"))
    assert not list(tmp_path.rglob(".unfinished*"))
    assert (Path(trainer.output_folder) / "progress.png").exists()


def test_nnunets_own_pretraining_takes_our_checkpoint(
    written: Path, nnunet_root: Path, tmp_path: Path
):
    from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

    trainer = make_trainer(nnunet_root, tmp_path, NAME, seed=99)
    quietly(trainer.initialize)
    saved, before = torch.load(written, weights_only=False)["network_weights"], weights(trainer)
    quietly(load_pretrained_weights, trainer.network, str(written))
    after = weights(trainer)
    taken = [key for key in after if ".seg_layers." not in key]
    assert len(taken) > 20
    assert all(torch.equal(after[key], saved[key]) for key in taken)
    assert all(torch.equal(after[key], before[key]) for key in after if key not in taken)
    assert not all(torch.equal(after[key], before[key]) for key in taken)


def test_stock_nnunet_ignores_our_entry(nnunet_root: Path, tmp_path: Path):
    """A stock trainer reads a checkpoint with our entry in it, here one of its own."""
    stock = make_trainer(nnunet_root, tmp_path, "nnUNetTrainer")
    quietly(stock.initialize)
    path = tmp_path / "stock.pth"
    stock.save_checkpoint(str(path))
    torch.save(
        {**torch.load(path, weights_only=False), "nnunet_liver_ext": {"version": "0.1.0"}}, path
    )
    other = make_trainer(nnunet_root, tmp_path / "other", "nnUNetTrainer")
    quietly(other.load_checkpoint, str(path))
    assert all(torch.equal(value, weights(stock)[key]) for key, value in weights(other).items())
