"""What one training step of every trainer costs, in time and memory, beside nnU-Net's own trainer
on the same plans.

    python benchmarks/step_time.py [--device cpu|cuda] [--repeats 5] [--trainers nnUNetTrainerGAN
    ...]

The plans are those that nnU-Net makes for pairs of 1.5 x 1.5 x 3 mm: on a GPU for whole livers (80
x 256 x 256 voxels), on a CPU for images of 32 x 64 x 64 voxels, with nnU-Net's own widths (32, 64,
128, 256, 320) and a batch of two pairs. The batch is made up and stays on its place, so that no
data loading is measured. Trainers with a companion network are measured in their last phase, in
which both play. On CUDA there are mixed precision and torch.compile as in nnU-Net.

Each trainer lives in a process of its own. In every round nnU-Net's trainer,
nnUNetTrainerSingleInput and the trainer take their steps one after the other, and a ratio is the
median of the ratios of the rounds, so that a machine that becomes slower or faster meanwhile does
not change it. Memory is the peak beyond what the process held before the trainer was made: on CUDA
torch.cuda.max_memory_allocated, on a CPU the resident memory that the operating system counts
(ru_maxrss).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from made_up_datasets import ONE_MASK, complete_dataset_json, pairs_content, write_dataset
from rich.console import Console
from rich.table import Table
from trainer_process import OF_ONE_MASK, STOCK, Player

SINGLE = "nnUNetTrainerSingleInput"
SPACING_MM = (3.0, 1.5, 1.5)
IMAGE_SIZE = {"cuda": (80, 256, 256), "cpu": (32, 64, 64)}
CASES = 20
"""nnU-Net sees no more than 5 % of a dataset in a batch: so few make its smallest batch, two."""
STEPS_PER_ROUND = {"cuda": 8, "cpu": 1}
TARGETS = {
    "nnUNetTrainerDualOutput": (1.05, STOCK),
    "nnUNetTrainerDualOutputSpecialized": (1.05, STOCK),
    SINGLE: (2.0, STOCK),
    "nnUNetTrainerBCE": (1.0, SINGLE),
    "nnUNetTrainerDice": (1.0, SINGLE),
    "nnUNetTrainerDiceBCE": (1.0, SINGLE),
    "nnUNetTrainerGAN": (1.35, SINGLE),
    "nnUNetTrainerEmbedding": (1.35, SINGLE),
    "nnUNetTrainerGambling": (1.6, SINGLE),
    "nnUNetTrainerSimilarity": (1.3, STOCK),
    "nnUNetTrainerSimilarityTranslation": (1.3, STOCK),
    "nnUNetTrainerSimilarityRigid": (1.3, STOCK),
    "nnUNetTrainerSimilarityAffine": (1.3, STOCK),
}
"""How many times as long as another trainer's step it may take."""


# ------------------------------------------------------------------ the measurement


@dataclass
class Measured:
    """Of one trainer: a step's time, and the peak of memory."""

    seconds: float
    bytes: float
    ratios: dict[str, float] = field(default_factory=dict)
    """Of the times, by the trainer that it is compared with."""
    memory_ratios: dict[str, float] = field(default_factory=dict)


def measure(
    names: Sequence[str],
    root: Path,
    device: str,
    *,
    repeats: int,
    threads: int,
    side_by_side: int = 1,
) -> Iterator[tuple[str, Measured | str]]:
    """Time and memory of every trainer as soon as they are known, or why there are none.

    Args:
        names: of trainers.
        root: where `write_plans` has written.
        device: cuda or cpu.
        repeats: rounds.
        threads: of torch in each process.
        side_by_side: so many trainers warm up (and are compiled) at the same time, and are in
            memory together; they take their steps one after the other.

    Raises:
        RuntimeError: one of the two trainers that all are compared with does not work.
    """
    references = [Player(name, root, device, threads) for name in (STOCK, SINGLE)]
    others = [name for name in names if name not in (STOCK, SINGLE)]
    groups = [others[i : i + side_by_side] for i in range(0, len(others), side_by_side)]
    try:
        for player in references:
            player.answer()
        found = _measure_group(references, [], device, repeats)
        yield from found.items()
        compared = {name: found[name].bytes for name in (STOCK, SINGLE)}
        for group in groups:
            players = [Player(name, root, device, threads) for name in group]
            ready = []
            for player in players:
                try:
                    player.answer()
                    ready.append(player)
                except RuntimeError as error:
                    yield player.name, str(error)
            try:
                if ready:
                    yield from _measure_group(references, ready, device, repeats, compared).items()
            finally:
                for player in players:
                    player.end()
    finally:
        for player in references:
            player.end()


def _measure_group(
    references: Sequence[Player],
    players: Sequence[Player],
    device: str,
    repeats: int,
    compared: Mapping[str, float] | None = None,
) -> dict[str, Measured]:
    """Rounds in which all take their steps one after the other; of the references if alone."""
    rounds = [
        {player.name: player.ask(STEPS_PER_ROUND[device]) for player in (*references, *players)}
        for _ in range(repeats)
    ]
    measured = {
        player.name: Measured(
            statistics.median(seconds[player.name] for seconds in rounds), player.ask(0)
        )
        for player in players or references
    }
    memory = compared or {name: measured[name].bytes for name in (STOCK, SINGLE)}
    for name, one in measured.items():
        for other in (STOCK, SINGLE):
            ratios = [seconds[name] / seconds[other] for seconds in rounds]
            one.ratios[other] = statistics.median(ratios)
            one.memory_ratios[other] = one.bytes / memory[other]
    return measured


