"""Ordinary studies: an image of one or more channels, perhaps with its mask and a liver mask.

Channels are named by the user: ("MR",), ("CT",), ("water", "fat"). The mask belongs to the first of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.listed_files import (
    ListedFile,
    ListedFolder,
    add_file,
    is_mask_name,
    split_name,
)
from nnunet_liver_ext.studies.pair_studies import list_studies
from nnunet_liver_ext.studies.study import LIVER, Study, sort_by_name
from nnunet_liver_ext.studies.study_table import StudyTable

IMAGE = "image"
"""What an only image may be called in the sub-folder of its study."""


def read_image_studies(path: Path, *, modalities: Sequence[str]) -> list[Study]:
    """Studies of a CSV or a folder, sorted by name.

    A CSV has the columns patient, study (or one of them), one for each channel by its name (an only
    image may be `image`), mask and liver_mask, with paths relative to the CSV; empty cells are
    absent files. A folder holds NAME.nii.gz with NAME_mask.nii.gz (and NAME_liver_mask.nii.gz) side
    by side, or NAME_0000.nii.gz or NAME_CHANNEL.nii.gz for each channel, or a sub-folder for each
    study with `image` or CHANNEL, `mask` and `liver_mask` in it, or nnU-Net's imagesTr, labelsTr
    and imagesTs. An image may be a folder of DICOM slices. In folders each study is a patient of
    its own.

    Args:
        path: CSV file or folder.
        modalities: names of the channels.

    Raises:
        InputError: nothing there, missing columns or files, a mask without an image, or two studies
            with one name.
    """
    return select_image_studies(list_studies(path), modalities)


def select_image_studies(
    files: ListedFolder | StudyTable, modalities: Sequence[str]
) -> list[Study]:
    """The ordinary studies among the files; layouts and errors as `read_image_studies`."""
    if isinstance(files, StudyTable):
        columns = {name.lower(): name for name in modalities}
        if len(modalities) == 1:
            columns[IMAGE] = modalities[0]
        studies = files.studies(columns, {"mask": modalities[0], f"{LIVER}_mask": LIVER})
    elif any(folder.path.name == "imagesTr" for folder in files.folders):
        studies = _studies_of_nnunet(files, modalities)
    else:
        studies = _studies_in(files, modalities)
    if not studies:
        raise InputError(
            f"{files.path}: holds no studies; expected NAME.nii.gz and NAME_mask.nii.gz, a"
            " sub-folder for each study, or a CSV with patient, study,"
            f" {', '.join(name.lower() for name in modalities)}, mask."
        )
    return sort_by_name(studies, files.path)


def _studies_in(folder: ListedFolder, modalities: Sequence[str]) -> list[Study]:
    """Files side by side, and a sub-folder for each study."""
    in_folders = (
        _study_in(inner, modalities) for inner in folder.study_folders if not inner.is_series
    )
    side_by_side = _studies_side_by_side(folder.files_and_series, modalities)
    return side_by_side + [study for study in in_folders if study.images]


def _studies_of_nnunet(folder: ListedFolder, modalities: Sequence[str]) -> list[Study]:
    """A raw dataset of nnU-Net; what lies in imagesTs has no masks."""
    inner = {child.path.name: child for child in folder.folders}
    studies = _studies_side_by_side(inner["imagesTr"].files_and_series, modalities)
    labels: dict[str, Path] = {}
    if "labelsTr" in inner:
        labels = {file.name: file.path for file in inner["labelsTr"].files_and_series}
    alone = sorted(labels.keys() - {study.study for study in studies})
    if alone:
        raise InputError(f"{labels[alone[0]]}: is a mask, but there is no image of {alone[0]}.")
    masks = {name: {modalities[0]: path} for name, path in labels.items()}
    studies = [replace(study, masks=masks.get(study.study, {})) for study in studies]
    if "imagesTs" in inner:
        studies += _studies_side_by_side(inner["imagesTs"].files_and_series, modalities)
    return studies


def _studies_side_by_side(files: Sequence[ListedFile], modalities: Sequence[str]) -> list[Study]:
    """NAME.nii.gz or NAME_CHANNEL.nii.gz, NAME_mask.nii.gz, NAME_liver_mask.nii.gz."""
    images: dict[str, dict[str, Path]] = {}
    masks: dict[str, Path] = {}
    for file in files:
        if file.is_mask:
            add_file(file.path, file.bare_name, masks, "mask")
            continue
        name, modality = split_name(file.name, modalities, numbered=True)
        if modality is None and len(modalities) == 1:
            modality = modalities[0]
        if modality is not None and name:
            add_file(file.path, modality, images.setdefault(name, {}), "image")
    return _with_masks(images, masks, modalities)


def _with_masks(
    images: dict[str, dict[str, Path]], masks: dict[str, Path], modalities: Sequence[str]
) -> list[Study]:
    """The studies, each image with its masks.

    NAME or NAME_CHANNEL is the name of a label map, NAME_liver that of a liver mask.
    """
    masks_by_study: dict[str, dict[str, Path]] = {}
    for mask_name, path in masks.items():
        name, key = mask_name, modalities[0]
        if name not in images:
            name = split_name(mask_name, modalities, numbered=True).case
        if name not in images and mask_name.lower().endswith(f"_{LIVER}"):
            name = split_name(mask_name[: -len(LIVER) - 1], modalities, numbered=True).case
            key = LIVER
        if name not in images:
            raise InputError(f"{path}: is a mask, but there is no image of {name}.")
        add_file(path, key, masks_by_study.setdefault(name, {}), "mask")
    return [
        Study(name, name, files, masks_by_study.get(name, {})) for name, files in images.items()
    ]


def _study_in(folder: ListedFolder, modalities: Sequence[str]) -> Study:
    """A folder with image.nii.gz or MR.nii.gz (files or slices), mask and liver_mask."""
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for file in folder.files_and_series:
        name = f"_{file.name}".lower()
        if is_mask_name(name):
            add_file(file.path, LIVER if f"_{LIVER}_" in name else modalities[0], masks, "mask")
        elif name == f"_{IMAGE}" and len(modalities) == 1:
            add_file(file.path, modalities[0], images, "image")
        elif (modality := split_name(name, modalities, numbered=True).modality) is not None:
            add_file(file.path, modality, images, "image")
    return Study(folder.path.name, folder.path.name, images, masks)
