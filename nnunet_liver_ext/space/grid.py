"""Where the voxels of an image are.

Physical space is LPS in mm, as in SimpleITK; sizes and spacings are in (x, y, z), `spacing_mm` in
(z, y, x).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import SimpleITK as sitk


@dataclass(frozen=True)
class Grid:
    """Size (x, y, z), spacing in mm, origin in mm (LPS) and row-major 3x3 direction of an image."""

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @classmethod
    def from_image(cls, image: sitk.Image) -> Grid:
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Grid:
        return cls(
            tuple(entry["size"]),
            tuple(entry["spacing"]),
            tuple(entry["origin"]),
            tuple(entry["direction"]),
        )

    def to_json(self) -> dict[str, list[float]]:
        return {
            "size": list(self.size),
            "spacing": list(self.spacing),
            "origin": list(self.origin),
            "direction": list(self.direction),
        }

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing in (z, y, x)."""
        return self.spacing[::-1]

    def empty_image(self, pixel_type: int = sitk.sitkUInt8) -> sitk.Image:
        """An image of zeros on this grid."""
        image = sitk.Image(list(self.size), pixel_type)
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image

    @property
    def steps_mm(self) -> np.ndarray:
        """Columns: one voxel along each index axis (x, y, z), in mm (LPS)."""
        return np.array(self.direction).reshape(3, 3) * np.array(self.spacing)

    def corners(self, beyond: float = 0) -> np.ndarray:
        """Centres of the eight corner voxels in mm, (8, 3), LPS; or `beyond` voxels outside."""
        index = np.array(list(product(*[(-beyond, n - 1 + beyond) for n in self.size])), float)
        return np.array(self.origin) + index @ self.steps_mm.T

    def index_of(self, points: np.ndarray) -> np.ndarray:
        """Continuous index (x, y, z) of points in mm, both (N, 3)."""
        return np.linalg.solve(self.steps_mm, (points - np.array(self.origin)).T).T

    def part(self, box: tuple[slice, ...]) -> Grid:
        """The grid of a part of the array: `box` has slices with starts and stops in (z, y, x)."""
        start = np.array([one.start for one in box[::-1]])
        size = tuple(one.stop - one.start for one in box[::-1])
        origin = np.array(self.origin) + self.steps_mm @ start
        return Grid(size, self.spacing, tuple(origin.tolist()), self.direction)

    @property
    def skew(self) -> float:
        """How far, in voxels, a corner lies from where axes at right angles would put it.

        0 but for rounding; not so for sheared or scaled directions.
        """
        direction = np.array(self.direction).reshape(3, 3)
        index = np.array(list(product(*[(0, n - 1) for n in self.size])), float)
        moved = index * np.array(self.spacing) @ (direction - nearest_rotation(direction)).T
        return float(np.linalg.norm(moved, axis=1).max() / min(self.spacing))

    def matches(self, other: Grid, tolerance: float = 0.1) -> bool:
        """Whether sizes are equal and no corner is more than `tolerance` voxels away."""
        if self.size != other.size:
            return False
        distance = np.linalg.norm(self.corners() - other.corners(), axis=1).max()
        return bool(distance <= tolerance * min(self.spacing))

    def __str__(self) -> str:
        spacing, origin = (
            ", ".join(f"{value:.4g}" for value in values) for values in (self.spacing, self.origin)
        )
        return f"{'x'.join(map(str, self.size))} voxels of {spacing} mm at {origin}"


def nearest_rotation(axes: np.ndarray) -> np.ndarray:
    """The axes (columns of 3x3) at right angles and of length 1 that are nearest to the given.

    A reflection stays one. This is the orthogonal factor of the polar decomposition.
    """
    left, _, right = np.linalg.svd(axes)
    return left @ right
