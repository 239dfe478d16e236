"""How well `nnunet_liver plan` foresees the memory of a training.

    python benchmarks/memory.py [--device cpu|cuda] [--gpu-memory 8] [--architectures nnunet ...]
    [--objectives gan ...]

On a CPU (small images, float32) two figures of a real training step are set beside those of the
traced one: the tensors that autograd saves for the backward pass
(torch.autograd.graph.saved_tensors_hooks, each storage once), and the most that there is at any
moment. On a GPU the plans are those for pairs of whole livers (80 x 256 x 256 voxels of 3 x 1.5 x
1.5 mm) and the memory given, each trained in a process of its own: the estimate beside
torch.cuda.max_memory_allocated, what the allocator reserved, and, where the driver tells, what the
process took of the device, CUDA's context included. nnU-Net compiles on CUDA; --no-compile does
not.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from made_up_datasets import pairs_content, write_dataset
from rich.console import Console
from rich.table import Table

SPACING_MM = (3.0, 1.5, 1.5)
IMAGE_SIZE = {"cuda": (80, 256, 256), "cpu": (16, 48, 48)}
CASES = 20
"""nnU-Net sees no more than 5 % of a dataset in a batch: so few make its smallest batch, two."""
DATASET = "Dataset501_Memory"
STEPS = 4
PAIRS = {
    "dice_ce": ("single_input", "single_input_specialized", "dual_output"),
    "gan": ("single_input",),
    "embedding": ("single_input",),
    "gambling": ("single_input",),
    "similarity_elastic": ("dual_output_specialized",),
    "similarity_translation": ("dual_output_specialized",),
    "similarity_rigid": ("dual_output_specialized",),
    "similarity_affine": ("dual_output_specialized",),
}
"""Objective -> strategies."""
SMALL_UNPADDED = {
    "padding": "valid",
    "n_stages": 3,
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "kernel_sizes": [[1, 3, 3], [1, 3, 3], [3, 3, 3]],
    "features_per_stage": [16, 32, 64],
}
"""The paper's own takes 204 voxels in-plane at least, which is much for a CPU."""


@dataclass(frozen=True)
class Case:
    """What is planned and trained."""

    architecture: str
    unpadded: bool
    strategy: str
    objective: str
    device: str
    gpu_memory_gb: float

    @property
    def name(self) -> str:
        return f"{self.architecture}{', unpadded' if self.unpadded else ''}"

    @property
    def options(self) -> dict[str, Any]:
        if not self.unpadded:
            return {}
        return SMALL_UNPADDED if self.device == "cpu" else {"padding": "valid"}


@dataclass(frozen=True)
class Figures:
    """Of one case, in GB."""

    patch: tuple[int, ...]
    batch: int
    foreseen: dict[str, float]
    measured: dict[str, float]


# ------------------------------------------------------------------ plans and trainers


def write_pairs(root: Path, image_size: Sequence[int]) -> None:
    """The files that planner and trainer look at: of pairs of this size, without images."""
    write_dataset(root, DATASET, pairs_content(), CASES * [image_size], SPACING_MM)


