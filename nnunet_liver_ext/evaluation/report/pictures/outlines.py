"""Outlines of masks as SVG paths: sharp at every size, and far smaller than pixels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
from contourpy import LineType, contour_generator

UNITS = 4  # of a path in a pixel of the picture: whole numbers are short
TOLERANCE = 0.6  # pixels; a path leaves out the points that are no farther than this from it


def trace_outlines(
    mask: np.ndarray, left: float, top: float, pixels_per_voxel: tuple[float, float]
) -> list[np.ndarray]:
    """Closed lines between the voxels of a mask and all others; holes are wound the other way.

    Args:
        mask: bool (rows, columns).
        left: of the mask's first column, in pixels of the picture.
        top: of its first row.
        pixels_per_voxel: height and width of a voxel.

    Returns:
        Points (N, 2) of each line, x and y in pixels of the picture; the last one is the first one
        again.
    """
    if not mask.any():
        return []
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    first_row, first_column = int(rows[0]), int(columns[0])
    padded = np.pad(mask[first_row : rows[-1] + 1, first_column : columns[-1] + 1], 1).astype(
        np.float32
    )
    lines = cast(
        list[np.ndarray], contour_generator(z=padded, line_type=LineType.Separate).lines(0.5)
    )
    height, width = pixels_per_voxel
    # the centre of the first voxel is at (1, 1) of the padded mask
    origin = np.array([left + (first_column - 0.5) * width, top + (first_row - 0.5) * height])
    in_pixels = (np.asarray(line) * (width, height) + origin for line in lines)
    return [points[_needed_points(points)] for points in in_pixels]


def svg_path(lines: Iterable[np.ndarray]) -> str:
    """Closed lines as the attribute `d` of an SVG path in 1/`UNITS` pixel; empty without lines."""
    return "".join(_line_as_path(points) for points in lines)


def _needed_points(points: np.ndarray) -> np.ndarray:
    """Which points of a closed line (N, 2) are needed, bool (N,): Douglas and Peucker 1973."""
    needed = np.zeros(len(points), bool)
    farthest = int(np.argmax(((points - points[0]) ** 2).sum(axis=1)))
    needed[[0, farthest, -1]] = True
    waiting = [(0, farthest), (farthest, len(points) - 1)]
    while waiting:
        start, end = waiting.pop()
        if end - start < 2:
            continue
        along = points[end] - points[start]
        between = points[start + 1 : end] - points[start]
        length = float(np.hypot(*along))
        away = (
            np.hypot(*between.T)
            if length == 0
            else np.abs(along[0] * between[:, 1] - along[1] * between[:, 0]) / length
        )
        index = int(np.argmax(away))
        if away[index] > TOLERANCE:
            middle = start + 1 + index
            needed[middle] = True
            waiting += [(start, middle), (middle, end)]
    return needed


def _line_as_path(points: np.ndarray) -> str:
    whole = np.rint(points * UNITS).astype(int)
    steps = np.diff(whole[:-1], axis=0)  # the last point is the first one again
    text = " ".join(f"{x} {y}" for x, y in steps.tolist()).replace(" -", "-")
    return f"M{whole[0, 0]} {whole[0, 1]}l{text}z" if len(steps) else ""
