"""What a companion's checkpoint must fit before it is continued, and when a registor shows what it
is worth."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nnunet_liver_ext.errors import InputError, NonFiniteLoss
from nnunet_liver_ext.trainers.objectives.cooperation import Similarity
from tests.training import make_trainer, quietly, run_epochs, weights

NAME = "nnUNetTrainerSimilarityTranslation"
PHASES = {"num_epochs": 4, "warmup_epochs": 1, "companion_epochs": 1}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No workers, and no search for the best transform."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setattr(
        Similarity, "_best_dice", lambda self, first, second: torch.ones(len(first))
    )


@pytest.fixture(scope="module")
def latest(nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """checkpoint_latest.pth after the first epoch of phase 3."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_n_proc_DA", "0")
        patch.setattr(Similarity, "_best_dice", lambda self, first, second: torch.ones(len(first)))
        trainer = make_trainer(nnunet_root, tmp_path_factory.mktemp("latest"), NAME, **PHASES)
        run_epochs(trainer, 3)
    return Path(trainer.output_folder) / "checkpoint_latest.pth"


def test_other_numbers_that_move_the_phases(latest: Path, nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(
        nnunet_root, tmp_path, NAME, **{**PHASES, "num_epochs": 8, "warmup_epochs": 4}
    )
    quietly(trainer.initialize)
    before = weights(trainer)
    with pytest.raises(
        InputError,
        match=(
            "trained segmentor and companion network, with these numbers it would have trained the"
        ),
    ):
        quietly(trainer.load_checkpoint, str(latest))
    assert trainer.current_epoch == 0
    assert all(torch.equal(value, before[name]) for name, value in weights(trainer).items())


def test_more_epochs_in_the_last_phase_are_fine(latest: Path, nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(nnunet_root, tmp_path, NAME, **{**PHASES, "num_epochs": 9})
    quietly(trainer.load_checkpoint, str(latest))
    assert trainer.current_epoch == 3


def test_a_registor_that_is_built_otherwise(latest: Path, nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(nnunet_root, tmp_path, NAME, **PHASES, max_shift_voxels=3.0)
    with pytest.raises(
        InputError, match="its companion network is another one: registor, translation by at most"
    ):
        quietly(trainer.load_checkpoint, str(latest))


@pytest.mark.parametrize("companion_epochs", [0, 1])
def test_a_registor_shows_what_it_is_worth_before_it_teaches_or_when_it_begins_to(
    companion_epochs: int, nnunet_root: Path, tmp_path: Path
):
    numbers = {"num_epochs": 3, "warmup_epochs": 0, "companion_epochs": companion_epochs}
    trainer = make_trainer(nnunet_root, tmp_path, NAME, **numbers)
    run_epochs(trainer, 3)
    log = Path(trainer.log_file).read_text()
    assert log.count("The registor on held-out annotations") == 1
    assert log.index("The registor on held-out annotations") < log.index("Epoch 1")


def test_a_gradient_that_is_nan_spoils_no_weights(nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerBCE")
    quietly(trainer.on_train_start)
    before = weights(trainer)
    parameter = next(trainer.network.parameters())
    parameter.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(
        NonFiniteLoss, match='epoch 0: the loss "the gradient of a finite loss" is nan'
    ):
        trainer.train_step(next(trainer.dataloader_train))
    assert all(torch.equal(value, before[name]) for name, value in weights(trainer).items())
