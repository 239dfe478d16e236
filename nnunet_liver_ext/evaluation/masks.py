"""What counts as a mask: the checks that every measure of masks begins with, and the box of a mask.

A mask is a bool array, an integer array of zeros and one other value, or a float array of zeros and
ones. Spacings are the distances of neighbouring voxels in mm, in the order of the axes (z, y, x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nnunet_liver_ext.errors import InputError

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
SpacingMm = tuple[float, float, float]
VoxelBox = tuple[slice, ...]
"""The part of an array between a first and a last voxel of each axis."""


def require_mask(values: npt.ArrayLike, name: str) -> BoolArray:
    """The mask as bool, of any shape.

    Raises:
        InputError: the array is no mask; `name` says which one.
    """
    array = np.asarray(values)
    if array.dtype == bool or array.size == 0:
        return array.astype(bool, copy=False)
    if array.dtype.kind in "iu":
        foreground: BoolArray = array != 0
        if array.min() < 0 or (
            foreground.any() and not np.array_equal(array == array.max(), foreground)
        ):
            raise InputError(
                f"{name} holds several labels ({array.min()}..{array.max()}): choose one, as in"
                f" {name} == 1."
            )
        return foreground
    if array.dtype.kind == "f":
        ones: BoolArray = array == 1
        if np.array_equal(ones, array != 0):
            return ones
        fraction = array[(array != 0) & ~ones].flat[0]
        raise InputError(f"{name} holds fractions such as {fraction:.4g}: threshold it first.")
    raise InputError(f"{name} must be a bool or integer array, not {array.dtype}.")


def require_masks(pred: npt.ArrayLike, ref: npt.ArrayLike) -> tuple[BoolArray, BoolArray]:
    """A prediction and its reference as bool.

    Raises:
        InputError: an array is no mask, or their shapes differ.
    """
    pred_mask, ref_mask = require_mask(pred, "pred"), require_mask(ref, "ref")
    if pred_mask.shape != ref_mask.shape:
        raise InputError(f"pred and ref differ in shape: {pred_mask.shape} and {ref_mask.shape}.")
    return pred_mask, ref_mask


def require_volume_mask(values: npt.ArrayLike, name: str) -> BoolArray:
    """The mask as bool (z, y, x).

    Raises:
        InputError: the array is no mask, or not 3D.
    """
    mask = require_mask(values, name)
    if mask.ndim != 3:
        raise InputError(f"{name} must be 3D (z, y, x), not {mask.shape}.")
    return mask


def require_spacing(spacing_mm: Sequence[float]) -> SpacingMm:
    """The spacing of a volume as three floats.

    Raises:
        InputError: it is not three positive finite numbers.
    """
    try:
        values = [float(value) for value in spacing_mm]
    except (TypeError, ValueError):
        values = []
    if len(values) != 3 or not all(math.isfinite(value) and value > 0 for value in values):
        raise InputError(
            f"spacing_mm must be three positive numbers (z, y, x) in mm, not {spacing_mm!r}."
        )
    return values[0], values[1], values[2]


def bounding_box(mask: BoolArray) -> VoxelBox:
    """The smallest box that holds a mask that is not empty; any number of axes."""
    box = []
    shadow = mask
    for _ in range(mask.ndim):
        planes = np.flatnonzero(shadow.any(axis=tuple(range(1, shadow.ndim))))
        box.append(slice(int(planes[0]), int(planes[-1]) + 1))
        shadow = np.logical_or.reduce(shadow[box[-1]], axis=0)
    return tuple(box)
