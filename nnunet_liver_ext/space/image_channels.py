"""The images of a study as channels on one grid, for conversion and prediction alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.common_grid import (
    GridSpacing,
    Interpolation,
    common_grid,
    image_on_grid,
)
from nnunet_liver_ext.space.images import Grid, array, image_like
from nnunet_liver_ext.space.intensities import Intensities

AS_THEY_ARE = (
    sitk.sitkUInt8,
    sitk.sitkInt8,
    sitk.sitkUInt16,
    sitk.sitkInt16,
    sitk.sitkUInt32,
    sitk.sitkInt32,
    sitk.sitkFloat32,
)
"""Pixel types that are written as they are read; a CT of 16-bit integers takes half the room of
floats."""


def resample_channels(
    images: Mapping[str, sitk.Image],
    modalities: Sequence[str],
    spacing: GridSpacing,
    interpolation: Interpolation,
    *,
    pairs: bool = True,
) -> tuple[list[sitk.Image], Grid]:
    """The images on one grid.

    Args:
        images: by modality; those of a pair that are missing become images of zeros.
        modalities: the channels.
        spacing: of the grid (`common_grid`); "native" is the first image's very grid, neither
            resampled nor turned.
        interpolation: of images that are resampled.
        pairs: the grid covers all images; else the first one alone, and the others go onto that.

    Returns:
        The channels in the order of `modalities`, and the grid.

    Raises:
        InputError: the images do not overlap.
    """
    given = [images[name] for name in modalities if name in images]
    if spacing == "native":
        common_grid(given, "native-t1")  # raises if they do not overlap
        grid = Grid.from_image(given[0])
        return [_put_on_grid(image, grid, interpolation) for image in given], grid
    grid = common_grid(given, spacing)  # raises if they do not overlap, whatever the layout
    if not pairs:
        grid = common_grid(given[:1], spacing)
    channels = [
        image_on_grid(images[name], grid, interpolation)
        if name in images
        else grid.empty_image(sitk.sitkFloat32)
        for name in modalities
    ]
    return channels, grid


def normalise_channels(
    channels: Mapping[str, sitk.Image],
    files: Mapping[str, Path],
    intensities: Intensities,
    organ: sitk.Image | None = None,
) -> list[sitk.Image]:
    """The channels with normalised intensities; an image that is missing stays zeros.

    Args:
        channels: by modality, in the order of the dataset's channels.
        files: of the images that there are, by modality, for messages.
        intensities: how they are normalised.
        organ: the liver mask on the channels' grid.

    Raises:
        InputError: an image without contrast; names the file.
    """
    if not intensities.is_normalising:
        return list(channels.values())
    organ_ZYX = None if organ is None else array(organ)
    normalised = []
    for index, (modality, channel) in enumerate(channels.items()):
        if modality not in files:
            normalised.append(channel)
            continue
        try:
            values = intensities.apply(array(channel), organ_ZYX, index=index)
        except InputError as error:
            raise InputError(f"{files[modality]}: {error}") from None
        normalised.append(image_like(values, Grid.from_image(channel)))
    return normalised


def _put_on_grid(image: sitk.Image, grid: Grid, interpolation: Interpolation) -> sitk.Image:
    """The image on a grid, untouched where it is there already."""
    if not Grid.from_image(image).matches(grid):
        return image_on_grid(image, grid, interpolation)
    if image.GetPixelID() not in AS_THEY_ARE:
        image = sitk.Cast(image, sitk.sitkFloat32)
    return image if Grid.from_image(image) == grid else image_like(array(image), grid)
