"""Ordinary datasets may have regions and an ignore label, which nnU-Net's losses and scores
know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import find_trainer, quietly, read_inputs, run_one_epoch

REGIONS = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}
IGNORE = {"labels": {"background": 0, "liver": 1, "ignore": 2}}
BOTH = {"labels": {"background": 0, "whole": [1], "ignore": 2}, "regions_class_order": [1]}
CASES = {"regions": REGIONS, "ignore": IGNORE, "both": BOTH}


@pytest.fixture(params=CASES)
def trainer(request, nnunet_root: Path, tmp_path: Path) -> Any:
    plans, dataset_json = read_inputs(
        nnunet_root, "nnUNetTrainerLiver", num_epochs=1, num_iterations_per_epoch=1
    )
    dataset_json |= CASES[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_results", str(tmp_path))
        made = quietly(
            find_trainer("nnUNetTrainerLiver"),
            plans,
            "3d_fullres",
            0,
            dataset_json,
            torch.device("cpu"),
        )
    quietly(made.initialize)
    return made


def test_the_same_loss_and_counts_as_nnunets(trainer):
    """On one batch, our validation step equals nnU-Net's."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    generator = torch.Generator().manual_seed(0)
    manager = trainer.label_manager
    channels = (
        manager.num_segmentation_heads + manager.has_ignore_label if manager.has_regions else 1
    )
    largest = 2 if manager.has_regions else 3
    sizes = [(16, 32, 32), (16, 16, 16), (8, 8, 8)]
    batch = {
        "data": torch.randn(2, 2, 16, 32, 32, generator=generator),
        "target": [
            torch.randint(0, largest, (2, channels, *size), generator=generator) for size in sizes
        ],
    }
    trainer.network.eval()
    with torch.no_grad():
        ours = trainer.validation_step(
            {**batch, "target": [level.clone() for level in batch["target"]]}
        )
        called_by_nnunet = nnUNetTrainer.validation_step(
            trainer, {**batch, "target": [level.clone() for level in batch["target"]]}
        )
        trainer.loss = nnUNetTrainer._build_loss(trainer)
        theirs = nnUNetTrainer.validation_step(trainer, batch)
    assert float(called_by_nnunet["loss"]) == pytest.approx(float(ours["loss"]), rel=1e-6)
    assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-5)
    for name in ("tp_hard", "fp_hard", "fn_hard"):
        np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.parametrize("trainer", ["regions"], indirect=True)
def test_an_epoch_goes_through(trainer):
    def run() -> None:
        trainer.on_train_start()
        try:
            run_one_epoch(trainer)
        finally:
            trainer.dataloader_train._finish()
            trainer.dataloader_val._finish()

    quietly(run)
    assert np.isfinite(trainer.logger.get_value("val_losses", -1))
