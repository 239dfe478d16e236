"""How single slices become an image and a label map.

They are PNG or NIfTI files, with classes by values, palette or colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.image_reader import put_on_image_grid
from nnunet_liver_ext.dataset_conversion.label_options import describe_colours
from nnunet_liver_ext.dataset_conversion.single_slice_files import (
    SLICE_MM,
    is_png,
    read_png,
    read_single_slice_image,
    read_single_slice_mask,
    single_slice_grid,
)
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import image_like


@dataclass(frozen=True)
class SingleSliceReader:
    """Reads single slices and their masks."""

    pixel_mm: tuple[float, float] = (1.0, 1.0)
    """Size of a pixel of PNG files, (x, y)."""
    slice_mm: float = SLICE_MM
    """Thickness of PNG files."""
    colours: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Classes by their colours 0xrrggbb, if masks are coloured."""
    ignore_others: bool = False
    """Whether other colours are background."""

    def read_image(self, path: Path) -> sitk.Image:
        if not is_png(path):
            return read_single_slice_image(path)
        picture = read_png(path)
        if not picture.is_grey:
            raise InputError(
                f"{path}: is a colour image; its red, green and blue must be equal. Save it as"
                " grey."
            )
        return self._make_image(picture.grey)

    def read_mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        if is_png(path) != is_png(image_path):
            raise InputError(
                f"{path}: its image {image_path.name} is of another kind; give both as PNG or both"
                " as NIfTI."
            )
        mask = (
            self._make_image(self._read_labels(path))
            if is_png(path)
            else read_single_slice_mask(path)
        )
        return put_on_image_grid(mask, path, image, image_path)

    def _read_labels(self, path: Path) -> np.ndarray:
        """Labels (y, x) of a PNG mask."""
        picture = read_png(path, unseen_is_black=True)
        if self.colours:
            return self._check_colours(picture.colours, path)
        if picture.indices is not None:
            return picture.indices
        if not picture.is_grey:
            first = int(picture.colours[np.nonzero(picture.colours)][0])
            raise InputError(
                f"{path}: is a coloured mask; name its colours, for example --label"
                f" liver=#{first:06x}."
            )
        return picture.grey

    def _check_colours(self, colours: np.ndarray, path: Path) -> np.ndarray:
        known = [0, *(value for class_colours in self.colours.values() for value in class_colours)]
        unknown = colours[~np.isin(colours, known)]
        if unknown.size and not self.ignore_others:
            raise InputError(
                f"{path}: holds the colour #{int(unknown[0]):06x} (known:"
                f" {describe_colours(self.colours)}); name it with --label, or take it as"
                " background with --ignore-other-labels."
            )
        return colours

    def _make_image(self, values: np.ndarray) -> sitk.Image:
        return image_like(
            values[None], single_slice_grid(values.shape[::-1], self.pixel_mm, self.slice_mm)
        )
