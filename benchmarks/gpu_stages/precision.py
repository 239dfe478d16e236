"""Mixed precision and torch.compile of every trainer: are the losses those of float32?

Each trainer takes a few steps in the phase in which all its networks learn, three times from the
same weights and on the same batches: in float32 without TF32, in mixed precision, and in mixed
precision compiled, which is what nnU-Net does on CUDA. The first step is compared before anything
was learned, so that its difference is that of the arithmetic. In the later steps differences grow,
the more if the gradient scaler leaves out steps, as it does at the beginning; they must be finite.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from gpu_stages.small_datasets import use_datasets
from gpu_stages.small_trainings import (
    largest_difference,
    loss_terms,
    make_trainer,
    quietly,
    trainer_names,
)
from gpu_stages.stage import OK, VERDICT, Row, Setting, short_reason

STEPS = 4
FIRST_STEP = 0.01
"""Largest difference of a loss in the first step."""
PROCESSES = 5
LAST_PHASE = {"warmup_epochs": 0, "companion_epochs": 0}


@dataclass(frozen=True)
class Way:
    """A way to compute the same steps."""

    name: str
    mixed: bool = True
    compiled: bool = False


FLOAT32 = Way("float32", mixed=False)
WAYS = {"cuda": (Way("mixed"), Way("compiled", compiled=True)), "cpu": (Way("again"),)}
"""What is set beside float32; on a CPU there is nothing but the same once more."""


def measure(setting: Setting) -> Iterator[Row]:
    """A row for each trainer."""
    from nnunet_liver_ext.workers import run_in_processes

    root = use_datasets(setting)
    names = trainer_names(setting)
    processes = 1 if setting.tiny else max(1, min(PROCESSES, (os.cpu_count() or 1) // 3))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")
    work = partial(compare_ways, root, setting.device)
    for _, row in run_in_processes(work, names, processes):
        yield row


def compare_ways(root: Path, device: str, name: str) -> Row:
    """The row of a trainer; an error becomes its verdict."""
    row: Row = {"trainer": name.removeprefix("nnUNetTrainer")}
    try:
        expected, _ = losses_of(root, device, name, FLOAT32)
        row["float32"] = expected[0]["loss"]
        verdicts = []
        for way in WAYS[device]:
            losses, skipped = losses_of(root, device, name, way)
            first = largest_difference(losses[:1], expected[:1])
            later = largest_difference(losses, expected)
            row |= {f"{way.name}, first step": first, f"{way.name}, {STEPS} steps": later}
            row[f"{way.name}, left out"] = skipped
            verdicts.append(judge(way.name, first, later))
        row[VERDICT] = "; ".join(filter(None, verdicts)) or OK
    except Exception as error:
        row[VERDICT] = short_reason(error)
    return row


def judge(way: str, first: float, later: float) -> str:
    """What is wrong with a way's differences to float32; empty if nothing is."""
    if not math.isfinite(later):
        return f"{way}: a loss is not finite or is missing"
    return "" if first <= FIRST_STEP else f"{way}: differs by {first:.2g} in the first step"


def losses_of(root: Path, device: str, name: str, way: Way) -> tuple[list[dict[str, float]], int]:
    """The loss terms of each step, and how many steps the segmentor's scaler has left out."""
    import torch

    if device == "cuda":  # code of earlier trainers
        torch._dynamo.reset()
    with quietly(), tempfile.TemporaryDirectory() as results, use_precision(mixed=way.mixed):
        trainer = make_trainer(
            root, Path(results), name, device, compiled=way.compiled, **LAST_PHASE
        )
        trainer.network.train()
        trainer.objective.train()
        with patch.dict(os.environ, {"nnUNet_n_proc_DA": "0"}):  # batches are made in this process
            trainer.dataloader_train, _ = trainer.get_dataloaders()
        losses = []
        with _same_random_numbers(compiled=way.compiled):
            for step in range(STEPS):
                batch = next(trainer.dataloader_train)
                torch.manual_seed(step)  # of the swaps of images
                losses.append(loss_terms(trainer.train_step(batch)))
        return losses, count_left_out(trainer.grad_scaler)


@contextlib.contextmanager
def use_precision(*, mixed: bool) -> Iterator[None]:
    """Without `mixed`, autocast on CUDA means float32, and convolutions do without TF32."""
    import torch

    flags = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    kind = torch.get_autocast_dtype("cuda")
    if not mixed:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.set_autocast_dtype("cuda", torch.float32)
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = flags
        torch.set_autocast_dtype("cuda", kind)


@contextlib.contextmanager
def _same_random_numbers(*, compiled: bool) -> Iterator[None]:
    """Compiled code draws the random numbers that it would draw uncompiled."""
    if not compiled:
        yield
        return
    from torch._inductor import config

    with config.patch(fallback_random=True):
        yield


def count_left_out(scaler: Any) -> int:
    """Steps with an overflow; each halves the scaler's factor, which is 65536 at first."""
    return 0 if scaler is None else round(math.log2(65536.0 / scaler.get_scale()))
