"""Thin lesions at the liver's border are removed (Hänsch et al. 2022, "Post-processing").

The paper: the output is "restricted to the liver mask"; "the liver mask was eroded using a 7 x 7
kernel to generate a mask of the liver border by subtracting the eroded from the original mask.
Within the liver border region, the binary tumor mask was filtered with an opening operation using a
3 x 3 kernel to remove thin structures."

Read here as: the whole tumour mask inside the liver is opened, and the result counts in the border
only. Opening just the part of a tumour that lies in the border would cut the rim off tumours that
reach into it from inside. An opening only takes away, so nothing appears.

Kernels are squares in the slices, the array's first axis; they are in voxels, which measured 1 mm
in the paper. Other voxels get about the same in mm, but no square has less than 3 voxels: a smaller
one would change nothing. Outside the image there is neither liver nor lesion: a liver that touches
the image's edge has its border there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.masks import bounding_box

SMALLEST = 3
"""Voxels: the smallest square that changes anything."""


@dataclass(frozen=True)
class Kernels:
    """Sides of the squares in voxels, odd; 1 changes nothing. They are for 1 mm, see `at`."""

    border: int = 7
    opening: int = 3

    def __post_init__(self) -> None:
        for name, side in (("border", self.border), ("opening", self.opening)):
            if side < 1 or side % 2 == 0:
                raise InputError(
                    f"the {name} kernel must be an odd number of voxels, found {side}."
                )

    def at(self, spacing_mm: Sequence[float]) -> Kernels:
        """About as wide in mm for other voxels than those of 1 mm: the nearest odd numbers.

        They are 3 or more, so that something is done where voxels are wide; 1 stays 1.

        Args:
            spacing_mm: of the slices' two axes.
        """
        mm = sum(spacing_mm) / len(spacing_mm)
        return Kernels(
            *(
                max(SMALLEST, 2 * round((side / mm - 1) / 2) + 1) if side > 1 else 1
                for side in (self.border, self.opening)
            )
        )

    def describe(self, spacing_mm: Sequence[float]) -> dict[str, Any]:
        """Their sides in voxels, and in mm along both axes of slices with this spacing."""
        return {
            "border_voxels": self.border,
            "border_mm": [round(self.border * mm, 3) for mm in spacing_mm],
            "opening_voxels": self.opening,
            "opening_mm": [round(self.opening * mm, 3) for mm in spacing_mm],
        }


PAPER = Kernels()


def postprocess_lesions(
    lesions_ZYX: np.ndarray, liver_ZYX: np.ndarray, kernels: Kernels = PAPER
) -> np.ndarray:
    """(L ∩ eroded liver) ∪ (opened L ∩ border), L the lesions inside the liver.

    Args:
        lesions_ZYX: bool, (z, y, x), or one slice (y, x).
        liver_ZYX: bool, of the same shape; empty: so is the result.
        kernels: sides of the squares.

    Returns:
        bool, of the same shape, a part of the lesions.

    Raises:
        ValueError: shapes differ.
    """
    if lesions_ZYX.shape != liver_ZYX.shape:
        raise ValueError(
            f"lesions {lesions_ZYX.shape} and liver {liver_ZYX.shape} have different shapes"
        )
    kept = np.zeros(lesions_ZYX.shape, bool)
    if not liver_ZYX.any():
        return kept
    # Outside the box there is no liver, as outside of an image.
    box = bounding_box(liver_ZYX)
    liver = liver_ZYX[box].astype(bool)
    lesions = lesions_ZYX[box].astype(bool) & liver
    inner = _square(ndimage.binary_erosion, liver, kernels.border)
    eroded = _square(ndimage.binary_erosion, lesions, kernels.opening)
    opened = _square(ndimage.binary_dilation, eroded, kernels.opening)
    kept[box] = np.where(inner, lesions, opened & lesions)
    return kept


def postprocess_label_map(
    labels: np.ndarray,
    liver: np.ndarray,
    classes: Sequence[Sequence[int]],
    *,
    kernels: Kernels = PAPER,
    becomes: int = 0,
) -> np.ndarray:
    """A label map whose lesions are post-processed, each class for itself; all other labels stay.

    Args:
        labels: integers, (z, y, x) or (y, x).
        liver: bool, of the same shape; lesions included.
        classes: the values of each class of lesions; several values are opened as one.
        kernels: sides of the squares.
        becomes: what a removed voxel inside the liver becomes, the liver's own label if the map has
            one. A lesion outside the liver becomes background, 0.

    Returns:
        Of the same type and shape.
    """
    result = labels.copy()
    for values in classes:
        lesions = np.isin(labels, list(values))
        removed = lesions & ~postprocess_lesions(lesions, liver, kernels)
        result[removed] = np.where(liver[removed], becomes, 0)
    return result


def describe(classes: Mapping[str, Sequence[int]], liver: str, kernels: Kernels) -> dict[str, Any]:
    """What was done, for prediction.json."""
    return {
        "classes": {name: list(values) for name, values in classes.items()},
        "liver": liver,
        "border_kernel": kernels.border,
        "opening_kernel": kernels.opening,
    }


def _square(operation: Any, mask: np.ndarray, side: int) -> np.ndarray:
    """Erosion or dilation with a square in the plane; beyond the edge is nothing."""
    if mask.size == 0:
        return mask
    for axis in (-2, -1):
        shape = [1] * mask.ndim
        shape[axis] = side
        mask = operation(mask, np.ones(shape, bool))
    return mask
