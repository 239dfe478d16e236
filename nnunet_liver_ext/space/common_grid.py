"""Both images of a pair on one grid, by their scanner coordinates. Nothing is registered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid, array, image_like, resample
from nnunet_liver_ext.space.padding import replace_padding_of_image

GridSpacing = tuple[float, float, float] | Literal["native-t1", "native"]
"""In mm (x, y, z), or "native-t1", the first image's; "native" is a single image's very grid."""
Interpolation = Literal["bspline", "linear"]
DEFAULT_SPACING = (1.5, 1.5, 3.0)
"""Couteaux et al. 2021, section 2: 1.5 mm along x and y, 3 mm along z."""

SAME_SPACING = 1e-4
"""Relative difference of two spacings that counts as none."""
COVERED = 1e-3
"""Share of a voxel that the field of view may end outside the grid, for rounded headers."""


def parse_spacing(entry: Any) -> GridSpacing:
    """A spacing from the command line or dataset.json: a name, or (x, y, z) in mm."""
    if entry in ("native-t1", "native"):
        return entry
    try:
        x, y, z = (float(value) for value in entry)
    except (TypeError, ValueError):
        raise InputError(
            "spacing must be native-t1 or three numbers in mm (x y z), or native for single"
            f" images, found {entry!r}."
        ) from None
    if min(x, y, z) <= 0:
        raise InputError(f"spacing must be positive, found {entry!r}.")
    return x, y, z


def common_grid(images: Sequence[sitk.Image], spacing: GridSpacing = DEFAULT_SPACING) -> Grid:
    """The grid that covers the fields of view of all images.

    Its axes are those of the first image, permuted and flipped to be nearest to the patient's
    (LPS), so that all cases of a dataset have one orientation. Along an axis on which it has the
    first image's spacing, its slices are that image's slices, so that nothing is interpolated
    there.

    Args:
        images: 3D images in scanner coordinates; the first gives the axes.
        spacing: in mm (x, y, z), along the grid's own axes; or "native-t1": the first image's.

    Raises:
        InputError: the fields of view do not overlap.
    """
    first = Grid.from_image(sitk.DICOMOrient(images[0], "LPS"))
    steps = np.array(first.spacing if spacing == "native-t1" else spacing, float)
    axes = np.array(first.direction).reshape(3, 3)
    boxes = [_extent(Grid.from_image(image), axes) for image in images]
    lows, highs = (np.stack(values) for values in zip(*boxes, strict=True))
    if (lows.max(0) >= highs.min(0)).any():
        raise InputError(
            "the images do not overlap in space:"
            f" {' and '.join(str(Grid.from_image(image)) for image in images)}; check their scanner"
            " coordinates."
        )
    low, high = lows.min(0), highs.max(0)
    size = np.maximum(1, np.ceil((high - low) / steps - COVERED))
    edge = (low + high) / 2 - size / 2 * steps
    in_phase = np.isclose(steps, first.spacing, rtol=SAME_SPACING, atol=0)
    own_edge = lows[0] - np.ceil((lows[0] - low) / steps - COVERED) * steps
    edge = np.where(in_phase, own_edge, edge)
    size = np.maximum(1, np.ceil((high - edge) / steps - COVERED)).astype(int)
    origin = axes @ (edge + steps / 2)
    return Grid(
        tuple(int(n) for n in size),  # type: ignore[arg-type]
        tuple(steps.tolist()),
        tuple(origin.tolist()),
        first.direction,
    )


def image_on_grid(
    image: sitk.Image, grid: Grid, interpolation: Interpolation = "bspline"
) -> sitk.Image:
    """The image on another grid, float32, clipped to its own range.

    Outside its field of view is background.

    B-splines of third order overshoot at edges, hence the clipping. The background is 0, as around
    any MR image, or the minimum of an image that has negative values (CT: air). Padding, such as
    -32768, becomes background before (`padding`).
    """
    image = sitk.Cast(replace_padding_of_image(image), sitk.sitkFloat32)
    values = sitk.GetArrayViewFromImage(image)
    low, high = float(values.min()), float(values.max())
    spline = (
        interpolation == "bspline" and min(image.GetSize()) >= 4
    )  # a cubic spline needs four samples
    resampled = array(
        resample(
            image,
            grid,
            interpolator=sitk.sitkBSpline if spline else sitk.sitkLinear,
            outside=np.nan,
        )
    )
    outside = np.isnan(resampled)
    np.clip(resampled, low, high, out=resampled)
    resampled[outside] = min(low, 0.0)
    return image_like(resampled, grid)


def _extent(grid: Grid, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner in mm along the given axes, voxels' own extent included."""
    half = (
        np.abs(axes.T @ (np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing))).sum(1)
        / 2
    )
    along = grid.corners() @ axes
    return along.min(0) - half, along.max(0) + half