def write_plans(root: Path, image_size: Sequence[int], gpu_memory_gb: float) -> dict[str, Any]:
    """Writes plans.json, and a dataset.json of pairs and one of one mask; returns the
    configuration."""
    from nnunet_liver_ext.console import quiet
    from nnunet_liver_ext.planning.nnunet_planners import NNUNetPlanner

    name = "Dataset501_StepTime"
    pairs = write_dataset(root, name, pairs_content(), CASES * [image_size], SPACING_MM)
    (root / "pairs.json").write_text(json.dumps(pairs))
    one_mask = complete_dataset_json(ONE_MASK, CASES)
    (root / "one_mask.json").write_text(json.dumps(one_mask))
    preprocessed = root / "preprocessed" / name
    (preprocessed / "nnUNetPlans_3d_fullres").mkdir()
    (preprocessed / "nnUNetPlans_3d_fullres" / "a.b2nd").touch()  # nnU-Net looks at the ending only
    with quiet():
        NNUNetPlanner(501, gpu_memory_target_in_gb=gpu_memory_gb).plan_experiment()
    text = (preprocessed / "nnUNetPlans.json").read_text()
    (root / "plans.json").write_text(text)
    return json.loads(text)["configurations"]["3d_fullres"]


def table_of(measured: dict[str, Measured]) -> Table:
    table = Table(title="One training step; ratios are medians of the rounds")
    for column in (
        "trainer",
        "step, s",
        "to stock",
        "to SingleInput",
        "memory, GB",
        "to stock",
        "to SingleInput",
        "target",
    ):
        table.add_column(column, justify="left" if column == "trainer" else "right")
    for name, one in measured.items():
        memory = [f"{one.memory_ratios[other]:.2f}" for other in (STOCK, SINGLE)]
        ratios = [f"{one.ratios[other]:.2f}" for other in (STOCK, SINGLE)]
        short = name.removeprefix(STOCK) or "nnU-Net's own"
        table.add_row(
            short,
            f"{one.seconds:.3f}",
            *ratios,
            f"{one.bytes / 1e9:.2f}",
            *memory,
            verdict(name, one),
        )
    return table


def verdict(name: str, one: Measured) -> str:
    """How long its step may take, and whether that is kept; empty where nothing is wanted."""
    if name not in TARGETS:
        return ""
    wanted, other = TARGETS[name]
    kept = round(one.ratios[other], 2) <= wanted
    return f"{'' if kept else 'MISSED '}{wanted:g} of {other.removeprefix(STOCK) or 'stock'}"


def measurable_trainers() -> list[str]:
    """Those that these plans are for: of pairs, or of two channels and one mask."""
    from nnunet_liver_ext import trainers
    from nnunet_liver_ext.networks.strategies import STRATEGIES

    return [
        name
        for name in trainers.__all__
        if name in OF_ONE_MASK or STRATEGIES[getattr(trainers, name).recipe.strategy].is_pair
    ]


def main() -> None:
    names = measurable_trainers()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of torch")
    parser.add_argument("--gpu-memory", type=float, default=8.0, help="GB that nnU-Net plans for")
    parser.add_argument(
        "--size", type=int, nargs=3, help="voxels of the images that are planned for (z y x)"
    )
    parser.add_argument(
        "--trainers",
        nargs="*",
        choices=names,
        default=names,
        metavar="TRAINER",
    )
    arguments = parser.parse_args()
    import torch

    console, measured = Console(width=125), {}
    with tempfile.TemporaryDirectory(prefix="step_time_") as folder:
        root = Path(folder)
        os.environ.update(
            {f"nnUNet_{kind}": str(root / kind) for kind in ("raw", "preprocessed", "results")}
        )
        os.environ["OMP_NUM_THREADS"] = str(
            arguments.threads
        )  # our trainers heed it, nnU-Net's own does not
        os.environ["OMP_WAIT_POLICY"] = (
            "passive"  # idle processes must leave the cores to the one that is measured
        )
        size = tuple(arguments.size or IMAGE_SIZE[arguments.device])
        plan = write_plans(root, size, arguments.gpu_memory)
        for name, figures in measure(
            arguments.trainers,
            root,
            arguments.device,
            repeats=arguments.repeats,
            threads=arguments.threads,
        ):
            if isinstance(figures, str):
                console.print(figures)
            else:
                measured[name] = figures
    console.print(table_of(measured))
    where = (
        torch.cuda.get_device_name()
        if arguments.device == "cuda"
        else f"CPU, {arguments.threads} threads"
    )
    console.print(
        f"{where}, Python {platform.python_version()}, torch {torch.__version__}; patch"
        f" {plan['patch_size']}, batch {plan['batch_size']} pairs, features"
        f" {plan['architecture']['arch_kwargs']['features_per_stage']}, {arguments.repeats} rounds"
        f" of {STEPS_PER_ROUND[arguments.device]} steps."
    )


if __name__ == "__main__":
    main()
