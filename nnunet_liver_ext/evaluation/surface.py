"""Distances between the borders of two masks, exact and fast.

Everything happens inside the box that holds both masks. The nearest voxel of the other border is
looked for in three steps, each of them exact:

1. Nearby: the offsets between voxels are tried in the order of their lengths, so the first hit is
   the nearest. Voxels on both borders are done after the first offset, and nearly all voxels of two
   similar masks after a few dozen.
2. The voxels that are left ask a k-d tree of the other border.
3. Where the way is so long that the tree would be slower, they read a Euclidean distance transform
   of the box instead.

When step 1 ends, and which of steps 2 and 3 follows, is decided by the measured costs below. The
choice changes the time, never the result.
"""

# z y x axes, N voxels

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from nnunet_liver_ext.evaluation.masks import (
    BoolArray,
    FloatArray,
    SpacingMm,
    VoxelBox,
    bounding_box,
)

Convention = Literal["standard", "chaos"]
IntArray = npt.NDArray[np.int64]

MOST_OFFSETS = 400
FIRST_BATCH = 64  # before giving up: two borders with a constant gap give no hit at first
NEXT_BATCHES = 16
PROBES = 64
# Nanoseconds on one x86-64 core with scipy 1.17; borders of 3,000 to 45,000 voxels of 1 to 6 mm.
OFFSET_NS = 2.5  # to try one offset for one border voxel
TREE_NS = 900.0  # to ask the tree once,
TREE_NS_PER_VOXEL = 150.0  # and more for each voxel that the nearest one is away
TRANSFORM_NS = 60.0  # for one voxel of the distance transform


class Borders(NamedTuple):
    """The borders of two masks inside their common box, bool (z, y, x)."""

    pred: BoolArray
    ref: BoolArray


class _Ring(NamedTuple):
    """All offsets between voxels that are equally long."""

    length_mm: float
    offsets: IntArray
    """(N, 3)"""


def find_borders(pred: BoolArray, ref: BoolArray, convention: Convention = "standard") -> Borders:
    """The 6-connected inner borders of two masks (z, y, x) of one shape, not both of them empty.

    A border voxel belongs to the mask and has one of its six neighbours outside it. What lies
    beyond the volume is background ("standard") or continues the mask ("chaos").
    """
    boxes = [bounding_box(mask) for mask in (pred, ref) if mask.any()]
    common = tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )
    return Borders(_border(pred, common, convention), _border(ref, common, convention))


def border_distances(borders: Borders, spacing_mm: SpacingMm) -> tuple[FloatArray, FloatArray]:
    """The distance from each voxel of a border to the nearest one of the other, both directions.

    The last few answers are kept, because several measures of the same masks are asked for one
    after the other.

    Args:
        borders: neither of the two is empty.
        spacing_mm: (z, y, x).

    Returns:
        Prediction to reference and reference to prediction in mm, float64 (N,), read-only, in no
        particular order.
    """
    pred, ref = (np.packbits(border).tobytes() for border in borders)
    return _border_distances(pred, ref, borders.pred.shape, spacing_mm)


@lru_cache(maxsize=4)
def _border_distances(
    packed_pred: bytes, packed_ref: bytes, shape: tuple[int, ...], spacing_mm: SpacingMm
) -> tuple[FloatArray, FloatArray]:
    pred, ref = (_unpack(packed, shape) for packed in (packed_pred, packed_ref))
    return _nearest_distances(pred, ref, spacing_mm), _nearest_distances(ref, pred, spacing_mm)


def _unpack(packed: bytes, shape: tuple[int, ...]) -> BoolArray:
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=math.prod(shape))
    return bits.view(bool).reshape(shape)


def _nearest_distances(border: BoolArray, target: BoolArray, spacing_mm: SpacingMm) -> FloatArray:
    """The distances from a border's voxels to the nearest voxels of the target, (N,)."""
    distances, far = _nearby_distances(border, target, spacing_mm)
    if len(far):
        distances = np.concatenate([distances, _far_distances(far, target, spacing_mm)])
    distances.flags.writeable = False
    return distances


def _border(mask: BoolArray, box: VoxelBox, convention: Convention) -> BoolArray:
    padded = np.zeros([side.stop - side.start + 2 for side in box], bool)
    padded[1:-1, 1:-1, 1:-1] = mask[box]
    if convention == "chaos":
        for axis, (side, size) in enumerate(zip(box, mask.shape, strict=True)):
            along = np.moveaxis(padded, axis, 0)
            along[0] |= side.start == 0
            along[-1] |= side.stop == size
    inside = padded[:-2, 1:-1, 1:-1] & padded[2:, 1:-1, 1:-1]
    inside &= padded[1:-1, :-2, 1:-1]
    inside &= padded[1:-1, 2:, 1:-1]
    inside &= padded[1:-1, 1:-1, :-2]
    inside &= padded[1:-1, 1:-1, 2:]
    return padded[1:-1, 1:-1, 1:-1] & ~inside


