"""Figure 3 of Couteaux et al. 2021, "Cooperating networks": λr tunes similarity against accuracy.

A segmentor and a registor are trained once for each seed; from them one model for each λp is
trained with λr = 1 − λp and λg = 1. For every test pair the gain is D_S(prediction) −
D_S(annotation), relative to translations. Everything runs through stock nnU-Net commands; the
models are configurations of one plans file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.benchmark.similarity_toy.figure import write_results
from nnunet_liver_ext.benchmark.workspace import Workspace
from nnunet_liver_ext.console import progress_bar
from nnunet_liver_ext.json_files import read_json

TRAINER = "nnUNetTrainerSimilarityTranslation"
DATASET = 601


def lambda_p_values(models: int) -> tuple[float, ...]:
    """λp from 0 to 1 for so many models."""
    return tuple(float(value) for value in np.linspace(0, 1, models).round(3))


@dataclass(frozen=True)
class ToyScale:
    """How large the experiment is.

    The paper gives the image size, the shift and the number of models, nothing else.
    """

    size: int = 240
    """Pixels; the largest shift is the paper's 32 of 240, in smaller images the same share."""
    pairs: int = 300
    test_pairs: int = 100
    difference: float | None = None
    """How unlike the two masks of a pair are (`dataset_conversion.toy`); None: its default."""
    lambda_p: tuple[float, ...] = lambda_p_values(30)
    """A model for each."""
    batch_size: int = 8
    warmup_epochs: int = 40
    companion_epochs: int = 10
    joint_epochs: int = 40
    iterations: int = 100
    """Steps of an epoch."""
    tiny: bool = False
    """Tiny networks instead of those that nnU-Net plans."""


PAPER = ToyScale()
QUICK = ToyScale(
    size=64,
    difference=0.12,
    test_pairs=60,
    lambda_p=(0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0),
    warmup_epochs=15,
    companion_epochs=2,
    joint_epochs=6,
    tiny=True,
)
"""Two CPU cores."""


@dataclass(frozen=True)
class ToySettings:
    """Where the experiment is done, and how."""

    out: Path
    scale: ToyScale = PAPER
    seeds: int = 1
    device: str = "cuda"
    jobs: int = 1
    """Trainings at a time."""


def run_similarity_toy(settings: ToySettings, console: Console) -> pd.DataFrame:
    """Runs every step that is not done yet; writes results.csv, results.md and figure.png.

    Returns:
        Tidy: seed, lambda_r, case, metric, value.

    Raises:
        InputError: a step failed, or the folder was begun with other settings.
    """
    sweep = _Sweep(settings, console)
    step = sweep.workspace.run_step
    step("writing the toy dataset", sweep.convert)
    step("planning", sweep.plan)
    step("nnUNetv2_preprocess", lambda: sweep.workspace.preprocess(DATASET, "2d"))
    sweep.train("segmentor and registor", [sweep.pretraining_name(seed) for seed in sweep.seeds])
    sweep.train(
        "a model for each λp", [name for seed in sweep.seeds for name in sweep.model_names(seed)]
    )
    table = step("evaluating the test pairs", sweep.evaluate)
    write_results(table, settings.out)
    return table


