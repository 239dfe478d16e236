"""What is one lesion: the connected components of a mask, or the labels of a lesion map."""

from __future__ import annotations

from typing import Any, Literal, get_args

import cc3d
import numpy as np
import numpy.typing as npt

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.masks import BoolArray

Connectivity = Literal[6, 18, 26]
LabelArray = npt.NDArray[Any]
"""Lesion ids, 0 is background: bool or integers."""


def find_lesions(mask: npt.ArrayLike, *, connectivity: Connectivity = 26) -> LabelArray:
    """The lesions of a mask: its connected components, numbered by their first voxels.

    By default voxels are connected by faces, edges and corners (26 neighbours; 8 in 2D). Slices of
    MRI are often several mm thick, and a thin or oblique lesion that continues in the next slice
    may touch itself at an edge or corner only: with 6 neighbours it would fall into pieces, each a
    miss or an invention of its own.

    Args:
        mask: bool, or zero and one other whole number, (z, y, x) or (y, x).
        connectivity: 26, 18 (faces and edges; 8 in 2D) or 6 (faces; 4 in 2D).

    Returns:
        Integers of the mask's shape: 0 for background, the lesions are 1..n. All zero for an empty
        mask.

    Raises:
        InputError: the array is no mask, is not 2D or 3D, or the connectivity is unknown.
    """
    if connectivity not in get_args(Connectivity):
        raise InputError(f"connectivity must be one of 6, 18, 26, not {connectivity!r}.")
    labels = _require_labels(mask, "mask")
    if not _is_mask(labels):
        raise InputError(
            f"mask holds several labels (0..{labels.max()}): choose one, as in mask == 1."
        )
    return _components(labels != 0, connectivity)


def require_lesion_map(values: npt.ArrayLike, name: str) -> LabelArray:
    """The lesions of a mask, as `find_lesions` numbers them, or the labels of a lesion map.

    An array with one value beside zero is a mask.

    Raises:
        InputError: the array is not 2D or 3D, or holds fractions or negative numbers; `name` says
            which one.
    """
    labels = _require_labels(values, name)
    return _components(labels != 0, connectivity=26) if _is_mask(labels) else labels


def _components(mask: BoolArray, connectivity: Connectivity) -> LabelArray:
    """The numbered components; a 2D mask is a volume of one slice."""
    if mask.size == 0:
        return np.zeros(mask.shape, np.uint32)
    volume = mask if mask.ndim == 3 else mask[None]
    # In C order, for cc3d numbers in the order of memory; with a margin, for cc3d 4.1 has too few
    # provisional labels for the single voxels in some volumes of odd size, and raises.
    padded = np.zeros([n + 1 for n in volume.shape], bool)
    padded[:-1, :-1, :-1] = volume
    labels: LabelArray = cc3d.connected_components(
        padded, connectivity=connectivity, out_dtype=np.uint32
    )
    return labels[:-1, :-1, :-1].reshape(mask.shape)


def _is_mask(labels: LabelArray) -> bool:
    foreground = labels[labels != 0]
    return foreground.size == 0 or bool(foreground.min() == foreground.max())


def _require_labels(values: npt.ArrayLike, name: str) -> LabelArray:
    """The array as bool, or as integers from 0 on."""
    array: LabelArray = np.asarray(values)
    if array.ndim not in (2, 3):
        raise InputError(f"{name} must be (z, y, x) or (y, x), not of shape {array.shape}.")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} must be a bool or integer array, not {array.dtype}.")
    if array.dtype.kind == "f":
        fractions = array[~np.isfinite(array) | (array != np.round(array))]
        if fractions.size:
            raise InputError(
                f"{name} holds fractions such as {fractions[0]:.4g}: threshold it first."
            )
        array = array.astype(np.int64)
    if array.size and array.min() < 0:
        raise InputError(
            f"{name} holds negative labels such as {array.min()}: lesions are numbered from 1."
        )
    return array
