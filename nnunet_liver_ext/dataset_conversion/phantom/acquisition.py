"""Scanning the fine canvas: an image with thick slices on a scanner's grid, and such grids."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.phantom.canvas import rotation
from nnunet_liver_ext.space.images import Grid, array

SUBSLICES = 4
EDGE = 0.25  # of a slice profile's sides, as a fraction of the thickness: a trapezoid, not a box


def grid_around(
    centre: tuple[float, float, float],
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
    tilt_degrees: tuple[float, float, float] = (0, 0, 0),
) -> Grid:
    """A grid of a size and spacing (x, y, z) with its middle at `centre`, turned about the axes."""
    direction = rotation(tilt_degrees)
    half = (np.array(size) - 1) / 2 * np.array(spacing)
    origin = np.array(centre) - direction @ half
    return Grid(
        size,
        spacing,
        tuple(float(v) for v in origin),  # type: ignore[arg-type]
        tuple(float(v) for v in direction.ravel()),
    )


def acquire(
    volume: sitk.Image,
    grid: Grid,
    transform: sitk.Transform | None = None,
    *,
    subslices: int = SUBSLICES,
) -> np.ndarray:
    """The volume as seen on `grid`; a slice is an average with a trapezoidal profile.

    Args:
        volume: image on a finer grid.
        grid: of the result.
        transform: maps points of the result to points of `volume`.
        subslices: samples per slice; 1 takes the middle of the slice alone.

    Returns:
        float32 array (z, y, x).
    """
    if subslices == 1:
        return _sample(volume, grid, transform)
    samples = _sample(volume, _subdivide(grid, subslices), transform)
    span = (grid.size[2] - 1) * subslices + 1
    values = np.zeros(grid.size[::-1], np.float32)
    for offset, weight in enumerate(slice_profile(subslices)):
        values += np.float32(weight) * samples[offset : offset + span : subslices]
    return values


def _sample(volume: sitk.Image, grid: Grid, transform: sitk.Transform | None) -> np.ndarray:
    onto = grid.empty_image()
    return array(
        sitk.Resample(
            volume, onto, transform or sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32
        )
    )


def _subdivide(grid: Grid, subslices: int) -> Grid:
    """The grid with `subslices` samples per slice, and one slice more at both ends."""
    direction = np.array(grid.direction).reshape(3, 3)
    origin = np.array(grid.origin) - direction[:, 2] * grid.spacing[2]
    size = (*grid.size[:2], (grid.size[2] + 1) * subslices + 1)
    spacing = (*grid.spacing[:2], grid.spacing[2] / subslices)
    return Grid(size, spacing, tuple(float(v) for v in origin), grid.direction)  # type: ignore[arg-type]


def slice_profile(subslices: int) -> np.ndarray:
    """Weights of samples 1/subslices of a thickness apart, from −1 to +1 thickness; sum 1."""
    distance = np.abs(np.arange(-subslices, subslices + 1)) / subslices
    weights = np.clip((0.5 + EDGE - distance) / (2 * EDGE), 0, 1)
    return weights / weights.sum()
