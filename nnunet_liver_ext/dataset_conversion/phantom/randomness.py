"""Random numbers that depend on a seed and a purpose, and smooth random fields made from them.

Each part of the phantom draws from its own generator, so that another drawing in one part changes
no other part.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

SPLINE_FIELD_STD = (
    151 / 315
) ** 1.5  # of cubic B-splines over unit white noise in 3D, averaged over positions


def generator(seed: int, purpose: str) -> np.random.Generator:
    """A generator of its own for each (seed, purpose), apart from numpy's global state."""
    return np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]))


def smooth_field(
    shape: Sequence[int],
    spacing_mm: Sequence[float],
    scale_mm: float | Sequence[float],
    rng: np.random.Generator,
) -> np.ndarray:
    """A smooth random field of mean 0 and variance 1.

    It is made of cubic B-splines over white noise on nodes `scale_mm` apart.

    Args:
        shape: (z, y, x) voxels.
        spacing_mm: (z, y, x).
        scale_mm: distance of the nodes, one number or (z, y, x); the field's correlation length.
        rng: where the numbers come from.

    Returns:
        float32 array of `shape`.
    """
    scales = np.broadcast_to(np.asarray(scale_mm, float), 3)
    positions = [
        np.arange(n) * step / scale + rng.random()
        for n, step, scale in zip(shape, spacing_mm, scales, strict=True)
    ]
    nodes = [int(position[-1]) + 4 for position in positions]
    field = rng.standard_normal(nodes, dtype=np.float32) / np.float32(SPLINE_FIELD_STD)
    for axis, position in enumerate(positions):
        field = _interpolate(field, position, axis)
    return field


def _interpolate(values: np.ndarray, position: np.ndarray, axis: int) -> np.ndarray:
    """Uniform cubic B-spline along one axis, element by element, so that threads do not matter."""
    first = position.astype(int)
    t = position - first
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    along = [-1 if i == axis else 1 for i in range(values.ndim)]
    total = np.zeros([*values.shape[:axis], len(position), *values.shape[axis + 1 :]], np.float32)
    for offset, weight in enumerate(weights):
        total += np.take(values, first + offset, axis) * (weight / 6).astype(np.float32).reshape(
            along
        )
    return total
