"""Another patient's image, put where the auxiliary image of a study was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.space.images import Grid

Alignment = Literal["scanner", "centre"]
LEAST_COVERED = 0.5
"""Share of the study's field of view that the other image must cover where its scanner put it."""
POINTS = 24
"""Along each axis, to find that share."""


@dataclass(frozen=True)
class Placement:
    """Another patient's image in the place of a study's."""

    image: sitk.Image
    alignment: Alignment
    """"scanner": where its scanner coordinates are; "centre": moved, so that the centres of both
    fields of view coincide."""
    covered: float
    """Share of the field of view of the study's image that it covers, 0..1."""


def exchange_image(
    images: Mapping[str, sitk.Image], name: str, other: sitk.Image
) -> tuple[dict[str, sitk.Image], Placement]:
    """A study's images with `name` replaced by another patient's, and how that was put there."""
    placement = place_image(other, Grid.from_image(images[name]))
    return {**images, name: placement.image}, placement


def place_image(other: sitk.Image, grid: Grid) -> Placement:
    """Another patient's image by its scanner coordinates, or centred if those are too far apart.

    Args:
        other: its image.
        grid: of the image whose place it takes.
    """
    covered = covered_share(grid, Grid.from_image(other))
    if covered >= LEAST_COVERED:
        return Placement(other, "scanner", covered)
    moved = sitk.Image(other)
    shift_mm = grid.corners().mean(0) - Grid.from_image(other).corners().mean(0)
    moved.SetOrigin((np.array(other.GetOrigin()) + shift_mm).tolist())
    return Placement(moved, "centre", covered_share(grid, Grid.from_image(moved)))


def covered_share(grid: Grid, other: Grid) -> float:
    """Share of a grid's field of view that lies in another's, 0..1, by points spread evenly."""
    steps = (np.arange(POINTS) + 0.5) / POINTS
    index = np.stack(
        np.meshgrid(*[steps * size - 0.5 for size in grid.size], indexing="ij"), -1
    ).reshape(-1, 3)
    points = index @ _steps_mm(grid).T + np.array(grid.origin)
    in_other = (points - np.array(other.origin)) @ np.linalg.inv(_steps_mm(other)).T
    inside = (in_other >= -0.5) & (in_other <= np.array(other.size) - 0.5)
    return float(inside.all(1).mean())


def _steps_mm(grid: Grid) -> np.ndarray:
    """Columns: one step along each index axis, in mm."""
    return np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing)
