"""The images that belong to label maps, for the pictures of the report."""

from __future__ import annotations

import re
from pathlib import Path

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.files.label_maps import (
    NO_MODALITY,
    ImageKey,
    key_of,
    label_map_files,
)
from nnunet_liver_ext.evaluation.files.studies_beside import read_either
from nnunet_liver_ext.space.images import stem
from nnunet_liver_ext.studies.pair_studies import is_mask_name

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
    if not path.exists():
        raise InputError(f"{path}: no such folder or CSV of images.")
    files = (
        [file for file in label_map_files(path) if not is_mask_name(stem(file))]
        if path.is_dir()
        else []
    )
    images = _from_files(files, modalities) if files else _from_studies(path, modalities)
    if not images:
        raise InputError(f"{path}: holds no images.")
    return images


def _from_files(files: list[Path], modalities: tuple[str, ...]) -> dict[ImageKey, Path]:
    images: dict[ImageKey, Path] = {}
    for file in files:
        channel = CHANNEL.fullmatch(stem(file))
        if channel is None:
            images[key_of(file, modalities)] = file
            continue
        case, index = channel["case"], int(channel["channel"])
        if index < len(modalities):
            images[ImageKey(case, modalities[index])] = file
        if index == 0:
            images[ImageKey(case, NO_MODALITY)] = file
    return images


def _from_studies(path: Path, modalities: tuple[str, ...]) -> dict[ImageKey, Path]:
    studies, single = read_either(path, modalities)
    return {
        ImageKey(study.name, NO_MODALITY if single else name): image
        for study in studies
        for name, image in reversed(
            [*study.images.items()]
        )  # of several channels the first one stays
    }