def plans_of(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """(plans, dataset.json) of a case."""
    from nnunet_liver_ext.environment import dataset_folder
    from nnunet_liver_ext.planning.plan_dataset import plan_dataset

    name = f"{case.architecture}_{case.unpadded}_{case.strategy}_{case.objective}".replace("-", "_")
    path = plan_dataset(
        DATASET,
        architecture=case.architecture,
        options=case.options,
        strategy=case.strategy,
        objective=case.objective,
        spacing_mm=SPACING_MM,
        gpu_memory_gb=case.gpu_memory_gb,
        plans_name=name,
    )
    plans = json.loads(path.read_text())
    plans["configurations"]["3d_fullres"]["recipe"] = {
        "warmup_epochs": 0,
        "companion_epochs": 0,
        "seed": 1,
    }
    return {**plans, "continue_training": False}, json.loads(
        (dataset_folder(DATASET, "raw") / "dataset.json").read_text()
    )


def make_trainer(
    case: Case, plans: dict[str, Any], dataset_json: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """An initialised trainer in its last phase, and a batch of noise."""
    import torch

    from nnunet_liver_ext.environment import dataset_folder
    from nnunet_liver_ext.trainers.base import LiverTrainer
    from nnunet_liver_ext.trainers.recipe import Recipe

    folder = (
        dataset_folder(DATASET, "preprocessed")
        / plans["configurations"]["3d_fullres"]["data_identifier"]
    )
    folder.mkdir(exist_ok=True)
    (folder / "a.b2nd").touch()  # nnU-Net looks at the ending only
    recipe = Recipe(strategy=case.strategy, objective=case.objective)
    trainer_class: Any = type("nnUNetTrainerMemory", (LiverTrainer,), {"recipe": recipe})
    trainer = trainer_class(plans, "3d_fullres", 0, dataset_json, torch.device(case.device))
    trainer.initialize()
    trainer.network.train()
    return trainer, _make_batch(trainer)


def _make_batch(trainer: Any) -> dict[str, Any]:
    import torch

    size, number = (
        trainer.configuration_manager.patch_size,
        trainer.configuration_manager.batch_size,
    )
    generator = torch.Generator().manual_seed(0)
    scales = trainer._get_deep_supervision_scales() or [[1.0] * len(size)]
    sizes = [[round(n * scale) for n, scale in zip(size, level, strict=True)] for level in scales]
    target = [
        torch.randint(0, 4, (number, 1, *level), generator=generator).to(torch.int16)
        for level in sizes
    ]
    data = torch.randn(number, 2, *size, generator=generator)
    supervised = trainer.enable_deep_supervision
    return {"data": data, "target": target if supervised else target[0], "keys": ["a"] * number}


# ------------------------------------------------------------------ on a CPU


def measure_on_cpu(case: Case) -> Figures:
    """A real step beside the traced one."""
    from nnunet_liver_ext.planning.configuration_memory import (
        configuration_sizes,
        describe_training,
    )
    from nnunet_liver_ext.planning.fake_tensor_memory import LiveStorages
    from nnunet_liver_ext.planning.memory import trace_step
    from nnunet_liver_ext.trainers.recipe import Recipe

    plans, dataset_json = plans_of(case)
    sizes = configuration_sizes(plans, "3d_fullres")
    training = describe_training(
        dataset_json, Recipe(strategy=case.strategy, objective=case.objective)
    )
    traced = trace_step(training, sizes, mixed=False)
    trainer, batch = make_trainer(case, plans, dataset_json)
    trainer.train_step(batch)  # after it the optimizers have their states
    with LiveStorages() as live:
        trainer.train_step({key: _copied(value) for key, value in batch.items()})
    with _saved_for_backward(trainer) as saved:
        trainer.train_step(batch)
    foreseen = {"kept": traced.kept / 1e9, "most at any moment": traced.peak / 1e9}
    measured = {"kept": saved.peak / 1e9, "most at any moment": live.peak / 1e9}
    return Figures(sizes.patch_size, sizes.batch_size, foreseen, measured)


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(one) for one in value]
    return value.clone() if hasattr(value, "clone") else value


class _Saved:
    """Bytes of the storages that autograd holds."""

    def __init__(self, left_out: set[int]) -> None:
        self.bytes, self.peak, self._known = 0, 0, dict.fromkeys(left_out, 0)

    def pack(self, tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._known:
            self._known[key] = storage.nbytes()
            self.bytes += storage.nbytes()
            self.peak = max(self.peak, self.bytes)
            weakref.finalize(storage, self._give_back, key)
        return tensor

    def _give_back(self, key: int) -> None:
        self.bytes -= self._known.pop(key)


@contextlib.contextmanager
def _saved_for_backward(trainer: Any) -> Iterator[_Saved]:
    import torch

    weights = [*trainer.network.parameters(), *trainer.objective.parameters()]
    saved = _Saved({weight.untyped_storage()._cdata for weight in weights})
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        yield saved


# ------------------------------------------------------------------ on a GPU


def measure_on_cuda(case: Case) -> Figures:
    """The estimate beside the peak, in this process."""
    import torch

    plans, dataset_json = plans_of(case)
    entry = plans["configurations"]["3d_fullres"]
    held = _forget_earlier_trainings()
    trainer, batch = make_trainer(case, plans, dataset_json)
    for _ in range(STEPS):
        trainer.train_step(batch)
    torch.cuda.synchronize()
    memory = entry["memory"]
    foreseen = {
        "allocated": memory["activations_gb"] + memory["weights_gb"],
        "of the device": memory["estimated_gb"],
    }
    measured = {
        "allocated": (torch.cuda.max_memory_allocated() - held) / 1e9,
        "reserved": torch.cuda.max_memory_reserved() / 1e9,
    }
    if (taken := taken_from_device()) is not None:
        measured["of the device"] = taken / 1e9
    return Figures(tuple(entry["patch_size"]), entry["batch_size"], foreseen, measured)


def _forget_earlier_trainings() -> int:
    """What is still allocated in this process, in bytes."""
    import torch

    gc.collect()
    torch._dynamo.reset()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def free_on_device() -> float:
    """Bytes that are free; nvidia-smi tells without making a context of this process."""
    query = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits", "--id=0"]
    return 2**20 * float(
        subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    )


def taken_from_device() -> float | None:
    """Bytes that this process has of the device, CUDA's context included.

    None where the driver does not tell of single processes.
    """
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    if shutil.which(query[0]) is None:
        return None
    for line in subprocess.run(query, capture_output=True, text=True).stdout.splitlines():
        pid, _, mebibytes = line.partition(",")
        if pid.strip() == str(os.getpid()) and mebibytes.strip().isdigit():
            return 2**20 * float(mebibytes)
    return None


# ------------------------------------------------------------------ all of it


def measure(case: Case) -> Figures:
    """In this process, in silence."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        return measure_on_cpu(case) if case.device == "cpu" else measure_on_cuda(case)


def cases_of(arguments: argparse.Namespace) -> list[Case]:
    return [
        Case(architecture, unpadded, strategy, objective, arguments.device, arguments.gpu_memory)
        for architecture in arguments.architectures
        for unpadded in ((False, True) if architecture == "anisotropic" else (False,))
        for objective in arguments.objectives
        for strategy in PAIRS[objective]
    ]


def table_of(found: dict[Case, Figures]) -> Table:
    table = Table(title="Memory in GB: foreseen, measured, ratio")
    columns = sorted({key for figures in found.values() for key in figures.measured})
    for column in ("architecture", "strategy", "objective", "patch", "batch", *columns):
        table.add_column(column)
    for case, figures in found.items():
        size = " x ".join(map(str, figures.patch))
        cells = [_beside(figures.foreseen.get(key), figures.measured[key]) for key in columns]
        table.add_row(case.name, case.strategy, case.objective, size, str(figures.batch), *cells)
    return table


def _beside(foreseen: float | None, measured: float) -> str:
    return (
        f"{measured:.3f}"
        if foreseen is None
        else f"{foreseen:.3f}  {measured:.3f}  {foreseen / measured:.3f}"
    )


def main() -> None:
    from nnunet_liver_ext.planning.architectures import ARCHITECTURES

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--gpu-memory", type=float, default=8.0, help="GB that is planned for")
    parser.add_argument(
        "--architectures", nargs="*", choices=list(ARCHITECTURES), default=list(ARCHITECTURES)
    )
    parser.add_argument("--objectives", nargs="*", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument(
        "--no-compile",
        action="store_true",
        help="without torch.compile, which nnU-Net uses on CUDA",
    )
    arguments = parser.parse_args()
    cases, found, console = cases_of(arguments), {}, Console(width=160)
    with tempfile.TemporaryDirectory(prefix="memory_") as folder:
        root = Path(folder)
        os.environ.update(
            {f"nnUNet_{kind}": str(root / kind) for kind in ("raw", "preprocessed", "results")}
        )
        os.environ |= {"nnUNet_compile": "f" if arguments.no_compile else "t"}
        write_pairs(root, IMAGE_SIZE[arguments.device])
        context = multiprocessing.get_context("spawn")  # nnU-Net makes processes of its own in it
        with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
            for case, figures in zip(cases, pool.map(measure, cases), strict=True):
                found[case] = figures
                console.print(
                    f"{case.name}, {case.strategy}, {case.objective}: {figures.foreseen},"
                    f" {figures.measured}"
                )
    import torch

    console.print(table_of(found))
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU, float32"
    console.print(f"{where}, Python {platform.python_version()}, torch {torch.__version__}.")


if __name__ == "__main__":
    main()
