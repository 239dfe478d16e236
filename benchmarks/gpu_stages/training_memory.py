"""Memory of a training: what `nnunet_liver plan` foresees beside what a GPU gives.

Every architecture with every objective, without torch.compile as the estimate is traced; then
nnU-Net's network compiled, which can need less. Several trainings run beside each other, as each
process counts for itself. On a CPU: the most that tensors take at any moment (memory.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import memory

from gpu_stages.small_trainings import quietly
from gpu_stages.stage import OK, VERDICT, Row, Setting, short_reason

GPU_MEMORY_GB = 8.0
PROCESSES = 8
"""Side by side: trainings of at most 8 GB."""
WITHIN = 0.15
"""An estimate may be so far from what is measured."""
TINY = (("anisotropic", "dual_output", "dice_ce"),)


@dataclass(frozen=True)
class Training:
    """What is planned and trained, and how."""

    case: memory.Case
    compiled: bool


def measure(setting: Setting) -> Iterator[Row]:
    """A row for each training, as they are done."""
    _use_folders(setting.folder / "memory", setting.device)
    trainings = trainings_of(setting)
    if setting.tiny:
        yield from map(measure_training, trainings)
        return
    if setting.device == "cuda":
        yield context_alone()
    processes = max(1, min(PROCESSES, (os.cpu_count() or 1) // 2))
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        futures = [pool.submit(measure_training, training) for training in trainings]
        yield from (future.result() for future in as_completed(futures))


def trainings_of(setting: Setting) -> list[Training]:
    """Every architecture with every objective, nnU-Net's first and once more at the end."""
    from nnunet_liver_ext.planning.architectures import ARCHITECTURES

    if setting.tiny:
        cases = [
            memory.Case(architecture, False, strategy, objective, setting.device, GPU_MEMORY_GB)
            for architecture, strategy, objective in TINY
        ]
        return [Training(case, False) for case in cases]
    cases = [
        memory.Case(architecture, unpadded, strategy, objective, setting.device, GPU_MEMORY_GB)
        for objective, strategies in memory.PAIRS.items()
        for strategy in strategies
        for architecture in ARCHITECTURES
        for unpadded in ((False, True) if architecture == "anisotropic" else (False,))
    ]
    cases.sort(key=lambda case: case.architecture != "nnunet")
    compiled = [case for case in cases if case.architecture == "nnunet" and case.device == "cuda"]
    return [Training(case, False) for case in cases] + [Training(case, True) for case in compiled]


def measure_training(training: Training) -> Row:
    """The row of a training; an error becomes its verdict."""
    case = training.case
    row: Row = {
        "architecture": case.name,
        "strategy": case.strategy,
        "objective": case.objective,
        "compiled": "yes" if training.compiled else "no",
    }
    os.environ |= {"nnUNet_compile": "t" if training.compiled else "f"}
    try:
        with quietly():
            figures = (
                memory.measure_on_cuda(case)
                if case.device == "cuda"
                else memory.measure_on_cpu(case)
            )
        row["patch"] = " x ".join(map(str, figures.patch))
        row["batch"] = figures.batch
        for key, measured in figures.measured.items():
            foreseen = figures.foreseen.get(key)
            row[f"{key}, GB"] = measured
            if foreseen is not None:
                row[f"{key}, foreseen"] = foreseen
        row[VERDICT] = judge(figures, case.gpu_memory_gb, compiled=training.compiled)
    except Exception as error:
        row[VERDICT] = short_reason(error)
    return row


def judge(figures: memory.Figures, target_gb: float, *, compiled: bool = False) -> str:
    """OK, or where the estimate is more than 15 % off, or the target is exceeded.

    Compiled trainings may need less than is foreseen.
    """
    wrong = []
    for key, foreseen in figures.foreseen.items():
        measured = figures.measured.get(key)
        if measured is None or key == "kept":  # of the segmentor's step alone
            continue
        off = foreseen / measured - 1
        if off < -WITHIN or (off > WITHIN and not compiled):
            wrong.append(f"{key}: foreseen {off:+.0%}")
    if figures.measured.get("of the device", 0.0) > target_gb:
        wrong.append(f"above the {target_gb:g} GB that were asked for")
    return "; ".join(wrong) or OK


def context_alone() -> Row:
    """What a process takes of the device beyond the allocator's memory, measured alone."""
    row: Row = {"architecture": "a convolution alone", "compiled": "no"}
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            total, reserved = pool.submit(_take_context).result()
        row |= {"reserved, GB": reserved / 1e9, "of the device, GB": total / 1e9, VERDICT: OK}
    except Exception as error:
        row[VERDICT] = short_reason(error)
    return row


def _take_context() -> tuple[float, float]:
    """Bytes of the device and of the allocator, after a convolution in half precision."""
    import torch

    before = memory.free_on_device()
    with torch.autocast("cuda"):
        convolution = torch.nn.Conv3d(32, 32, 3).cuda()
        convolution(torch.zeros(2, 32, 32, 64, 64, device="cuda")).sum().backward()
    torch.cuda.synchronize()
    return before - torch.cuda.mem_get_info()[0], torch.cuda.memory_reserved()


def _use_folders(root: Path, device: str) -> None:
    os.environ |= {
        f"nnUNet_{kind}": str(root / kind) for kind in ("raw", "preprocessed", "results")
    }
    with contextlib.suppress(FileExistsError):
        memory.write_pairs(root, memory.IMAGE_SIZE[device])
