"""Trainings that are interrupted and continued, beside the same without a break.

The batches must be the same. On a GPU losses are not bitwise the same, so the difference that the
interruption makes is set beside that of two trainings without one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gpu_stages.small_datasets import use_datasets
from gpu_stages.small_trainings import (
    Record,
    largest_difference,
    make_trainer,
    quietly,
    run_epochs,
    trainer_names,
)
from gpu_stages.stage import OK, VERDICT, Row, Setting, short_reason

EPOCHS, INTERRUPTED_AFTER = 4, 2
NUMBERS: dict[str, Any] = {
    "num_epochs": EPOCHS,
    "num_iterations_per_epoch": 3,
    "num_val_iterations_per_epoch": 1,
    "save_every": 1,
}
PHASES = {"nnUNetTrainerDI2INAN": {"warmup_epochs": 2}}
"""Its own are the paper's 200 epochs."""
FIRST = ("nnUNetTrainerSingleInput", "nnUNetTrainerGAN", "nnUNetTrainerSimilarity")
"""The most different ones come first."""
PROCESSES = 6
TIMES, FLOOR = 4.0, 1e-3
"""An interruption may make so many times the difference between two runs, and always this much."""


def measure(setting: Setting) -> Iterator[Row]:
    """A row for each trainer."""
    from nnunet_liver_ext.workers import run_in_processes

    root = use_datasets(setting)
    os.environ.setdefault("nnUNet_n_proc_DA", "2")
    names = sorted(trainer_names(setting), key=lambda name: name not in FIRST)
    processes = 1 if setting.tiny else max(1, min(PROCESSES, (os.cpu_count() or 1) // 2))
    work = partial(compare_interrupted, root, setting.device)
    for _, row in run_in_processes(work, names, processes):
        yield row


def compare_interrupted(root: Path, device: str, name: str) -> Row:
    """The row of a trainer; an error becomes its verdict."""
    row: Row = {"trainer": name.removeprefix("nnUNetTrainer")}
    try:
        with quietly(), tempfile.TemporaryDirectory() as folder:
            first, second = (
                train(root, Path(folder) / run, name, device, interrupted=False)
                for run in ("first", "second")
            )
            interrupted = train(root, Path(folder) / "third", name, device, interrupted=True)
        same = first.batches == second.batches == interrupted.batches
        between_runs = largest_difference(second.losses, first.losses)
        by_interruption = largest_difference(interrupted.losses, first.losses)
        row |= {
            "batches": f"{len(first.batches)}, {'the same' if same else 'DIFFERENT'}",
            "between two runs": between_runs,
            "interrupted": by_interruption,
            VERDICT: judge(same, between_runs, by_interruption),
        }
    except Exception as error:
        row[VERDICT] = short_reason(error)
    return row


def judge(same_batches: bool, between_runs: float, by_interruption: float) -> str:
    """OK, or what the interruption has changed."""
    if not same_batches:
        return "other batches"
    if not by_interruption <= max(FLOOR, TIMES * between_runs):
        return f"losses differ by {by_interruption:.2g}"
    return OK


def train(root: Path, results: Path, name: str, device: str, *, interrupted: bool) -> Record:
    """Four epochs; if interrupted, the last two by another trainer from the first's checkpoint."""
    record, numbers = Record(), {**NUMBERS, **PHASES.get(name, {})}
    trainer = make_trainer(root, results, name, device, **numbers)
    run_epochs(trainer, INTERRUPTED_AFTER if interrupted else EPOCHS, record)
    if interrupted:
        trainer = make_trainer(root, results, name, device, **numbers)
        trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
        run_epochs(trainer, EPOCHS, record)
    return record
