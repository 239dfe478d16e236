"""Which state a training ends with, and what it was the best of."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnunet_liver_ext.errors import InputError
from tests.training import make_trainer, quietly, run_epochs, run_one_epoch, weights


def train(trainer: Any, dice: list[float]) -> list[dict[str, torch.Tensor]]:
    """Trains one epoch for each pseudo Dice that its validation is said to have had; the weights
    after each."""
    after = []

    def run() -> None:
        trainer.on_train_start()
        for value in dice:
            original = trainer.validation_step

            def said(batch: dict, value: float = value, original: Any = original) -> dict:
                right, wrong = (
                    (0.0, 0.0) if math.isnan(value) else (value, 1 - value)
                )  # 0 / 0 has no Dice
                counts = {
                    "tp_hard": np.full(2, right),
                    "fp_hard": np.full(2, wrong),
                    "fn_hard": np.full(2, wrong),
                }
                return {**original(batch), **counts}

            trainer.validation_step = said
            run_one_epoch(trainer)
            trainer.validation_step = original
            after.append(weights(trainer))
        trainer.on_train_end()

    quietly(run)
    return after


def checkpoint(trainer: Any, name: str) -> dict:
    return torch.load(Path(trainer.output_folder) / name, weights_only=False)


@pytest.mark.parametrize(("best_by", "best"), [("epoch", 1), ("moving_average", 2)])
def test_the_best_epoch_is_kept(nnunet_root: Path, tmp_path: Path, best_by: str, best: int):
    """.2, .6, .58: the second is the best one, the third has the highest moving average."""
    options = {"num_epochs": 3, "num_iterations_per_epoch": 1, "best_by": best_by, "keep": "best"}
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerSingleInput", **options)
    after = train(trainer, [0.2, 0.6, 0.58])
    final = checkpoint(trainer, "checkpoint_final.pth")
    assert checkpoint(trainer, "checkpoint_best.pth")["current_epoch"] == best + 1
    for name, value in final["network_weights"].items():
        assert torch.equal(value, after[best][name]), name
    assert (
        f"The state after epoch {best} was the best one and is kept"
        in Path(trainer.log_file).read_text()
    )
    quietly(trainer.perform_actual_validation)
    summary = json.loads((Path(trainer.output_folder) / "validation" / "summary.json").read_text())
    assert summary["checkpoint_was_chosen_on_these_cases"]


NO_DICE = pytest.mark.filterwarnings(
    "ignore:invalid value encountered", "ignore:Mean of empty slice"
)
"""nnU-Net's 0 / 0 where a class is neither there nor predicted, and its mean over nothing."""


@NO_DICE
@pytest.mark.parametrize("best_by", ["epoch", "moving_average"])
@pytest.mark.parametrize(
    ("dice", "best"),
    [([math.nan, 0.5, 0.8], 2), ([0.2, math.nan, 0.9], 2), ([0.0, math.nan, math.nan], 0)],
)
def test_an_epoch_without_a_score_is_never_the_best(
    nnunet_root: Path, tmp_path: Path, best_by: str, dice: list[float], best: int
):
    options = {"num_epochs": 3, "num_iterations_per_epoch": 1, "best_by": best_by, "keep": "best"}
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerSingleInput", **options)
    after = train(trainer, dice)
    assert checkpoint(trainer, "checkpoint_best.pth")["current_epoch"] == best + 1
    name, value = next(iter(after[best].items()))
    assert torch.equal(checkpoint(trainer, "checkpoint_final.pth")["network_weights"][name], value)


@NO_DICE
def test_without_any_score_the_last_state_is_kept(nnunet_root: Path, tmp_path: Path):
    options = {"num_epochs": 2, "num_iterations_per_epoch": 1, "keep": "best"}
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerSingleInput", **options)
    after = train(trainer, [math.nan, math.nan])
    assert not trainer.kept_best
    final = checkpoint(trainer, "checkpoint_final.pth")["network_weights"]
    assert all(torch.equal(value, after[-1][name]) for name, value in final.items())
    assert (
        "no epoch of this training has a score, or none was saved"
        in Path(trainer.log_file).read_text()
    )


def test_a_kept_state_is_known_as_such_later(nnunet_root: Path, tmp_path: Path):
    options = {"num_epochs": 2, "num_iterations_per_epoch": 1, "keep": "best"}
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerSingleInput", **options)
    train(trainer, [0.9, 0.1])
    final = str(Path(trainer.output_folder) / "checkpoint_final.pth")
    validating = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerSingleInput", **options)
    quietly(validating.load_checkpoint, final)
    assert validating.kept_best
    longer = make_trainer(
        nnunet_root, tmp_path, "nnUNetTrainerSingleInput", **{**options, "num_epochs": 4}
    )
    with pytest.raises(
        InputError, match=r"checkpoint_final.pth: is the best state of a finished training"
    ):
        quietly(longer.load_checkpoint, final)


def test_the_last_epoch_is_kept_otherwise(nnunet_root: Path, tmp_path: Path):
    options = {"num_epochs": 2, "num_iterations_per_epoch": 1}
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerSingleInput", **options)
    after = train(trainer, [0.9, 0.1])
    final = checkpoint(trainer, "checkpoint_final.pth")
    assert all(
        torch.equal(value, after[-1][name]) for name, value in final["network_weights"].items()
    )
    assert trainer.loaded_checkpoint == "checkpoint_final.pth"


def test_random_crops_reach_the_network(nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(
        nnunet_root,
        tmp_path,
        "nnUNetTrainerSingleInput",
        num_epochs=1,
        crop_sizes=4,
        smallest_crop=0.5,
    )
    sizes = set()
    step = trainer.train_step

    def seen(batch: dict) -> dict:
        sizes.add(tuple(batch["data"].shape[2:]))
        scales = [
            [n / f for n, f in zip(batch["data"].shape[2:], s, strict=True)]
            for s in ((1, 1, 1), (1, 2, 2), (2, 4, 4))
        ]
        assert [list(level.shape[2:]) for level in batch["target"]] == scales
        return step(batch)

    trainer.train_step = seen
    trainer.num_iterations_per_epoch = 12
    run_epochs(trainer, 1)
    assert len(sizes) == 4
    assert (16, 32, 32) in sizes
    assert max(z * y * x for z, y, x in sizes) == 16 * 32 * 32
