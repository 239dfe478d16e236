"""Which files are 2D slices and which are their masks, and whose slices they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_liver_ext.dataset_conversion.csv_columns import read_csv_columns
from nnunet_liver_ext.dataset_conversion.folder_search import files_below
from nnunet_liver_ext.dataset_conversion.single_slice_files import is_png
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import image_ending, stem
from nnunet_liver_ext.studies.mask_names import image_of_mask, looks_like_mask

IMAGES, MASKS = ("images",), ("masks", "labels")
"""Names of folders, in small letters."""
PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")
"""Folders that are no patients."""
NUMBERED = re.compile(r"(?P<patient>.+?)[ _-]+(?:slice|image|img|s|z)?[ _-]?[0-9]+", re.IGNORECASE)
"""A patient's name and the number of a slice."""


@dataclass(frozen=True, order=True)
class SlicePlace:
    """Where a slice belongs: the same for an image and its mask."""

    folder: str
    """The folder that `images`, `masks` or `labels` lies in, relative to the root."""
    below: tuple[str, ...]
    """Sub-folders of `images`."""
    name: str

    @property
    def path(self) -> str:
        return "/".join(part for part in (self.folder, *self.below, self.name) if part)


def find_images_and_masks(root: Path) -> tuple[dict[SlicePlace, Path], dict[SlicePlace, Path]]:
    """All slices below a folder, and all masks, by where they belong.

    Raises:
        InputError: two images or two masks belong to one place.
    """
    images: dict[SlicePlace, Path] = {}
    masks: dict[SlicePlace, Path] = {}
    for path in files_below(root):
        if is_png(path) or image_ending(path):
            place, is_mask = _locate(path, root)
            files = masks if is_mask else images
            if place in files:
                raise InputError(
                    f"{path}: is a second {'mask' if is_mask else 'image'} {place.path} beside"
                    f" {files[place].name}."
                )
            files[place] = path
    return images, masks


def guess_patient(place: SlicePlace) -> str:
    """Whose slice it is by its place.

    The patient is the sub-folder of `images` that is no part of a split; else the name without the
    number at its end; else the name.
    """
    folders = [folder for folder in place.below if folder.lower() not in PARTS]
    if folders:
        return folders[0]
    match = NUMBERED.fullmatch(place.name)
    return match["patient"] if match else place.name


def read_patients(path: Path) -> dict[str, str]:
    """Patient of each slice by its name, of a CSV with the columns name and patient.

    Raises:
        InputError: it is no such CSV.
    """
    return {row[0]: row[1] for row in read_csv_columns(path, ("name", "patient"))}


def look_up_patient(place: SlicePlace, patients: Mapping[str, str], path: Path) -> str:
    """Whose slice it is by a CSV; InputError if that does not say."""
    patient = patients.get(place.path) or patients.get(place.name)
    if not patient:
        raise InputError(f"{path}: does not say whose slice {place.path} is.")
    return patient


def _locate(path: Path, root: Path) -> tuple[SlicePlace, bool]:
    """Where a file belongs, and whether it is a mask."""
    folders, name = path.relative_to(root).parts[:-1], stem(path)
    index = next(
        (
            index
            for index in reversed(range(len(folders)))
            if folders[index].lower() in IMAGES + MASKS
        ),
        None,
    )
    image = image_of_mask(name)
    is_mask = image is not None if index is None else folders[index].lower() in MASKS
    if index is None and not is_mask and looks_like_mask(name):
        raise InputError(
            f"{path}: looks like a mask, but whose it is cannot be told from its name; call it"
            " NAME_mask beside its image NAME, or an image something else."
        )
    if is_mask and image:
        name = image
    if index is None:
        return SlicePlace("/".join(folders), (), name), is_mask
    return SlicePlace("/".join(folders[:index]), folders[index + 1 :], name), is_mask
