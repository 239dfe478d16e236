"""Patch and batch as large as memory allows; nothing here knows a network.

Sizes are (z, y, x) voxels.

A ladder leads from the largest patch to the smallest. On each step the axis becomes smaller that is
the longest beside the images, as nnU-Net's planner chooses it; what an axis may be is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Patch = tuple[int, ...]

FIRST_VOLUME = 256**3
"""Voxels of the patch that nnU-Net's planner begins with."""
SMALLEST_BATCH = 2
LARGEST_SHARE = 0.05
"""Largest share of the dataset's voxels in one batch (nnU-Net's `max_dataset_covered`)."""
SHORTEST_AXIS = 4
"""nnU-Net's blurring fails on patches with fewer voxels along an axis."""


def isotropic_patch(spacing_mm: Sequence[float], median_size: Sequence[float]) -> list[float]:
    """nnU-Net's first patch: isotropic in mm, with 256³ voxels, no larger than the median image."""
    density = [1 / mm for mm in spacing_mm]
    scale = (FIRST_VOLUME / math.prod(density)) ** (1 / len(density))
    return [
        min(round(scale * voxels), size) for voxels, size in zip(density, median_size, strict=True)
    ]


def multiples_between(step: int, *, smallest: float, largest: float) -> list[int]:
    """Multiples of `step`, ascending, from the first ≥ `smallest` to the first ≥ `largest`."""
    last = _round_up(max(largest, SHORTEST_AXIS), step)
    first = min(_round_up(max(smallest, SHORTEST_AXIS), step), last)
    return list(range(first, last + 1, step))


def _round_up(size: float, step: int) -> int:
    return math.ceil(size / step) * step


def patch_ladder(allowed: Sequence[Sequence[int]], median_size: Sequence[float]) -> list[Patch]:
    """Patches from the largest to the smallest.

    Args:
        allowed: ascending sizes along each axis.
        median_size: of the images; the axis whose patch is the largest share of it becomes smaller
            first.
    """
    places = [len(sizes) - 1 for sizes in allowed]
    patches = []
    while True:
        patch = tuple(sizes[place] for sizes, place in zip(allowed, places, strict=True))
        patches.append(patch)
        shares = [
            n / size if place > 0 else 0.0
            for n, size, place in zip(patch, median_size, places, strict=True)
        ]  # an axis at its smallest stays
        if not any(shares):
            return patches
        places[shares.index(max(shares))] -= 1


def largest_fitting_patch(patches: Sequence[Patch], fits: Callable[[Patch], bool]) -> Patch | None:
    """The largest patch of a ladder that fits, None if not even the smallest does.

    Only a few patches are asked about.
    """
    low, high = 0, len(patches)  # all before low are too large
    while low < high:
        middle = (low + high) // 2
        if fits(patches[middle]):
            high = middle
        else:
            low = middle + 1
    return patches[low] if low < len(patches) else None


def largest_batch(
    memory_gb: Callable[[int], float], target_gb: float, *, smallest: int, largest: int
) -> int:
    """The largest batch that fits, from `smallest` to `largest`.

    Memory grows with the batch evenly.
    """
    if largest <= smallest:
        return smallest
    first, after = memory_gb(smallest), memory_gb(smallest + 1)
    guess = smallest + int(max(0.0, target_gb - first) / max(after - first, 1e-9))
    batch = max(smallest, min(guess, largest))
    while batch > smallest and memory_gb(batch) > target_gb:
        batch -= 1
    return batch


def batch_by_dataset_share(dataset_voxels: float, patch_size: Sequence[int]) -> int:
    """The batch that is 5 % of the dataset, as in nnU-Net against overfitting; at least two."""
    return max(SMALLEST_BATCH, round(dataset_voxels * LARGEST_SHARE / math.prod(patch_size)))
