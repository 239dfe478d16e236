"""From the values in a mask file to a dataset's classes, and to a liver mask beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid, array, image_like

MOST_OUTSIDE = 0.05
"""Share of the labelled voxels that may lie outside the liver mask; more is another patient's mask,
or a shifted one."""


def map_to_classes(mask: sitk.Image, path: Path, settings: ConversionSettings) -> sitk.Image:
    """The label map with the dataset's classes 0..K − 1 in place of the values that the file has.

    Raises:
        InputError: a value that belongs to no class, or no foreground at all; where there is a
            liver mask beside it, a case without lesions is no error.
    """
    values = array(mask)
    classes = np.zeros(values.shape, np.uint8)
    for label, class_values in enumerate(settings.labels.values(), start=1):
        classes[np.isin(values, class_values)] = label
    unknown = sorted(set(np.unique(values).tolist()) - settings.known_values)
    if unknown and settings.ignored_labels != "all":
        expected = ", ".join(
            f"{name}={'+'.join(map(str, class_values))}"
            for name, class_values in settings.labels.items()
        )
        raise InputError(
            f"{path}: holds the unknown label {unknown[0]} (known: {expected}); name it with"
            f" --label, for example --label liver={unknown[0]}, or drop it with --ignore-label"
            f" {unknown[0]} or --ignore-other-labels."
        )
    if not classes.any() and not settings.allow_empty and settings.organ is None:
        raise InputError(
            f"{path}: is empty; mend it, leave the study out, or allow empty masks with"
            " --allow-empty."
        )
    return image_like(classes, Grid.from_image(mask))


def liver_mask_from_labels(mask: sitk.Image, settings: ConversionSettings) -> sitk.Image:
    """The liver mask (uint8, 0 or 1) that the values `settings.organ` of a label map make up."""
    return image_like(np.isin(array(mask), settings.organ or ()), Grid.from_image(mask))


def extend_liver_mask(liver: sitk.Image, classes: sitk.Image | None, path: Path) -> sitk.Image:
    """The liver mask, 0 or 1, with the labelled voxels that stick out of it.

    A lesion at the border often does, by a voxel; extended, the mask contradicts no label wherever
    it serves.

    Args:
        liver: positive within the liver.
        classes: labels on the same grid, if there are any.
        path: where the liver mask is from, for messages.

    Raises:
        InputError: the mask is empty, or more than 5 % of the labelled voxels lie outside.
    """
    inside = array(liver) > 0
    if not inside.any():
        raise InputError(f"{path}: the liver mask is empty; mend it or leave the study out.")
    if classes is None:
        return image_like(inside, Grid.from_image(liver))
    labelled = array(classes) > 0
    outside = int((labelled & ~inside).sum())
    if outside > MOST_OUTSIDE * labelled.sum():
        raise InputError(
            f"{path}: the liver mask misses the tumour: {outside / labelled.sum():.0%} of the"
            " labelled voxels lie outside; is it another study's mask?"
        )
    return image_like(inside | labelled, Grid.from_image(liver))
