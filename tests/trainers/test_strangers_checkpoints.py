"""Checkpoints that trainings start from or continue: nothing in them is run without trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers import base
from tests.strangers_files import loading_all_runs_it, make_hostile
from tests.training import make_trainer, quietly, run_epochs

NAME = "nnUNetTrainerGAN"


@pytest.fixture(scope="module")
def hostile(nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint after one of four epochs, and the file that it writes when it is unpickled."""
    folder = tmp_path_factory.mktemp("hostile")
    trainer = make_trainer(nnunet_root, folder, NAME, warmup_epochs=0)
    run_epochs(trainer, 1)
    checkpoint, proof = Path(trainer.output_folder) / "checkpoint_best.pth", folder / "was_run"
    make_hostile(checkpoint, proof)
    assert loading_all_runs_it(checkpoint, proof)
    return checkpoint, proof


WAYS = ["continue", "segmentor_checkpoint", "companion_checkpoint"]


def begin(root: Path, results: Path, way: str, checkpoint: Path) -> Any:
    numbers = {} if way == "continue" else {way: str(checkpoint)}
    trainer = make_trainer(root, results, NAME, warmup_epochs=0, **numbers)
    if way == "continue":
        quietly(trainer.load_checkpoint, str(checkpoint))
    else:
        quietly(trainer.initialize)
        quietly(trainer._start_from_trained_networks)
    return trainer


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_run_and_the_sentence_names_it(
    way: str, hostile: tuple[Path, Path], nnunet_root: Path, tmp_path: Path
):
    checkpoint, proof = hostile
    with pytest.raises(InputError) as caught:
        begin(nnunet_root, tmp_path, way, checkpoint)
    assert str(caught.value).startswith(f"{checkpoint}: holds shutil.copyfile beside tensors")
    assert "NNUNET_LIVER_TRUST=1 in a training" in str(caught.value)
    assert not proof.exists()


@pytest.mark.parametrize("way", WAYS)
def test_who_is_trusted_is_read(
    way: str, hostile: tuple[Path, Path], nnunet_root: Path, tmp_path: Path, monkeypatch
):
    checkpoint, proof = hostile
    monkeypatch.setenv("NNUNET_LIVER_TRUST", "1")
    trainer = begin(nnunet_root, tmp_path, way, checkpoint)
    assert proof.exists()
    proof.unlink()
    assert trainer.current_epoch == (1 if way == "continue" else 0)


def test_nnunets_own_loader_does_not_run_it_either(
    hostile: tuple[Path, Path], nnunet_root: Path, tmp_path: Path, monkeypatch
):
    """Also if the file was another one when it was looked at."""
    checkpoint, proof = hostile
    read = base.read_extra
    monkeypatch.setenv("NNUNET_LIVER_TRUST", "1")
    extra = read(checkpoint, NAME, make_trainer(nnunet_root, tmp_path, NAME).recipe)
    proof.unlink()
    monkeypatch.delenv("NNUNET_LIVER_TRUST")
    monkeypatch.setattr(base, "read_extra", lambda *_, **__: extra)
    with pytest.raises(Exception, match=r"shutil\.copyfile"):
        begin(nnunet_root, tmp_path, "continue", checkpoint)
    assert not proof.exists()
