"""One study onto one grid: a pure function of the study's files and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext import __version__
from nnunet_liver_ext.dataset_conversion.common_grid import (
    DEFAULT_SPACING,
    Interpolation,
    Spacing,
    common_grid,
    image_on_grid,
    mask_on_grid,
)
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.images import Grid, array, image_like, read_image, read_mask
from nnunet_liver_ext.pairing import PairLabels, encode_pair
from nnunet_liver_ext.studies import Study


class Reader(Protocol):
    """How the files of a dataset become images; a dataset with quirks brings its own."""

    def image(self, path: Path) -> sitk.Image:
        """The image of a study."""

    def mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        """The label map that belongs to an image, on the image's grid."""


class PlainReader:
    """Files and DICOM folders as they are; a mask must have its image's grid."""

    def image(self, path: Path) -> sitk.Image:
        return read_image(path)

    def mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        mask = read_mask(path)
        if not Grid.of(mask).matches(Grid.of(image)):
            raise InputError(
                f"{path}: is not on the grid of its image {image_path.name} ({Grid.of(mask)}; image: {Grid.of(image)})."
            )
        return image_like(array(mask), Grid.of(image))


@dataclass(frozen=True)
class Settings:
    """How cases of a dataset are converted."""

    labels: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {"liver": (1,)})
    """Values in the masks of each foreground class, in the order of the classes 1, 2, ..."""
    spacing: Spacing = DEFAULT_SPACING
    interpolation: Interpolation = "bspline"
    preregister: bool = False
    allow_empty: bool = False
    ignored_labels: tuple[int, ...] | Literal["all"] = ()
    """Values in the masks that are background here (other organs); "all" that belong to no class."""
    modalities: tuple[str, str] = ("T1", "T2")

    def __post_init__(self) -> None:
        values = [0, *self.listed_ignored_labels, *(value for own in self.labels.values() for value in own)]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise InputError(f"the mask value {twice[0]} is used twice; give each value to one class (0 is the background).")
        if not self.labels or "background" in self.labels:
            raise InputError("name the classes in the masks without the background, for example --label liver=1.")

    @property
    def listed_ignored_labels(self) -> tuple[int, ...]:
        return () if self.ignored_labels == "all" else tuple(self.ignored_labels)

    @property
    def pair(self) -> PairLabels:
        return PairLabels(self.modalities, ("background", *self.labels))

    def to_json(self) -> dict[str, Any]:
        """What dataset.json keeps as `conversion`; prediction puts new images onto their grid by it."""
        return {
            "spacing": self.spacing if isinstance(self.spacing, str) else list(self.spacing),
            "interpolation": self.interpolation,
            "preregistered": self.preregister,
            "labels": {name: list(values) for name, values in self.labels.items()},
            "version": __version__,
        }

    def dataset_json(self, num_training: int) -> dict[str, Any]:
        """nnU-Net's dataset.json with our entries: `pair` or `preregistered`, and `conversion`."""
        first, second = self.modalities
        common = {"numTraining": num_training, "file_ending": ".nii.gz", "conversion": self.to_json()}
        if self.preregister:
            return {
                "channel_names": {"0": second, "1": f"{first} warped"},
                "labels": {name: label for label, name in enumerate(self.pair.classes)},
                "preregistered": {"fixed": second, "moving": first},
                **common,
            }
        return {
            "channel_names": {"0": first, "1": second},
            "labels": self.pair.dataset_labels(),
            "pair": self.pair.to_json(),
            **common,
        }


@dataclass(frozen=True)
class Converted:
    """A study on its common grid."""

    channels: list[sitk.Image]
    label: sitk.Image | None
    """Pair code; with pre-registration the labels of image 2."""
    grid: Grid
    native_grids: dict[str, Grid]
    transform: sitk.Transform | None = None


def convert_study(study: Study, settings: Settings, reader: Reader) -> Converted:
    """Reads a study and puts its images and masks onto one grid; the masks are joined there.

    Raises:
        InputError: an image or one of two masks is missing, does not fit, or cannot be used; names the file.
    """
    _check_complete(study, settings)
    images = {name: reader.image(study.images[name]) for name in settings.modalities}
    native = {name: Grid.of(image) for name, image in images.items()}
    masks = {
        name: classes_of(reader.mask(path, images[name], study.images[name]), path, settings)
        for name, path in study.masks.items()
    }
    if settings.preregister:
        return _preregistered(images, masks, native, settings)
    grid = common_grid(list(images.values()), settings.spacing)
    channels = [image_on_grid(image, grid, settings.interpolation) for image in images.values()]
    if not masks:
        return Converted(channels, None, grid, native)
    num_classes = settings.pair.num_classes
    first, second = (array(mask_on_grid(masks[name], grid, num_classes)) for name in settings.modalities)
    return Converted(channels, image_like(encode_pair(first, second, num_classes), grid), grid, native)


def classes_of(mask: sitk.Image, path: Path, settings: Settings) -> sitk.Image:
    """The label map with the dataset's classes 0..K − 1 in place of the values that the file has.

    Raises:
        InputError: a value that belongs to no class, or no foreground at all.
    """
    values = array(mask)
    classes = np.zeros(values.shape, np.uint8)
    known = {0, *settings.listed_ignored_labels}
    for label, own in enumerate(settings.labels.values(), start=1):
        classes[np.isin(values, own)] = label
        known.update(own)
    unknown = sorted(set(np.unique(values).tolist()) - known)
    if unknown and settings.ignored_labels != "all":
        expected = ", ".join(f"{name}={'+'.join(map(str, own))}" for name, own in settings.labels.items())
        raise InputError(
            f"{path}: holds the unknown label {unknown[0]} (known: {expected}); name it with --label, "
            f"for example --label liver={unknown[0]}, or drop it with --ignore-label {unknown[0]} or --ignore-other-labels."
        )
    if not classes.any() and not settings.allow_empty:
        raise InputError(f"{path}: is empty; mend it, leave the study out, or allow empty masks with --allow-empty.")
    return image_like(classes, Grid.of(mask))


def _check_complete(study: Study, settings: Settings) -> None:
    for kind, files in (("image", study.images), ("mask", study.masks)):
        missing = [name for name in settings.modalities if name not in files]
        if not missing or (kind == "mask" and len(missing) == 2):
            continue
        if kind == "mask" and settings.preregister and settings.modalities[1] not in missing:
            continue
        raise InputError(f"has no {missing[0]} {kind}; a pair needs {' and '.join(settings.modalities)}.")


def _preregistered(
    images: dict[str, sitk.Image], masks: dict[str, sitk.Image], native: dict[str, Grid], settings: Settings
) -> Converted:
    """Channels image 2 and image 1 warped onto it; labels of image 2."""
    from nnunet_liver_ext.dataset_conversion.registration import preregister_pair

    moving, fixed = settings.modalities
    target, warped, transform = preregister_pair(images[moving], images[fixed], settings.to_json())
    grid = Grid.of(target)
    label = mask_on_grid(masks[fixed], grid, settings.pair.num_classes) if fixed in masks else None
    return Converted([target, warped], label, grid, native, transform)
