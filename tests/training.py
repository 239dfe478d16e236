"""Making and running trainers in tests, the way nnUNetv2_train does but in this process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import DATASET, PREREGISTERED, TUMOURS

QUICK = {
    "num_epochs": 4,
    "num_iterations_per_epoch": 3,
    "num_val_iterations_per_epoch": 1,
    "save_every": 1,
    "seed": 7,
}

NUMBERS = {
    "nnUNetTrainerDI2INAN": {"warmup_epochs": 2, "companion_steps": 2, "companion_batch_size": 4}
}
"""What a trainer needs to go through its phases within four epochs of three iterations."""


def find_trainer(name: str) -> Any:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    with contextlib.redirect_stdout(io.StringIO()):
        return recursive_find_trainer_class_by_name(name)


DATASETS = {"one_view": PREREGISTERED, "image_alone": TUMOURS}
DI2IN = {
    "network_class_name": "nnunet_liver_ext.networks.di2in.DI2IN",
    "arch_kwargs": {
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]],
        "features_per_stage": [4, 8, 8, 8],
        "n_conv_per_stage": 1,
    },
    "_kw_requires_import": [],
}
"""The architecture of a tiny configuration."""


def dataset_of(trainer_name: str) -> str:
    import nnunet_liver_ext.trainers as package

    trainer = getattr(package, trainer_name, None)  # None: one of nnU-Net's own
    return DATASET if trainer is None else DATASETS.get(trainer.recipe.strategy, DATASET)


def read_inputs(
    root: Path, trainer_name: str, configuration: Mapping[str, Any] | None = None, **numbers: Any
) -> tuple[dict, dict]:
    """plans (with recipe numbers, and other entries of the configuration) and dataset.json for a
    trainer."""
    folder = root / "preprocessed" / dataset_of(trainer_name)
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["configurations"]["3d_fullres"]["recipe"] = {**QUICK, **numbers}
    if "DI2IN" in trainer_name:
        plans["configurations"]["3d_fullres"]["architecture"] = DI2IN
    plans["configurations"]["3d_fullres"] |= configuration or {}
    plans["continue_training"] = False
    return plans, json.loads((folder / "dataset.json").read_text())


def make_trainer(
    root: Path,
    results: Path,
    name: str,
    configuration: Mapping[str, Any] | None = None,
    **numbers: Any,
) -> Any:
    """A trainer on the CPU whose results go to `results`."""
    plans, dataset_json = read_inputs(root, name, configuration, **numbers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_results", str(results))
        return quietly(
            find_trainer(name), plans, "3d_fullres", 0, dataset_json, torch.device("cpu")
        )


def run_epochs(trainer: Any, last: int, *, end: bool = False) -> None:
    """Trains until epoch `last` as nnU-Net's run_training would; `end` writes the final checkpoint
    too."""

    def run() -> None:
        trainer.on_train_start()
        try:
            for _ in range(trainer.current_epoch, last):
                run_one_epoch(trainer)
        finally:
            if end:
                trainer.on_train_end()
            else:
                trainer.dataloader_train._finish()
                trainer.dataloader_val._finish()

    quietly(run)


def run_one_epoch(trainer: Any) -> None:
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    outputs = [
        trainer.train_step(next(trainer.dataloader_train))
        for _ in range(trainer.num_iterations_per_epoch)
    ]
    trainer.on_train_epoch_end(outputs)
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        outputs = [
            trainer.validation_step(next(trainer.dataloader_val))
            for _ in range(trainer.num_val_iterations_per_epoch)
        ]
        trainer.on_validation_epoch_end(outputs)
    trainer.on_epoch_end()


def quietly(function: Any, *args: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*args)


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}
