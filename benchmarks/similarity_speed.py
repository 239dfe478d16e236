"""How fast the elastic relative similarity of two livers is, and how good, side by side with plain
gradient descent.

    python benchmarks/similarity_speed.py [--repeats 3] [--threads 1] [--pairs 2]

Phantom pairs with an annotator's noise on their common grid of 1.5 x 1.5 x 3 mm; both livers have
about 200 000 voxels. The baseline is the same class of transforms written down directly: 60 Adam
steps, learning rate 1, at full resolution on the bounding box of both masks. The times are medians
of CPU seconds, so that a busy machine does not matter; both are handed the masks alone.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from nnunet_liver_ext.dataset_conversion.phantom import Difficulty, make_pair
from nnunet_liver_ext.deformation import blur, control_grid_size, upsample_control_grid, warp
from nnunet_liver_ext.evaluation.metrics import dice
from nnunet_liver_ext.evaluation.similarity.relative import RelativeSimilarity, relative_similarity
from nnunet_liver_ext.space.common_grid import common_grid
from nnunet_liver_ext.space.images import array
from nnunet_liver_ext.space.mask_resampling import mask_on_grid

SPACING_MM = (3.0, 1.5, 1.5)
PITCH, STEPS, LEARNING_RATE, MARGIN = 16, 60, 1.0, 6


def livers(
    seed: int, difficulty: Difficulty = "study", spacing_mm: tuple[float, ...] = SPACING_MM
) -> tuple[np.ndarray, np.ndarray]:
    """The annotated livers of a phantom pair on its common grid, bool (z, y, x)."""
    pair = make_pair(seed, difficulty=difficulty)
    grid = common_grid([pair.t1, pair.t2], spacing_mm[::-1])
    first, second = (
        array(mask_on_grid(mask, grid, 2)) > 0 for mask in (pair.t1_mask, pair.t2_mask)
    )
    return first, second


def adam(mask_1: np.ndarray, mask_2: np.ndarray) -> float:
    places = np.argwhere(mask_1 | mask_2)
    box = tuple(
        slice(max(low - MARGIN, 0), high + 1 + MARGIN)
        for low, high in zip(places.min(0), places.max(0), strict=True)
    )
    first, second = (torch.from_numpy(mask[box]).float()[None, None] for mask in (mask_1, mask_2))
    size, pitch = first.shape[2:], [PITCH] * 3
    smooth_1, smooth_2 = blur(first), blur(second)
    control = torch.zeros(1, 3, *control_grid_size(size, pitch), requires_grad=True)
    optimizer = torch.optim.Adam([control], lr=LEARNING_RATE)
    for _ in range(STEPS):
        loss = (
            (warp(smooth_1, upsample_control_grid(control, pitch, size)) - smooth_2).square().mean()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        moved = warp(first, upsample_control_grid(control, pitch, size)) >= 0.5
    return dice(moved[0, 0].numpy(), mask_2[box])


def timed(
    function: Callable[[], RelativeSimilarity | float], repeats: int
) -> tuple[float, RelativeSimilarity | float]:
    """Median seconds, and what came out."""
    function()  # the first call loads libraries
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch, for the baseline; ours has one"
    )
    parser.add_argument("--pairs", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table(title="Relative similarity of two livers, CPU seconds (median) and Dice")
    for column in (
        "pair",
        "voxels",
        "raw",
        "shift, s",
        "shift",
        "elastic, s",
        "elastic",
        "Adam, s",
        "Adam",
        "ratio",
    ):
        table.add_column(column, justify="right")
    for seed in range(1, arguments.pairs + 1):
        masks = livers(seed)
        cells = [str(seed), f"{masks[0].sum()} {masks[1].sum()}", f"{dice(*masks):.4f}"]
        seconds = {}
        for name in ("translation", "elastic"):
            seconds[name], found = timed(
                partial(relative_similarity, *masks, SPACING_MM, name), arguments.repeats
            )
            cells += [f"{seconds[name]:.3f}", f"{found.dice:.4f}"]
        slow, baseline = timed(partial(adam, *masks), arguments.repeats)
        table.add_row(*cells, f"{slow:.2f}", f"{baseline:.4f}", f"{slow / seconds['elastic']:.1f}")
    console = Console(width=120)
    console.print(table)
    console.print(
        f"Python {platform.python_version()}, torch {torch.__version__}, {arguments.threads}"
        f" threads; the median of {arguments.repeats} runs."
    )


if __name__ == "__main__":
    main()