@lru_cache(maxsize=32)
def _offset_batches(spacing_mm: SpacingMm) -> tuple[tuple[_Ring, ...], ...]:
    """The shortest offsets as rings, shortest first; after each batch it may be time to stop."""
    batches: list[tuple[_Ring, ...]] = []
    batch: list[_Ring] = []
    for ring in _offset_rings(spacing_mm):
        batch.append(ring)
        if sum(len(r.offsets) for r in batch) >= (NEXT_BATCHES if batches else FIRST_BATCH):
            batches.append(tuple(batch))
            batch = []
    return (*batches, tuple(batch)) if batch else tuple(batches)


def _offset_rings(spacing_mm: SpacingMm) -> list[_Ring]:
    spacing = np.array(spacing_mm)
    radius = (3 * MOST_OFFSETS * spacing.prod() / (4 * np.pi)) ** (1 / 3) + spacing.min()
    # An axis alone takes at most half of all offsets, however short its spacing is.
    reach = np.minimum(radius / spacing, MOST_OFFSETS // 2).astype(int)
    axes = np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij")
    block = np.stack(axes, axis=-1).reshape(-1, 3)
    lengths = np.linalg.norm(block * spacing, axis=1)
    order = np.argsort(lengths, kind="stable")[:MOST_OFFSETS]
    order = order[lengths[order] <= radius]  # farther ones may lie outside the block
    lengths, offsets = lengths[order], block[order]
    starts = np.flatnonzero(np.diff(lengths, prepend=-radius) > 1e-12 * radius)
    rings = np.split(offsets, starts[1:])
    return [_Ring(float(lengths[i]), ring) for i, ring in zip(starts, rings, strict=True)]


def _nearby_distances(
    border: BoolArray, target: BoolArray, spacing_mm: SpacingMm
) -> tuple[FloatArray, IntArray]:
    """The distances (N,) of voxels with a target nearby, and the indices (M, 3) of all others."""
    batches = _offset_batches(spacing_mm)
    offsets = np.concatenate([ring.offsets for batch in batches for ring in batch])
    reach = np.abs(offsets).max(axis=0)
    margins = [(n, n) for n in reach]
    padded = np.pad(target, margins)
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    left = np.flatnonzero(np.pad(border, margins))
    lengths: list[float] = []
    counts: list[int] = []
    for batch in batches:
        before = len(left)
        for ring in batch:
            hit = _any_set(padded.ravel(), left, ring.offsets @ strides)
            lengths.append(ring.length_mm)
            counts.append(int(np.count_nonzero(hit)))
            left = left[~hit]
        tried = sum(len(ring.offsets) for ring in batch)
        if (before - len(left)) * TREE_NS <= before * tried * OFFSET_NS:
            break
    far = np.stack(np.unravel_index(left, padded.shape), axis=-1) - reach
    return np.repeat(lengths, counts), far


def _any_set(target: BoolArray, voxels: IntArray, steps: Sequence[int] | IntArray) -> BoolArray:
    """For each flat index whether `target` is set one of the steps away from it."""
    hit: BoolArray = target[voxels + steps[0]]
    for step in steps[1:]:
        hit |= target[voxels + step]
    return hit


def _far_distances(queries: IntArray, target: BoolArray, spacing_mm: SpacingMm) -> FloatArray:
    """The distances of voxels with these indices (N, 3), by the faster of tree and transform."""
    spacing = np.array(spacing_mm)
    tree: Any = cKDTree(np.argwhere(target) * spacing, balanced_tree=False, compact_nodes=False)
    probes = queries[:: max(1, len(queries) // PROBES)]
    voxels_away = tree.query(probes * spacing)[0].mean() / spacing.prod() ** (1 / 3)
    distances: FloatArray
    if len(queries) * (TREE_NS + TREE_NS_PER_VOXEL * voxels_away) <= target.size * TRANSFORM_NS:
        distances = tree.query(queries * spacing)[0]
    else:
        nearest = distance_transform_edt(
            ~target, sampling=spacing, return_distances=False, return_indices=True
        )
        away = nearest[(slice(None), *queries.T)].T - queries
        distances = np.linalg.norm(away * spacing, axis=1)
    return distances
