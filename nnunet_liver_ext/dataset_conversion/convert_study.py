"""One study onto one grid: a pure function of the study's files and the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.completeness import check_complete
from nnunet_liver_ext.dataset_conversion.label_values import (
    classes_of,
    liver_around,
    liver_of_label_map,
)
from nnunet_liver_ext.dataset_conversion.readers import Reader
from nnunet_liver_ext.dataset_conversion.settings import Settings
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import encode_pair
from nnunet_liver_ext.space.common_grid import mask_on_grid
from nnunet_liver_ext.space.image_channels import normalised, on_one_grid
from nnunet_liver_ext.space.images import Grid, array, image_like
from nnunet_liver_ext.studies.pair_studies import LIVER, Study


@dataclass(frozen=True)
class Converted:
    """A study on its common grid."""

    channels: list[sitk.Image]
    label: sitk.Image | None
    """Pair code; with pre-registration the labels of image 2; of a single image its labels."""
    grid: Grid
    native_grids: dict[str, Grid]
    """Of the images that there are, by modality."""
    transform: sitk.Transform | None = None
    raters: dict[str, sitk.Image] = field(default_factory=dict)
    """As `label`, by further raters."""


def convert_study(study: Study, settings: Settings, reader: Reader) -> Converted:
    """Reads a study and puts its images and masks onto one grid; the masks of a pair are joined
    there.

    Raises:
        InputError: an image or a mask is missing that the settings need, does not fit, or cannot be
            used; names the file.
    """
    check_complete(study, settings)
    opened = _Opened(study, settings, reader)
    if settings.preregister:
        return _preregistered(opened)
    return _pair(opened) if settings.pairs else _single(opened)


class _Opened:
    """The images of a study, read, and its masks, read when they are asked for."""

    def __init__(self, study: Study, settings: Settings, reader: Reader) -> None:
        self.study, self.settings, self.reader = study, settings, reader
        self.images = {
            name: reader.image(study.images[name])
            for name in settings.modalities
            if name in study.images
        }
        self.native = {name: Grid.of(image) for name, image in self.images.items()}

    def on_one_grid(self) -> tuple[list[sitk.Image], Grid]:
        """The image channels on the grid of the case."""
        how = self.settings
        return on_one_grid(
            self.images, how.modalities, how.grid_spacing, how.interpolation, pairs=how.pairs
        )

    def classes(self, masks: Mapping[str, Path]) -> dict[str, sitk.Image]:
        """Label maps of a study or a rater by modality, with the dataset's classes."""
        return {
            name: classes_of(self.label_map(path, name), path, self.settings)
            for name, path in masks.items()
            if name in self.images
        }

    def label_map(self, path: Path, name: str) -> sitk.Image:
        """A mask of an image with the values that the file has."""
        return self.reader.mask(path, self.images[name], self.study.images[name])


def _pair(opened: _Opened) -> Converted:
    """Both images on their common grid and the pair code; what is missing is 0."""
    settings, study = opened.settings, opened.study
    channels, grid = opened.on_one_grid()
    channels = normalised(channels, study.images, settings)
    label = _joined(opened.classes(study.masks), settings, grid) if study.is_labelled else None
    raters = {
        name: _joined(opened.classes(masks), settings, grid) for name, masks in study.raters.items()
    }
    return Converted(channels, label, grid, opened.native, raters=raters)


def _joined(masks: Mapping[str, sitk.Image], settings: Settings, grid: Grid) -> sitk.Image:
    """The pair code of masks on a common grid; a missing mask is background."""
    num_classes = settings.num_classes
    empty = grid.empty_image()
    first, second = (
        array(mask_on_grid(masks[name], grid, num_classes) if name in masks else empty)
        for name in settings.modalities
    )
    return image_like(encode_pair(first, second, num_classes), grid)


def _single(opened: _Opened) -> Converted:
    """One image of one or more channels, its labels, and its liver mask as the last channel if
    there is one."""
    settings, study = opened.settings, opened.study
    name = settings.modalities[0]
    channels, grid = opened.on_one_grid()
    values = opened.label_map(study.masks[name], name) if name in study.masks else None
    classes = None if values is None else classes_of(values, study.masks[name], settings)
    organ = _liver(opened, values, classes) if settings.organ is not None else None
    organ_on_grid = [] if organ is None else [_placed(organ, grid, 2)]
    label = None if classes is None else _placed(classes, grid, settings.num_classes)
    if (
        label is not None and organ_on_grid
    ):  # decided one by one, they may differ by a voxel on a coarser grid
        organ_on_grid = [
            liver_around(organ_on_grid[0], label, study.masks.get(LIVER, study.masks[name]))
        ]
    channels = normalised(channels, study.images, settings, *organ_on_grid)
    raters = {
        rater: _placed(mask, grid, settings.num_classes)
        for rater, own in study.raters.items()
        for mask in opened.classes(own).values()
    }
    return Converted([*channels, *organ_on_grid], label, grid, opened.native, raters=raters)


def _liver(opened: _Opened, values: sitk.Image | None, classes: sitk.Image | None) -> sitk.Image:
    """The liver mask of a study: its own file, else of the values of its label map; with what
    sticks out of it."""
    study, settings = opened.study, opened.settings
    name = settings.modalities[0]
    if LIVER in study.masks:
        return liver_around(opened.label_map(study.masks[LIVER], name), classes, study.masks[LIVER])
    if not settings.organ or values is None:
        how = (
            "give it as liver_mask, or say with --organ-values which values of the masks are the"
            " liver"
        )
        raise InputError(f"has no liver mask, which this task needs; {how}.")
    return liver_around(liver_of_label_map(values, settings), classes, study.masks[name])


def _placed(mask: sitk.Image, grid: Grid, num_classes: int) -> sitk.Image:
    """The label map on the images' grid; as it is where that is its own."""
    return mask if Grid.of(mask) == grid else mask_on_grid(mask, grid, num_classes)


def _preregistered(opened: _Opened) -> Converted:
    """Channels image 2 and image 1 warped onto it; labels of image 2."""
    from nnunet_liver_ext.space.preregistration import preregister_pair

    settings, study = opened.settings, opened.study
    moving, fixed = settings.modalities
    images = opened.images
    target, warped, transform = preregister_pair(images[moving], images[fixed], settings.to_json())
    grid = Grid.of(target)

    def labels(files: Mapping[str, Path]) -> Sequence[sitk.Image]:
        own = opened.classes({fixed: files[fixed]} if fixed in files else {})
        return [mask_on_grid(mask, grid, settings.num_classes) for mask in own.values()]

    channels = normalised(
        [target, warped], {fixed: study.images[fixed], moving: study.images[moving]}, settings
    )
    label = next(iter(labels(study.masks)), None)
    raters = {rater: mask for rater, files in study.raters.items() for mask in labels(files)}
    return Converted(channels, label, grid, opened.native, transform, raters)
