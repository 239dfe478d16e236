"""Images of the fat fraction from a Dixon scan's water and fat images, and masks that keep a margin to the organ's border.

Source: the Antaros liver U-Net report: the composite of water and fat in section 1.3, the margin of the people who drew
the masks for the fat fraction in section 3.1. They drew slice by slice, so the margin is taken within slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from nnunet_liver_ext.errors import InputError

ROUNDING_MM = 1e-9
"""A depth that equals the margin up to rounding belongs to the margin."""


def fat_fraction_percent(water: np.ndarray, fat: np.ndarray) -> np.ndarray:
    """The fat fraction 100·fat / (water + fat); 0 where neither has a signal.

    The very numbers of `evaluation.quantities.fat_fraction_image`, which evaluation measures masks by.

    Args:
        water: magnitudes, 0 or more, any shape.
        fat: of the same shape.

    Returns:
        Percent, 0..100, float32.

    Raises:
        InputError: the shapes differ, a value is negative, nan or infinite, or both are 0 everywhere.
    """
    if water.shape != fat.shape:
        raise InputError(f"water and fat differ in shape: {water.shape} and {fat.shape}.")
    for name, values in (("water", water), ("fat", fat)):
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise InputError(f"the {name} image must hold magnitudes, 0 or more; it has negative values, nan or inf.")
    total = water.astype(np.float64) + fat
    if not total.any():
        raise InputError("the water and the fat image are 0 everywhere.")
    return (100 * np.divide(fat, total, out=np.zeros(total.shape), where=total > 0)).astype(np.float32)


def eroded_in_plane(mask_ZYX: np.ndarray, spacing_mm: Sequence[float], margin_mm: float) -> np.ndarray:
    """The mask without its margin: a voxel stays if every voxel of its slice within `margin_mm` belongs to the mask.

    Distances are Euclidean, between voxel centres; beyond the image is background.

    Args:
        mask_ZYX: bool; the slices are those along z.
        spacing_mm: of neighbouring voxels, (z, y, x).
        margin_mm: finite, 0 or more; 0 gives the mask.

    Returns:
        Bool (z, y, x), part of the mask; it may be empty.

    Raises:
        InputError: the margin is negative or no number.
    """
    if not (math.isfinite(margin_mm) and margin_mm >= 0):
        raise InputError(f"a margin must be a finite number of mm, 0 or more, not {margin_mm:g}.")
    kept = np.zeros(mask_ZYX.shape, bool)
    for index in np.flatnonzero(mask_ZYX.any(axis=(1, 2))):
        depth_mm = ndimage.distance_transform_edt(np.pad(mask_ZYX[index], 1), sampling=tuple(spacing_mm[1:]))
        kept[index] = depth_mm[1:-1, 1:-1] > margin_mm + ROUNDING_MM
    return kept
