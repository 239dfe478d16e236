"""Masks whose slices are files of their own, each of which belongs to a slice of the image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.folder_search import natural_order
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.dicom import read_slice
from nnunet_liver_ext.space.images import array


def rank_names(names: Iterable[str]) -> dict[str, int]:
    """The place of each name among all of them, 2 before 10, from 0."""
    return {name: rank for rank, name in enumerate(sorted(names, key=natural_order))}


def read_png_slice(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Grey values (y, x) of a PNG file; one of a single bit has 0 and a number above it.

    Args:
        path: the file.
        size: columns and rows of its slice.

    Raises:
        InputError: it cannot be read, has colours, or another size.
    """
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise InputError(f"{path}: cannot be read, it is damaged or incomplete.") from None
    if image.GetSize() != size or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{path}: is not a grey image of the size of its slice, {size[0]}x{size[1]}."
        )
    return array(image)


def read_dicom_slice(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Values (y, x) of a DICOM file; its place in space is not looked at.

    Args:
        path: the file.
        size: columns and rows of its slice.

    Raises:
        InputError: as `dicom.read_slice`, or it has another size.
    """
    values = read_slice(path)
    if values.shape != size[::-1]:
        raise InputError(
            f"{path}: has {values.shape[1]}x{values.shape[0]} pixels, its slice"
            f" {size[0]}x{size[1]}."
        )
    return values