class _Sweep:
    def __init__(self, settings: ToySettings, console: Console) -> None:
        self.settings, self.scale = settings, settings.scale
        described = {
            **vars(settings.scale),
            "lambda_p": "",
        }  # more seeds and more models may be added
        self.workspace = Workspace(settings.out, console, described)
        self.workspace.environment["OMP_NUM_THREADS"] = str(
            max(1, (os.cpu_count() or 1) // settings.jobs)
        )
        self.seeds = range(1, settings.seeds + 1)

    def convert(self) -> Path:
        from nnunet_liver_ext.dataset_conversion.toy import write_toy_dataset

        scale = self.scale
        options: dict[str, Any] = (
            {} if scale.difference is None else {"difference": scale.difference}
        )
        made_before = list(self.workspace.raw.glob(f"Dataset{DATASET}_*"))
        if made_before:
            return made_before[0]
        return write_toy_dataset(
            DATASET, pairs=scale.pairs, test_pairs=scale.test_pairs, size=scale.size, **options
        )

    def plan(self) -> Path:
        """nnU-Net's plans with a configuration for each training."""
        from nnunet_liver_ext.dataset_conversion.toy import scaled_max_shift
        from nnunet_liver_ext.planning.plan_dataset import plan_dataset, plans_file

        path = plans_file(DATASET, "nnUNetPlans")
        numbers: dict[str, Any] = {
            "batch_size": self.scale.batch_size,
            "num_iterations_per_epoch": self.scale.iterations,
            "num_val_iterations_per_epoch": 4,
            "save_every": 1,
            "augmentation": "none",  # rotated or scaled, the patterns would mean something else
            "mirroring": False,
            "optimizer": "adam",
            "initial_lr": 2e-3,
            "joint_lr": 1e-3,
            "joint_companion_lr": 5e-4,
            "weight_decay": 0.0,
            "max_shift_voxels": float(scaled_max_shift(self.scale.size)),
            "lambda_g": 1.0,
        }
        numbers |= {"patch_size": [self.scale.size] * 2} if self.scale.tiny else {}
        plan_dataset(DATASET, tiny=self.scale.tiny, numbers=numbers, base="2d", processes=2)
        known = read_json(path)["configurations"]
        for seed in self.seeds:
            for name, variant in {
                self.pretraining_name(seed): self._pretraining_numbers(seed),
                **self._sweep_numbers(seed),
            }.items():
                if name not in known:
                    plan_dataset(DATASET, numbers=variant, name=name, base="2d")
        return path

    def pretraining_name(self, seed: int) -> str:
        return f"pretraining_seed{seed}"

    def model_names(self, seed: int) -> list[str]:
        return [model_name(lambda_p, seed) for lambda_p in self.scale.lambda_p]

    def _pretraining_numbers(self, seed: int) -> dict[str, Any]:
        warmup, alone = self.scale.warmup_epochs, self.scale.companion_epochs
        return {
            "num_epochs": warmup + alone,
            "warmup_epochs": warmup,
            "companion_epochs": alone,
            "seed": seed,
        }

    def _sweep_numbers(self, seed: int) -> dict[str, dict[str, Any]]:
        model = self.workspace.model_folder(
            DATASET, TRAINER, self.pretraining_name(seed)
        ).relative_to(self.workspace.results)
        start = str(model / "fold_{fold}" / "checkpoint_final.pth")
        common: dict[str, Any] = {
            "num_epochs": self.scale.joint_epochs,
            "warmup_epochs": 0,
            "companion_epochs": 0,
        }
        common |= {"segmentor_checkpoint": start, "companion_checkpoint": start, "seed": seed}
        return {
            model_name(lambda_p, seed): {
                **common,
                "lambda_p": lambda_p,
                "lambda_r": round(1 - lambda_p, 3),
            }
            for lambda_p in self.scale.lambda_p
        }

    def train(self, what: str, configurations: Sequence[str]) -> None:
        """Trains what is not trained yet, `jobs` at a time."""

        def train(configuration: str) -> None:
            log = f"logs/{configuration}.txt"
            self.workspace.train(DATASET, TRAINER, configuration, self.settings.device, log=log)

        with progress_bar() as bar, ThreadPoolExecutor(self.settings.jobs) as pool:
            task = bar.add_task(f"training {what}", total=len(configurations))
            for _ in pool.map(train, configurations):
                bar.advance(task)

    def evaluate(self) -> pd.DataFrame:
        import torch

        from nnunet_liver_ext.benchmark.similarity_toy.scores import read_test_pairs, score_model
        from nnunet_liver_ext.dataset_conversion.toy import scaled_max_shift

        pairs = read_test_pairs(self.workspace.raw, DATASET)
        max_shift = float(scaled_max_shift(self.scale.size))
        tables = []
        for seed in self.seeds:
            for lambda_p, name in zip(self.scale.lambda_p, self.model_names(seed), strict=True):
                folder = self.workspace.model_folder(DATASET, TRAINER, name)
                done = folder / "toy_scores.csv"
                if not done.exists():
                    scores = score_model(
                        folder, pairs, torch.device(self.settings.device), max_shift=max_shift
                    )
                    with atomic_write(done) as unfinished:
                        scores.to_csv(unfinished, index=False)
                scores = pd.read_csv(done)
                tables.append(scores.assign(seed=seed, lambda_r=round(1 - lambda_p, 3)))
        return pd.concat(tables, ignore_index=True)


def model_name(lambda_p: float, seed: int) -> str:
    """Name of the configuration, and so of the model's folder."""
    return f"lambda_p_{lambda_p:.3f}_seed{seed}"


def change_scale(scale: ToyScale, **changes: Any) -> ToyScale:
    """The scale with other numbers; what is None stays."""
    return replace(scale, **{name: value for name, value in changes.items() if value is not None})
