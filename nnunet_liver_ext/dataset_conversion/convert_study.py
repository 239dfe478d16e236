"""One study onto one grid: a pure function of the study's files and the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.image_reader import ImageReader
from nnunet_liver_ext.dataset_conversion.mask_classes import (
    extend_liver_mask,
    liver_mask_from_labels,
    map_to_classes,
)
from nnunet_liver_ext.dataset_conversion.missing_images import check_required_images
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import encode_pair
from nnunet_liver_ext.space.image_channels import normalise_channels, resample_channels
from nnunet_liver_ext.space.images import Grid, array, image_like
from nnunet_liver_ext.space.mask_resampling import mask_on_grid
from nnunet_liver_ext.space.study_images import check_study_images
from nnunet_liver_ext.studies.study import LIVER, Study


@dataclass(frozen=True)
class ConvertedStudy:
    """A study on its common grid."""

    channels: list[sitk.Image]
    label: sitk.Image | None
    """Pair code; with pre-registration the labels of image 2; of a single image its labels."""
    grid: Grid
    native_grids: dict[str, Grid]
    """Grids of the images as they were read, by modality."""
    transform: sitk.Transform | None = None
    raters: dict[str, sitk.Image] = field(default_factory=dict)
    """Labels by further raters, as `label`."""
    notes: tuple[str, ...] = ()
    """What is strange about the images, a sentence each."""


def convert_study(
    study: Study, settings: ConversionSettings, reader: ImageReader
) -> ConvertedStudy:
    """Reads a study and puts its images and masks onto one grid, where a pair's masks are joined.

    Raises:
        InputError: an image or a mask is missing that the settings need, does not fit, or cannot be
            used; names the file.
    """
    check_required_images(study, settings)
    loaded = _LoadedStudy(study, settings, reader)
    notes = check_study_images(
        loaded.images,
        {name: study.images[name] for name in loaded.images},
        unregistered=settings.layout != "images",
    )
    if settings.preregister:
        converted = _convert_preregistered(loaded)
    else:
        converted = _convert_pair(loaded) if settings.pairs else _convert_images(loaded)
    return replace(converted, notes=notes)


class _LoadedStudy:
    """The images of a study, read, and its masks, read when they are asked for."""

    def __init__(self, study: Study, settings: ConversionSettings, reader: ImageReader) -> None:
        self.study, self.settings, self.reader = study, settings, reader
        self.images = {
            name: reader.read_image(study.images[name])
            for name in settings.modalities
            if name in study.images
        }
        self.native = {name: Grid.from_image(image) for name, image in self.images.items()}

    def channels_on_grid(self) -> tuple[dict[str, sitk.Image], Grid]:
        """The image channels on the grid of the case, by modality."""
        how = self.settings
        channels, grid = resample_channels(
            self.images, how.modalities, how.grid_spacing, how.interpolation, pairs=how.pairs
        )
        return dict(zip(how.modalities, channels, strict=True)), grid

    def classes(self, masks: Mapping[str, Path]) -> dict[str, sitk.Image]:
        """Label maps of a study or a rater by modality, with the dataset's classes."""
        return {
            name: map_to_classes(self.label_map(path, name), path, self.settings)
            for name, path in masks.items()
            if name in self.images
        }

    def label_map(self, path: Path, name: str) -> sitk.Image:
        """A mask of an image with the values that the file has."""
        return self.reader.read_mask(path, self.images[name], self.study.images[name])


def _convert_pair(loaded: _LoadedStudy) -> ConvertedStudy:
    """Both images on their common grid and the pair code; what is missing is 0."""
    settings, study = loaded.settings, loaded.study
    on_grid, grid = loaded.channels_on_grid()
    channels = normalise_channels(on_grid, study.images, settings.intensities)
    label = _join_masks(loaded.classes(study.masks), settings, grid) if study.is_labelled else None
    raters = {
        name: _join_masks(loaded.classes(masks), settings, grid)
        for name, masks in study.raters.items()
    }
    return ConvertedStudy(channels, label, grid, loaded.native, raters=raters)


