"""The canvas that organs are painted on: a fine grid of tissues with slightly warped coordinates.

Organs are described in mm relative to the top of the right diaphragm's dome: x to the patient's
left, y to the back, z to the head (LPS). The canvas bends these coordinates by a smooth random
field, the same for all organs, so that no outline is a textbook ellipse and neighbours still fit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_liver_ext.dataset_conversion.phantom.randomness import smooth_field
from nnunet_liver_ext.dataset_conversion.phantom.tissues import Tissue
from nnunet_liver_ext.space.images import Grid

Box = tuple[slice, slice, slice]
Point = Sequence[float] | np.ndarray
WARP_SCALE_MM = 55.0
WARP_LIMIT_MM = 12.0


class Canvas:
    """Tissues (uint8, z y x) on a grid, and bent coordinates `x`, `y`, `z` (float32, mm)."""

    def __init__(
        self,
        grid: Grid,
        rng: np.random.Generator,
        *,
        scale: Point = (1, 1, 1),
        warp_mm: float = 3.0,
    ) -> None:
        """`scale` enlarges along (x, y, z); `warp_mm` is the standard deviation of the bending."""
        self.grid = grid
        self.shape = grid.size[::-1]
        self.tissue = np.zeros(self.shape, np.uint8)
        self.scale = tuple(scale)
        self.axes = [
            (o + s * np.arange(n)) / k
            for o, s, n, k in zip(grid.origin, grid.spacing, grid.size, scale, strict=True)
        ]
        self.x, self.y, self.z = (self._bend(i, rng, warp_mm) for i in range(3))

    @property
    def whole(self) -> Box:
        return (slice(None), slice(None), slice(None))

    def box(self, low: Point, high: Point) -> Box:
        """The voxels that may lie between two corners (x, y, z mm) in bent coordinates."""
        limits = [
            np.searchsorted(axis, (a - WARP_LIMIT_MM, b + WARP_LIMIT_MM))
            for axis, a, b in zip(self.axes, low, high, strict=True)
        ]
        x, y, z = (slice(int(first), int(last)) for first, last in limits)
        return z, y, x

    def box_around(self, centre: Point, radius: float) -> Box:
        return self.box([c - radius for c in centre], [c + radius for c in centre])

    def coordinates(self, box: Box) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bent x, y, z of the voxels in a box."""
        return self.x[box], self.y[box], self.z[box]

    def paint(self, tissue: Tissue, box: Box, where: np.ndarray) -> None:
        self.tissue[box][where] = tissue

    def random_field(self, scale_mm: float, rng: np.random.Generator) -> np.ndarray:
        """A smooth random field of variance 1 over the whole canvas."""
        return smooth_field(self.shape, self.grid.spacing_mm, scale_mm, rng)

    def _bend(self, axis: int, rng: np.random.Generator, warp_mm: float) -> np.ndarray:
        bend = smooth_field(self.shape, self.grid.spacing_mm, WARP_SCALE_MM, rng)
        bend = np.clip(warp_mm * bend, -WARP_LIMIT_MM, WARP_LIMIT_MM)
        return bend + self.axes[axis].astype(np.float32).reshape(
            [-1 if i == 2 - axis else 1 for i in range(3)]
        )


def ellipsoid(
    canvas: Canvas, box: Box, centre: Point, radii: Point, axes: np.ndarray | None = None
) -> np.ndarray:
    """Depth below an ellipsoid's surface in mm (roughly; exact for a sphere), negative outside.

    The rows of `axes` are its axes.
    """
    offsets = [
        values - np.float32(c) for values, c in zip(canvas.coordinates(box), centre, strict=True)
    ]
    if axes is not None:
        dx, dy, dz = offsets
        offsets = [a * dx + b * dy + c * dz for a, b, c in axes.astype(np.float32)]
    squares = sum((offset / np.float32(r)) ** 2 for offset, r in zip(offsets, radii, strict=True))
    return (1 - np.sqrt(squares)) * np.float32(np.prod(radii) ** (1 / 3))


def segment(
    canvas: Canvas, box: Box, start: Point, end: Point, radii: tuple[float, float]
) -> np.ndarray:
    """Depth in mm below the surface of a round, tapering tube, negative outside."""
    a, direction = np.asarray(start, np.float32), np.subtract(end, start).astype(np.float32)
    length_2 = max(float(np.dot(direction, direction)), 1e-6)
    offsets = [values - c for values, c in zip(canvas.coordinates(box), a, strict=True)]
    t = np.clip(
        sum(o * (d / np.float32(length_2)) for o, d in zip(offsets, direction, strict=True)), 0, 1
    )
    squares = sum((o - t * d) ** 2 for o, d in zip(offsets, direction, strict=True))
    return radii[0] + np.float32(radii[1] - radii[0]) * t - np.sqrt(squares)


def tube(
    canvas: Canvas, points: Sequence[Point] | np.ndarray, radii: Sequence[float]
) -> tuple[Box, np.ndarray]:
    """Depth in mm below the surface of a tube, and the box that the tube is in.

    The tube leads through `points` (x, y, z mm), with a radius at each.
    """
    margin = max(radii)
    corners = np.array([list(point) for point in points])
    low, high = corners.min(0) - margin, corners.max(0) + margin
    box = canvas.box(low, high)
    depth = np.full(canvas.tissue[box].shape, -1e3, np.float32)
    for start, end, r0, r1 in zip(points[:-1], points[1:], radii[:-1], radii[1:], strict=True):
        np.maximum(depth, segment(canvas, box, start, end, (r0, r1)), out=depth)
    return box, depth


def rotation(degrees: Point) -> np.ndarray:
    """Rotation matrix about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
