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
import contextlib
import gc
import json
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

STOCK, SINGLE = "nnUNetTrainer", "nnUNetTrainerSingleInput"
SPACING_MM = (3.0, 1.5, 1.5)
IMAGE_SIZE = {"cuda": (80, 256, 256), "cpu": (32, 64, 64)}
CASES = 20
"""nnU-Net sees no more than 5 % of a dataset in a batch: so few make its smallest batch, two."""
WARM_UP_STEPS = {"cuda": 20, "cpu": 2}
STEPS_PER_ROUND = {"cuda": 20, "cpu": 1}
LONGEST_ANSWER_S = 900
"""A compilation takes minutes."""

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


# ------------------------------------------------------------------ a trainer in its process


def serve(connection: Connection, name: str, root: str, device: str, threads: int) -> None:
    """Makes a trainer; then answers a number of steps with the seconds of one, and 0 with the peak
    memory in bytes."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        import torch

        import nnunet_liver_ext.trainers  # noqa: F401  (imported before memory is looked at, with all of nnU-Net)

        torch.set_num_threads(threads)
        held = _memory(device)
        trainer, batch = _make_trainer(name, Path(root), torch.device(device))
        while True:
            steps = connection.recv()
            connection.send(
                _seconds_per_step(trainer, batch, steps, device)
                if steps
                else _memory(device) - held
            )


def _make_trainer(name: str, root: Path, device: Any) -> tuple[Any, dict[str, Any]]:
    import nnunetv2.training.nnUNetTrainer.nnUNetTrainer as stock

    from nnunet_liver_ext import trainers

    plans = json.loads((root / "plans.json").read_text())
    kind = "ordinary" if name == "nnUNetTrainerPreregistered" else "pairs"
    dataset_json = json.loads((root / f"{kind}.json").read_text())
    plans["configurations"]["3d_fullres"]["recipe"] = {
        "warmup_epochs": 0,
        "companion_epochs": 0,
        "seed": 1,
    }
    plans["continue_training"] = False
    trainer_class = stock.nnUNetTrainer if name == STOCK else getattr(trainers, name)
    trainer = trainer_class(plans, "3d_fullres", 0, dataset_json, device)
    trainer.initialize()
    trainer.network.train()
    return trainer, _make_batch(trainer, len(dataset_json["labels"]))


def _make_batch(trainer: Any, num_labels: int) -> dict[str, Any]:
    """Noise, and labels of two balls that overlap (codes 0 to 3 of a pair) or of one."""
    import torch
    from torch.nn import functional

    size, batch_size = (
        trainer.configuration_manager.patch_size,
        trainer.configuration_manager.batch_size,
    )
    torch.manual_seed(0)
    data = torch.randn(batch_size, 2, *size)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in size], indexing="ij")
    balls = [
        torch.stack([(axis - centre) ** 2 for axis in axes]).sum(0) < 0.4 for centre in (-0.1, 0.1)
    ]
    labels = balls[0].float() + (2 * balls[1].float() if num_labels == 4 else 0)
    labels = labels.expand(batch_size, 1, *size)
    scales = trainer._get_deep_supervision_scales()
    target = [
        functional.interpolate(labels, scale_factor=tuple(scale)).to(torch.int16)
        for scale in scales
    ]
    if trainer.device.type == "cuda":
        data, target = data.pin_memory(), [level.pin_memory() for level in target]
    return {"data": data, "target": target}


def _seconds_per_step(trainer: Any, batch: dict[str, Any], steps: int, device: str) -> float:
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else gc.collect
    wait()
    start = time.perf_counter()
    for _ in range(steps):
        trainer.train_step(batch)
    if device == "cuda":
        wait()
    return (time.perf_counter() - start) / steps


def _memory(device: str) -> int:
    """Peak so far, in bytes."""
    import torch

    return (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )


# ------------------------------------------------------------------ the measurement


class Player:
    """The other end of a trainer's process."""

    def __init__(self, name: str, root: Path, device: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.name, arguments = name, (theirs, name, str(root), device, threads)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self.ask(WARM_UP_STEPS[device])

    def ask(self, steps: int) -> float:
        self.connection.send(steps)
        if not self.connection.poll(LONGEST_ANSWER_S):
            raise TimeoutError(f"{self.name} has not answered for {LONGEST_ANSWER_S} s.")
        return self.connection.recv()

    def end(self) -> None:
        self.process.terminate()
        self.process.join()


@dataclass
class Measured:
    """Of one trainer; ratios by the trainer that it is compared with."""

    seconds: float
    bytes: float
    ratios: dict[str, float] = field(default_factory=dict)


def measure(
    names: list[str], root: Path, device: str, *, repeats: int, threads: int
) -> dict[str, Measured]:
    """Time and memory of every trainer."""
    references = [Player(name, root, device, threads) for name in (STOCK, SINGLE)]
    measured = {}
    for name in (STOCK, SINGLE, *(name for name in names if name != SINGLE)):
        is_reference = name in (STOCK, SINGLE)
        players = references if is_reference else [*references, Player(name, root, device, threads)]
        rounds = [
            {player.name: player.ask(STEPS_PER_ROUND[device]) for player in players}
            for _ in range(repeats)
        ]
        ratios = {
            other: statistics.median(one[name] / one[other] for one in rounds)
            for other in (STOCK, SINGLE)
        }
        player = next(player for player in players if player.name == name)
        measured[name] = Measured(
            statistics.median(one[name] for one in rounds), player.ask(0), ratios
        )
        if not is_reference:
            player.end()
    for player in references:
        player.end()
    return measured


def write_plans(root: Path, image_size: tuple[int, ...], gpu_memory_gb: float) -> dict[str, Any]:
    """Writes plans.json, and a dataset.json of pairs and an ordinary one; returns the
    configuration."""
    from nnunet_liver_ext.console import quiet
    from nnunet_liver_ext.pairing import PairLabels
    from nnunet_liver_ext.planning.nnunet_planners import NNUNetPlanner

    pair = PairLabels(("T1", "T2"), ("background", "liver"))
    common = {
        "channel_names": {"0": "T1", "1": "T2"},
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }
    common["overwrite_image_reader_writer"] = "SimpleITKIO"
    pairs = {**common, "labels": pair.dataset_labels(), "pair": pair.to_json()}
    (root / "pairs.json").write_text(json.dumps(pairs))
    (root / "ordinary.json").write_text(
        json.dumps({**common, "labels": {"background": 0, "liver": 1}})
    )
    name = "Dataset501_StepTime"
    raw, preprocessed = root / "raw" / name, root / "preprocessed" / name
    for folder in (
        raw / "imagesTr",
        raw / "labelsTr",
        preprocessed / "nnUNetPlans_3d_fullres",
        root / "results",
    ):
        folder.mkdir(parents=True)
    for file in ("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"):
        (raw / file).touch()
    (preprocessed / "nnUNetPlans_3d_fullres" / "a.b2nd").touch()  # nnU-Net looks at the ending only
    (raw / "dataset.json").write_text(json.dumps(pairs))
    fingerprint = {
        "spacings": [SPACING_MM] * CASES,
        "shapes_after_crop": [image_size] * CASES,
        "foreground_intensity_properties_per_channel": {},
        "median_relative_size_after_cropping": 1.0,
    }
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
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
        memory = [f"{one.bytes / measured[other].bytes:.2f}" for other in (STOCK, SINGLE)]
        ratios = [f"{one.ratios[other]:.2f}" for other in (STOCK, SINGLE)]
        short = name.removeprefix(STOCK) or "nnU-Net's own"
        table.add_row(
            short,
            f"{one.seconds:.3f}",
            *ratios,
            f"{one.bytes / 1e9:.2f}",
            *memory,
            _verdict(name, one),
        )
    return table


def _verdict(name: str, one: Measured) -> str:
    if name not in TARGETS:
        return ""
    wanted, other = TARGETS[name]
    kept = round(one.ratios[other], 2) <= wanted
    return f"{'' if kept else 'MISSED '}{wanted:g} of {other.removeprefix(STOCK) or 'stock'}"


def main() -> None:
    from nnunet_liver_ext import trainers

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
        choices=trainers.__all__,
        default=trainers.__all__,
        metavar="TRAINER",
    )
    arguments = parser.parse_args()
    import torch

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
        measured = measure(
            arguments.trainers,
            root,
            arguments.device,
            repeats=arguments.repeats,
            threads=arguments.threads,
        )
    console = Console(width=125)
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
