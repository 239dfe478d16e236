"""Trainers on the small datasets, and their epochs as nnUNetv2_train runs them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpu_stages.small_datasets import ONE_MASK, PAIRS, PATCH_SIZE, SPACING_MM, TUMOURS
from gpu_stages.stage import Setting

NUMBERS: dict[str, dict[str, Any]] = {
    "nnUNetTrainerDI2INAN": {"companion_steps": 2, "companion_batch_size": 4}
}
"""The paper's ten steps of the discriminator would only take longer."""


def trainer_names(setting: Setting) -> list[str]:
    """Every trainer of the package, or those asked for."""
    from nnunet_liver_ext import trainers

    unknown = sorted(set(setting.trainers) - set(trainers.__all__))
    if unknown:
        raise ValueError(f"there are no trainers {unknown}, only {sorted(trainers.__all__)}")
    return [name for name in trainers.__all__ if not setting.trainers or name in setting.trainers]


def make_trainer(
    root: Path, results: Path, name: str, device: str, *, compiled: bool = False, **numbers: Any
) -> Any:
    """An initialised trainer whose results go to `results`.

    Args:
        root: as `use_datasets` gave it.
        results: folder.
        name: of the trainer.
        device: cuda or cpu.
        compiled: with torch.compile, which nnU-Net has on CUDA only.
        numbers: of the recipe.
    """
    import torch

    from nnunet_liver_ext import trainers

    trainer_class = getattr(trainers, name)
    dataset = _dataset_of(trainer_class.recipe)
    folder = root / "preprocessed" / dataset
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    entry = plans["configurations"]["3d_fullres"]
    entry["recipe"] = {"seed": 7, **NUMBERS.get(name, {}), **numbers}
    if trainer_class.recipe.architecture == "DI2IN":
        entry["architecture"] = _tiny_di2in()
    os.environ |= {"nnUNet_results": str(results), "nnUNet_compile": "t" if compiled else "f"}
    trainer = trainer_class(
        {**plans, "continue_training": False},
        "3d_fullres",
        0,
        json.loads((folder / "dataset.json").read_text()),
        torch.device(device),
    )
    trainer.initialize()
    return trainer


def _dataset_of(recipe: Any) -> str:
    from nnunet_liver_ext.networks.strategies import STRATEGIES

    strategy = STRATEGIES[recipe.strategy]
    return PAIRS if strategy.is_pair else TUMOURS if strategy.strips_organ_mask else ONE_MASK


def _tiny_di2in() -> dict[str, Any]:
    from nnunet_liver_ext.planning.architectures import DI2IN, plans_entry

    sizes = DI2IN.tiny("3d_fullres", {})
    return plans_entry(DI2IN, SPACING_MM, PATCH_SIZE, sizes.arguments())


@dataclass
class Record:
    """What a training has seen and lost, step by step."""

    batches: list[str] = field(default_factory=list)
    """Digests of the images and labels of the loader's batches."""
    losses: list[dict[str, float]] = field(default_factory=list)
    """Loss terms of each iteration by name."""


def run_epochs(trainer: Any, last: int, record: Record) -> None:
    """Trains until epoch `last` as nnU-Net's run_training would, and ends the loaders."""
    trainer.on_train_start()
    trainer.dataloader_train = RecordingLoader(trainer.dataloader_train, record)
    try:
        for _ in range(trainer.current_epoch, last):
            _run_epoch(trainer, record)
    finally:
        for loader in (trainer.dataloader_train, trainer.dataloader_val):
            loader._finish()


def _run_epoch(trainer: Any, record: Record) -> None:
    import torch

    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    outputs = []
    for _ in range(trainer.num_iterations_per_epoch):
        outputs.append(trainer.train_step(next(trainer.dataloader_train)))
        record.losses.append(loss_terms(outputs[-1]))
    trainer.on_train_epoch_end(outputs)
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        outputs = [
            trainer.validation_step(next(trainer.dataloader_val))
            for _ in range(trainer.num_val_iterations_per_epoch)
        ]
        trainer.on_validation_epoch_end(outputs)
    trainer.on_epoch_end()


def loss_terms(output: dict[str, Any]) -> dict[str, float]:
    """The losses that a training step gives, by name."""
    kept = ("loss", "training loss: ")
    return {name: float(value) for name, value in output.items() if name.startswith(kept)}


def largest_difference(losses: list[dict[str, float]], others: list[dict[str, float]]) -> float:
    """Largest difference of the same loss of the same step, relative where losses are above 1.

    Infinite if a loss is not finite or exists on one side only.
    """
    if [set(step) for step in losses] != [set(step) for step in others]:
        return math.inf
    differences = [
        abs(step[name] - other[name]) / max(1.0, abs(other[name]))
        for step, other in zip(losses, others, strict=True)
        for name in step
    ]
    return max((math.inf if math.isnan(value) else value for value in differences), default=0.0)


class RecordingLoader:
    """A loader whose batches leave their digests in a record."""

    def __init__(self, loader: Any, record: Record) -> None:
        self.loader, self.record = loader, record

    def __next__(self) -> dict[str, Any]:
        batch = next(self.loader)
        self.record.batches.append(digest(batch))
        return batch

    def _finish(self) -> None:
        self.loader._finish()


def digest(batch: dict[str, Any]) -> str:
    """SHA-256 of a batch's images and labels."""
    target = batch["target"] if isinstance(batch["target"], list) else [batch["target"]]
    found = hashlib.sha256()
    for tensor in (batch["data"], *target):
        found.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
    return found.hexdigest()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what nnU-Net prints on standard output."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