def _join_masks(
    masks: Mapping[str, sitk.Image], settings: ConversionSettings, grid: Grid
) -> sitk.Image:
    """The pair code of masks on a common grid; a missing mask is background."""
    num_classes = settings.num_classes
    empty = grid.empty_image()
    first, second = (
        array(mask_on_grid(masks[name], grid, num_classes) if name in masks else empty)
        for name in settings.modalities
    )
    return image_like(encode_pair(first, second, num_classes), grid)


def _convert_images(loaded: _LoadedStudy) -> ConvertedStudy:
    """One image of one or more channels, its labels, and its liver mask, if any, as a channel."""
    settings, study = loaded.settings, loaded.study
    name = settings.modalities[0]
    on_grid, grid = loaded.channels_on_grid()
    values = loaded.label_map(study.masks[name], name) if name in study.masks else None
    classes = None if values is None else map_to_classes(values, study.masks[name], settings)
    organ = _liver_mask(loaded, values, classes) if settings.organ is not None else None
    organ_on_grid = [] if organ is None else [_put_on_grid(organ, grid, 2)]
    label = None if classes is None else _put_on_grid(classes, grid, settings.num_classes)
    if label is not None and organ_on_grid:
        # resampled one by one, both may differ by a voxel on a coarser grid
        organ_on_grid = [
            extend_liver_mask(organ_on_grid[0], label, study.masks.get(LIVER, study.masks[name]))
        ]
    channels = normalise_channels(on_grid, study.images, settings.intensities, *organ_on_grid)
    raters = {
        rater: _put_on_grid(mask, grid, settings.num_classes)
        for rater, masks in study.raters.items()
        for mask in loaded.classes(masks).values()
    }
    return ConvertedStudy([*channels, *organ_on_grid], label, grid, loaded.native, raters=raters)


def _liver_mask(
    loaded: _LoadedStudy, values: sitk.Image | None, classes: sitk.Image | None
) -> sitk.Image:
    """The liver mask from its own file or from values of the label map, extended by the labels."""
    study, settings = loaded.study, loaded.settings
    name = settings.modalities[0]
    if LIVER in study.masks:
        return extend_liver_mask(
            loaded.label_map(study.masks[LIVER], name), classes, study.masks[LIVER]
        )
    if not settings.organ or values is None:
        how = (
            "give it as liver_mask, or say with --organ-values which values of the masks are the"
            " liver"
        )
        raise InputError(f"has no liver mask, which this task needs; {how}.")
    return extend_liver_mask(liver_mask_from_labels(values, settings), classes, study.masks[name])


def _put_on_grid(mask: sitk.Image, grid: Grid, num_classes: int) -> sitk.Image:
    """The label map on the images' grid; unchanged if it has that grid already."""
    return mask if Grid.from_image(mask) == grid else mask_on_grid(mask, grid, num_classes)


def _convert_preregistered(loaded: _LoadedStudy) -> ConvertedStudy:
    """Channels image 2 and image 1 warped onto it; labels of image 2."""
    from nnunet_liver_ext.space.preregistration import preregister_pair

    settings, study = loaded.settings, loaded.study
    moving, fixed = settings.modalities
    images = loaded.images
    target, warped, transform = preregister_pair(images[moving], images[fixed], settings.to_json())
    grid = Grid.from_image(target)

    def labels(files: Mapping[str, Path]) -> Sequence[sitk.Image]:
        masks = loaded.classes({fixed: files[fixed]} if fixed in files else {})
        return [mask_on_grid(mask, grid, settings.num_classes) for mask in masks.values()]

    channels = normalise_channels(
        {fixed: target, moving: warped}, study.images, settings.intensities
    )
    label = next(iter(labels(study.masks)), None)
    raters = {rater: mask for rater, files in study.raters.items() for mask in labels(files)}
    return ConvertedStudy(channels, label, grid, loaded.native, transform, raters)
