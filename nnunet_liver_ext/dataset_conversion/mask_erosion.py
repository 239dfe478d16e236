"""Masks that keep a margin to the organ's border.

Source: the Antaros liver U-Net report, section 3.1: the people who drew the masks for the fat
fraction kept one. They drew slice by slice, so it is taken within slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from nnunet_liver_ext.errors import InputError

ROUNDING_MM = 1e-9
"""A depth that equals the margin up to rounding belongs to the margin."""


def erode_in_plane(
    mask_ZYX: np.ndarray, spacing_mm: Sequence[float], margin_mm: float
) -> np.ndarray:
    """The mask without its margin.

    A voxel stays if every voxel of its slice within `margin_mm` belongs to the mask.

    Distances are Euclidean, between voxel centres; beyond the image is background.

    Args:
        mask_ZYX: bool; the slices are those along z.
        spacing_mm: of neighbouring voxels, (z, y, x).
        margin_mm: see `check_margin`; 0 gives the mask.

    Returns:
        Bool (z, y, x), part of the mask; it may be empty.

    Raises:
        InputError: as `check_margin`.
    """
    check_margin(margin_mm)
    kept = np.zeros(mask_ZYX.shape, bool)
    for index in np.flatnonzero(mask_ZYX.any(axis=(1, 2))):
        depth_mm = ndimage.distance_transform_edt(
            np.pad(mask_ZYX[index], 1), sampling=tuple(spacing_mm[1:])
        )
        kept[index] = depth_mm[1:-1, 1:-1] > margin_mm + ROUNDING_MM
    return kept


def check_margin(margin_mm: float) -> None:
    """InputError unless a margin is a finite number of mm, 0 or more."""
    if not (math.isfinite(margin_mm) and margin_mm >= 0):
        raise InputError(f"a margin must be a finite number of mm, 0 or more, not {margin_mm:g}.")
