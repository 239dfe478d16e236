"""The best translation of one mask onto another, exactly: every whole-voxel shift is tried.

Couteaux et al. 2021, "Cooperating networks", section 3.1. The overlaps at all shifts are one
cross-correlation, done by FFT on the bounding boxes. They are counts, so rounding them removes the
FFT's error. A shift moves the mask within its volume: what leaves the volume is lost and no longer
counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft

from nnunet_liver_ext.evaluation.masks import BoolArray, VoxelBox, bounding_box

SINGLE_PRECISION_VOXELS = 500_000  # the FFT errs by up to 0.1 there, and rounding forgives 0.5

IntArray = npt.NDArray[np.int64]


def best_shift(
    mask_1: BoolArray, mask_2: BoolArray, bound: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[int, ...]:
    """The shift t with the highest Dice of t(mask 1) and mask 2.

    t(mask 1)(p + t) = mask 1(p), zero outside the volume.

    Args:
        mask_1: bool, not empty.
        mask_2: bool of the same shape, not empty.
        bound: |t| is at most this, voxels of each axis.
        spacing_mm: distance of neighbouring voxels along each axis. Among equals the shortest shift
            in mm is taken, then the lowest along the first axis.
    """
    steps = [np.arange(-n, n + 1) for n in bound]
    box_1, box_2 = bounding_box(mask_1), bounding_box(mask_2)
    offset = [b.start - a.start for a, b in zip(box_1, box_2, strict=True)]
    overlaps = _overlaps(mask_1[box_1], mask_2[box_2], offset, steps)
    voxels = _voxels_inside(mask_1, box_1, steps) + np.count_nonzero(mask_2)
    dice = 2 * overlaps / voxels
    shifts = np.argwhere(dice >= dice.max() * (1 - 1e-12)) - np.array(bound)
    squared_mm = ((shifts * np.array(spacing_mm)) ** 2).sum(1).round(9)
    return tuple(int(n) for n in shifts[squared_mm.argmin()])


def shift_mask(mask: BoolArray, shift: Sequence[int]) -> BoolArray:
    """The mask moved by whole voxels; zeros come in, what leaves is lost."""
    moved = np.zeros_like(mask)
    target = tuple(
        slice(max(t, 0), max(n + min(t, 0), 0)) for t, n in zip(shift, mask.shape, strict=True)
    )
    source = tuple(
        slice(max(-t, 0), max(n - max(t, 0), 0)) for t, n in zip(shift, mask.shape, strict=True)
    )
    moved[target] = mask[source]
    return moved


def _overlaps(
    part_1: BoolArray, part_2: BoolArray, offset: Sequence[int], steps: Sequence[IntArray]
) -> IntArray:
    """|t(mask 1) ∩ mask 2| for all shifts; `offset` leads from the start of box 1 to box 2's."""
    lags = [step - start for step, start in zip(steps, offset, strict=True)]
    # Long enough that no overlap at a wanted lag is mixed with another one by the FFT's
    # periodicity.
    size = [
        fft.next_fast_len(max(a, b, b - int(lag[0]), a + int(lag[-1])), real=True)
        for a, b, lag in zip(part_1.shape, part_2.shape, lags, strict=True)
    ]
    voxels = np.sqrt(float(np.count_nonzero(part_1)) * np.count_nonzero(part_2))
    precision = np.float32 if voxels < SINGLE_PRECISION_VOXELS else np.float64
    spectrum = np.conj(fft.rfftn(part_1.astype(precision), size))
    spectrum *= fft.rfftn(part_2.astype(precision), size)
    correlation = fft.irfftn(spectrum, size, overwrite_x=True)
    wanted = correlation[np.ix_(*(lag % n for lag, n in zip(lags, size, strict=True)))]
    overlaps: IntArray = np.rint(wanted).astype(np.int64)
    return overlaps


def _voxels_inside(mask: BoolArray, box: VoxelBox, steps: Sequence[IntArray]) -> IntArray:
    """|t(mask)|, the voxels that stay in the volume, for all shifts.

    They are read from a table of the sums over all boxes that begin at the first corner.
    """
    sums = np.pad(mask[box].astype(np.int64), [(1, 0)] * mask.ndim)
    for axis, (side, step, n) in enumerate(zip(box, steps, mask.shape, strict=True)):
        length = side.stop - side.start
        first, end = (np.clip(edge - step - side.start, 0, length) for edge in (0, n))
        sums = np.cumsum(sums, axis)
        sums = np.take(sums, end, axis) - np.take(sums, first, axis)
    return sums
