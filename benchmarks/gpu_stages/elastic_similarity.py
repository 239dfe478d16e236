"""Elastic relative similarity D_S of phantom livers, on the device and on one core of the CPU."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from similarity_speed import SPACING_MM, livers

from gpu_stages.stage import OK, VERDICT, Row, Setting
from nnunet_liver_ext.evaluation.metrics import dice
from nnunet_liver_ext.evaluation.similarity.relative import relative_similarity
from nnunet_liver_ext.workers import limit_threads

REPEATS = 3
TINY_SPACING_MM = (6.0, 3.75, 3.75)
SAME = 0.002
"""Both devices must give the same D_S within this much."""


def measure(setting: Setting) -> Iterator[Row]:
    """A row for each pair."""
    for seed in (1,) if setting.tiny else (1, 2):
        if setting.tiny:
            masks, spacing_mm = livers(seed, "demo", TINY_SPACING_MM), TINY_SPACING_MM
        else:
            masks, spacing_mm = livers(seed), SPACING_MM
        yield _row(seed, masks, spacing_mm, setting)


def _row(
    seed: int,
    masks: tuple[np.ndarray, np.ndarray],
    spacing_mm: tuple[float, float, float],
    setting: Setting,
) -> Row:
    repeats = 1 if setting.tiny else REPEATS
    with limit_threads(1):
        on_cpu, cpu_s = _fastest(masks, spacing_mm, "cpu", repeats)
    on_device, device_s = _fastest(masks, spacing_mm, setting.device, repeats)
    same = abs(on_cpu - on_device) <= SAME
    return {
        "pair": seed,
        "voxels": f"{masks[0].sum()}, {masks[1].sum()}",
        "Dice as they are": dice(*masks),
        "D_S, one core": on_cpu,
        "one core, s": cpu_s,
        f"D_S, {setting.device}": on_device,
        f"{setting.device}, s": device_s,
        VERDICT: OK if same else "the devices differ",
    }


def _fastest(
    masks: tuple[np.ndarray, np.ndarray],
    spacing_mm: tuple[float, float, float],
    device: str,
    repeats: int,
) -> tuple[float, float]:
    """D_S, and the seconds of the fastest run after a first one."""
    seconds = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        found = relative_similarity(*masks, spacing_mm, "elastic", device=device)
        seconds.append(time.perf_counter() - start)
    return found.dice, min(seconds[1:])
