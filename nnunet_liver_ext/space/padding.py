"""Values that stand for "nothing was scanned here", such as -32768 around a straightened CT.

They are no intensities: interpolation between them and tissue makes bright and dark rings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.space.images import Grid, image_like

HIGHEST_PADDING = -2000.0
"""Usual paddings of CT are -2000, -2048, -3024 and -32768; nothing in a patient is below -1024
HU."""
LEAST_GAP = 500.0
"""Between padding and the next value; the intensities of an image have no hole as wide as that."""


@dataclass(frozen=True)
class Padding:
    """The padding of an image."""

    value: float
    background: float
    """The lowest of the other values, such as that of air."""
    highest: float
    """Of all values."""
    share: float
    """Of the voxels, 0..1."""

    @property
    def outweighs_image(self) -> bool:
        """Whether it lies further from the other values than these from each other.

        Then a mean or a percentile says little of the image.
        """
        return self.background - self.value > self.highest - self.background


def find_padding(values: np.ndarray) -> Padding | None:
    """The padding of an image, any shape; None if it has none."""
    if values.size == 0 or (lowest := float(values.min())) > HIGHEST_PADDING:
        return None
    others = values[values > lowest]
    if others.size == 0 or (background := float(others.min())) - lowest < LEAST_GAP:
        return None
    return Padding(lowest, background, float(others.max()), 1 - others.size / values.size)


def replace_padding(values: np.ndarray) -> np.ndarray:
    """The values with the lowest of the others in place of padding; the same array without."""
    padding = find_padding(values)
    if padding is None:
        return values
    return np.where(values == padding.value, values.dtype.type(padding.background), values)


def replace_padding_of_image(image: sitk.Image) -> sitk.Image:
    """As `replace_padding`; the same image without."""
    values = sitk.GetArrayViewFromImage(image)
    if find_padding(values) is None:
        return image
    return image_like(replace_padding(values), Grid.from_image(image))
