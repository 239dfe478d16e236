"""How the files of a dataset become images and masks.

A dataset with quirks brings a reader of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid, array, image_like, read_image, read_mask


class ImageReader(Protocol):
    """How the files of a dataset become images."""

    def read_image(self, path: Path) -> sitk.Image:
        """The image of a study."""

    def read_mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        """The label map that belongs to an image, on the image's grid."""


class PlainReader:
    """Files and DICOM folders as they are; a mask must have its image's grid."""

    def read_image(self, path: Path) -> sitk.Image:
        return read_image(path)

    def read_mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        return put_on_image_grid(read_mask(path), path, image, image_path)


def put_on_image_grid(
    mask: sitk.Image, path: Path, image: sitk.Image, image_path: Path
) -> sitk.Image:
    """The mask on the very grid of its image, which it must have but for rounding.

    Raises:
        InputError: it has another one; names both files.
    """
    mask_grid, grid = Grid.from_image(mask), Grid.from_image(image)
    if not mask_grid.matches(grid):
        raise InputError(
            f"{path}: is not on the grid of its image {image_path.name} ({mask_grid};"
            f" image: {grid})."
        )
    return image_like(array(mask), grid)
