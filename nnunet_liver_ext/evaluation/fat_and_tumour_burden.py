"""The fat fraction of a liver mask, and how much of the liver is tumour.

Masks are bool or integer arrays (z, y, x), zero is background; images of the fat fraction are
arrays of the same shape in percent. A border voxel holds liver and what lies beside it, so the fat
fraction may leave out a margin along the border, as the people did who drew the masks for it in the
Antaros liver U-Net report (section 3.1).

Source: the Antaros liver U-Net report, sections 1.3, 3.1 and 3.3. See docs/metrics.md for a worked
example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.masks import (
    require_mask,
    require_masks,
    require_spacing,
)
from nnunet_liver_ext.evaluation.metrics import ROUNDING_MM
from nnunet_liver_ext.space.fat_fraction import fat_fraction_percent

LOWEST_PERCENT, HIGHEST_PERCENT = -50.0, 150.0  # noise and fat-water swaps leave 0..100 a little
LARGEST_FRACTION = 1.5  # an image that has nothing above it is a fraction in 0..1, with some noise
NOISE_SHARE = 0.01  # of all voxels may be beyond the percentages: a ratio in air can be anything


@dataclass(frozen=True)
class FatFraction:
    """The fat fraction of one mask."""

    mean_percent: float
    median_percent: float
    voxels: int
    """How many were averaged, after the margin."""
    margin_mm: float


def eroded(mask: npt.ArrayLike, spacing_mm: Sequence[float], margin_mm: float) -> np.ndarray:
    """The mask without its margin; what stays has the mask all around within `margin_mm`.

    Distances are Euclidean, between voxel centres, so a margin that is smaller than a spacing takes
    nothing off along that axis, and one that equals it takes one layer off. Beyond the volume is
    background, as in `metrics`: a mask that the volume cuts off loses its margin there too.

    Args:
        mask: bool or integer, (z, y, x).
        spacing_mm: distance of neighbouring voxels in mm, (z, y, x).
        margin_mm: finite, 0 or more; 0 gives the mask.

    Returns:
        Bool (z, y, x), part of the mask. It may be empty; that of an empty mask is.

    Raises:
        InputError: the array is no 3D mask, the spacing is not three positive finite numbers, or
            the margin is negative.
    """
    values, spacing = require_mask(mask, "mask"), require_spacing(spacing_mm)
    if values.ndim != 3:
        raise InputError(f"a margin needs a 3D mask (z, y, x), not {values.shape}.")
    if not (math.isfinite(margin_mm) and margin_mm >= 0):
        raise InputError(f"margin_mm must be a finite number of mm, 0 or more, not {margin_mm}.")
    kept = np.zeros(values.shape, bool)
    if values.any():
        box = ndimage.find_objects(values.astype(np.uint8))[0]
        depth_mm = ndimage.distance_transform_edt(np.pad(values[box], 1), sampling=spacing)
        kept[box] = depth_mm[1:-1, 1:-1, 1:-1] > margin_mm + ROUNDING_MM
    return kept


def fat_fraction(
    fat_percent: npt.ArrayLike,
    mask: npt.ArrayLike,
    spacing_mm: Sequence[float],
    *,
    margin_mm: float = 0.0,
) -> FatFraction:
    """Mean and median of the fat fraction's image over the mask without its margin, see `eroded`.

    Args:
        fat_percent: fat fraction in percent, (z, y, x), as of `fat_fraction_image` or of the
            scanner.
        mask: bool or integer, of the same shape.
        spacing_mm: distance of neighbouring voxels in mm, (z, y, x).
        margin_mm: finite, 0 or more.

    Returns:
        Percent; nan if no voxel is left.

    Raises:
        InputError: as `eroded`, the shapes differ, or the image does not look like percent: a value
            in the mask or more than 1 % of all lie beyond −50..150 (tenths of a percent?), or none
            is above 1.5 (a fraction?); or a value in the mask is nan or infinite.
    """
    values, inside = _image(fat_percent, "fat_percent"), require_mask(mask, "mask")
    if values.shape != inside.shape:
        raise InputError(
            f"fat_percent and mask differ in shape: {values.shape} and {inside.shape}."
        )
    kept = eroded(inside, spacing_mm, margin_mm)
    check_percent(values, inside)
    if not kept.any():
        return FatFraction(math.nan, math.nan, 0, margin_mm)
    chosen = values[kept].astype(np.float64)
    return FatFraction(float(chosen.mean()), float(np.median(chosen)), len(chosen), margin_mm)


def fat_fraction_image(fat: npt.ArrayLike, water: npt.ArrayLike) -> np.ndarray:
    """Fat fraction 100·fat / (water + fat) of a Dixon scan, percent; 0 where there is no signal.

    This is the fraction of the signals (Antaros report, section 1.3). A scanner's proton density
    fat fraction (PDFF) is also corrected for T1 and T2* and may differ by several percentage
    points. Air has noise in both images, hence any fraction.

    Args:
        fat: magnitudes, 0 or more, any shape.
        water: of the same shape.

    Returns:
        Percent, 0..100, float32.

    Raises:
        InputError: the shapes differ, or a value is negative, nan or infinite.
    """
    return fat_fraction_percent(water=_image(water, "water"), fat=_image(fat, "fat"))


def tumour_burden(tumour: npt.ArrayLike, organ: npt.ArrayLike) -> float:
    """How much of an organ is tumour, 100·|T| / |T ∪ O|.

    The union, as some label maps give tumours a label of their own and others count them in the
    organ.

    Args:
        tumour: mask, bool or integer, any shape.
        organ: mask of the same shape and spacing, with or without the tumours.

    Returns:
        Percent, 0..100. No tumour: 0; both empty: nan.

    Raises:
        InputError: the shapes differ, or an array is no mask.
    """
    inside, whole = require_masks(tumour, organ)
    total = np.count_nonzero(inside | whole)
    return 100 * np.count_nonzero(inside) / total if total else math.nan


def check_percent(fat_percent: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> None:
    """Checks that an image of the fat fraction looks like percent.

    Args:
        fat_percent: any shape.
        mask: bool, of the same shape: where every value must be right. None looks at the image as a
            whole.

    Raises:
        InputError: a value in the mask is nan or infinite; a value in the mask, or more than 1 % of
            all, lie beyond −50..150 (tenths of a percent?); or none is above 1.5 (a fraction?).
    """
    values = _image(fat_percent, "fat_percent")
    finite = np.isfinite(values)
    inside = np.zeros(values.shape, bool) if mask is None else require_mask(mask, "mask")
    if not finite[inside].all():
        missing = np.count_nonzero(inside & ~finite)
        raise InputError(
            f"fat_percent is nan or infinite in {missing} voxels of the mask; replace or leave them"
            " out."
        )
    beyond = finite & ((values < LOWEST_PERCENT) | (values > HIGHEST_PERCENT))
    if beyond[inside].any() or np.count_nonzero(beyond) > NOISE_SHARE * values.size:
        strange = float(values[beyond & inside if beyond[inside].any() else beyond].flat[0])
        raise InputError(
            f"fat_percent holds {strange:.4g}, no percentage: divide tenths of a percent by 10, or"
            " clip noise to 0..100."
        )
    if finite.any() and values[finite].max() <= LARGEST_FRACTION:
        raise InputError(
            f"fat_percent has no value above {values[finite].max():.4g} and seems to be a fraction:"
            " multiply it by 100."
        )


def _image(values: npt.ArrayLike, name: str) -> np.ndarray:
    image = np.asarray(values)
    if image.dtype.kind not in "iuf":
        raise InputError(f"{name} must be an array of numbers, not {image.dtype}.")
    return image.astype(np.float64, copy=False)
