"""The images that belong to label maps, for the pictures of the report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.files.label_maps import (
    NO_MODALITY,
    ImageKey,
    image_key,
    images_of_studies,
)
from nnunet_liver_ext.studies.listed_files import ListedFile, ListedFolder, list_files
from nnunet_liver_ext.studies.study_layouts import select_studies

CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def find_images(path: Path, modalities: tuple[str, ...]) -> dict[ImageKey, Path]:
    """The images of each case and modality.

    Args:
        path: studies (a CSV, or a folder with one sub-folder each), nnU-Net's imagesTs
            (CASE_0000.nii.gz, CASE_0001.nii.gz in the order of the modalities), or a folder of
            CASE_T1.nii.gz or CASE.nii.gz.
        modalities: names of a pair's images.

    Raises:
        InputError: there is nothing there, or the studies cannot be read.
    """
    files = list_files(path, "folder or CSV of images")
    side_by_side = files.files if isinstance(files, ListedFolder) else []
    side_by_side = [file for file in side_by_side if not file.is_mask]
    if side_by_side:
        images = _select_images(side_by_side, modalities)
    else:
        studies, single = select_studies(files, modalities)
        images = images_of_studies(studies, single=single)
    if not images:
        raise InputError(f"{path}: holds no images.")
    return images


def _select_images(
    files: Sequence[ListedFile], modalities: tuple[str, ...]
) -> dict[ImageKey, Path]:
    images: dict[ImageKey, Path] = {}
    for file in files:
        channel = CHANNEL.fullmatch(file.name)
        if channel is None:
            images[image_key(file.name, modalities)] = file.path
            continue
        case, index = channel["case"], int(channel["channel"])
        if index < len(modalities):
            images[ImageKey(case, modalities[index])] = file.path
        if index == 0:
            images[ImageKey(case, NO_MODALITY)] = file.path
    return images
