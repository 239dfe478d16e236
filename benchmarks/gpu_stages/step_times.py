"""A training step of every trainer beside stock nnU-Net's, on nnU-Net's own plans for pairs.

What is measured and how: step_time.py. Mixed precision and torch.compile are nnU-Net's defaults.
Three trainers are compiled at the same time; steps are taken one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import step_time

from gpu_stages.stage import OK, VERDICT, Row, Setting

GPU_MEMORY_GB = 8.0
REPEATS, SIDE_BY_SIDE = 3, 3
TINY_SIZE = (16, 32, 32)
FIRST = ("DualOutput", "Gambling", "Similarity", "DualInput", "GAN", "Embedding")
"""What differs most from SingleInput comes first."""


def measure(setting: Setting) -> Iterator[Row]:
    """A row for each trainer."""
    root = setting.folder / "step_time"
    root.mkdir()
    threads = 1 if setting.device == "cpu" else max(1, (os.cpu_count() or 1) // 4)
    os.environ |= {
        f"nnUNet_{kind}": str(root / kind) for kind in ("raw", "preprocessed", "results")
    }
    os.environ |= {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    size = TINY_SIZE if setting.tiny else step_time.IMAGE_SIZE["cuda"]
    plan = step_time.write_plans(root, size, GPU_MEMORY_GB)
    patch = " x ".join(map(str, plan["patch_size"]))
    for name, found in step_time.measure(
        trainers_in_order(setting),
        root,
        setting.device,
        repeats=1 if setting.tiny else REPEATS,
        threads=threads,
        side_by_side=1 if setting.tiny else SIDE_BY_SIDE,
    ):
        yield _row(name, found, f"{patch}, {plan['batch_size']} pairs")


def trainers_in_order(setting: Setting) -> list[str]:
    """Those that are measured, the most different ones first."""
    names = [f"nnUNetTrainer{name}" for name in FIRST]
    names += [name for name in step_time.measurable_trainers() if name not in names]
    return [name for name in names if not setting.trainers or name in setting.trainers]


def _row(name: str, found: step_time.Measured | str, patch: str) -> Row:
    row: Row = {"trainer": name.removeprefix(step_time.STOCK) or "nnU-Net's own", "patch": patch}
    if isinstance(found, str):
        return {**row, VERDICT: found}
    wanted = step_time.verdict(name, found)
    return {
        **row,
        "step, s": found.seconds,
        "to stock": found.ratios[step_time.STOCK],
        "to SingleInput": found.ratios[step_time.SINGLE],
        "memory, GB": found.bytes / 1e9,
        "memory to stock": found.memory_ratios[step_time.STOCK],
        "memory to SingleInput": found.memory_ratios[step_time.SINGLE],
        "wanted": wanted.removeprefix("MISSED "),
        VERDICT: "slower than wanted" if wanted.startswith("MISSED") else OK,
    }
