"""The studies of a folder: pairs or single images, side by side or in sub-folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.file_names import (
    ListedFile,
    ListedFolder,
    is_mask_name,
    name_files,
    split_name,
)
from nnunet_liver_ext.studies.study import LIVER, Study

IMAGE = "image"
"""What an only image may be called in the sub-folder of its study."""


def pairs_of_folder(folder: ListedFolder, modalities: Sequence[str]) -> list[Study]:
    """The studies of pairs in a folder.

    Raises:
        InputError: a mask has no image, or two files are the same image's.
    """
    in_folders = (_pair_in(inner, modalities) for inner in folder.study_folders)
    side_by_side = _pairs_side_by_side(folder.files, modalities)
    return side_by_side + [study for study in in_folders if study.images]


def images_of_folder(folder: ListedFolder, modalities: Sequence[str]) -> list[Study]:
    """The studies of single images in a folder, or in a raw dataset of nnU-Net.

    Raises:
        InputError: a mask has no image, or two files are the same image's.
    """
    if any(inner.path.name == "imagesTr" for inner in folder.folders):
        return _images_of_nnunet(folder, modalities)
    in_folders = (
        _image_in(inner, modalities) for inner in folder.study_folders if not inner.is_series
    )
    side_by_side = _images_side_by_side(folder.files_and_series, modalities)
    return side_by_side + [study for study in in_folders if study.images]


def _pairs_side_by_side(files: Sequence[ListedFile], modalities: Sequence[str]) -> list[Study]:
    """NAME_T1.nii.gz, NAME_T1_mask.nii.gz, or NAME_0000.nii.gz in one folder."""
    images: dict[str, dict[str, Path]] = {}
    masks: dict[str, dict[str, Path]] = {}
    for file in name_files(files, modalities, numbered=True):
        if file.modality is not None and file.case:
            of_kind = (masks if file.is_mask else images).setdefault(file.case, {})
            _add_file(file.path, file.modality, of_kind, "mask" if file.is_mask else "image")
    alone = sorted(masks.keys() - images.keys())
    if alone:
        raise InputError(
            f"{next(iter(masks[alone[0]].values()))}: is a mask, but there is no image of"
            f" {alone[0]}."
        )
    return [Study(name, name, paths, masks.get(name, {})) for name, paths in images.items()]


def _pair_in(folder: ListedFolder, modalities: Sequence[str]) -> Study:
    """A folder with T1.nii.gz, T1_mask.nii.gz, T2.nii.gz, ... or DICOM folders T1, T2."""
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for file in name_files(folder.files_and_folders, modalities, numbered=True):
        if file.modality is not None:
            of_kind = masks if file.is_mask else images
            _add_file(file.path, file.modality, of_kind, "mask" if file.is_mask else "image")
    return Study(folder.path.name, folder.path.name, images, masks)


def _images_of_nnunet(folder: ListedFolder, modalities: Sequence[str]) -> list[Study]:
    """A raw dataset of nnU-Net; what lies in imagesTs has no masks."""
    inner = {child.path.name: child for child in folder.folders}
    studies = _images_side_by_side(inner["imagesTr"].files_and_series, modalities)
    labels: dict[str, Path] = {}
    if "labelsTr" in inner:
        labels = {file.name: file.path for file in inner["labelsTr"].files_and_series}
    alone = sorted(labels.keys() - {study.study for study in studies})
    if alone:
        raise InputError(f"{labels[alone[0]]}: is a mask, but there is no image of {alone[0]}.")
    masks = {name: {modalities[0]: path} for name, path in labels.items()}
    studies = [replace(study, masks=masks.get(study.study, {})) for study in studies]
    if "imagesTs" in inner:
        studies += _images_side_by_side(inner["imagesTs"].files_and_series, modalities)
    return studies


def _images_side_by_side(files: Sequence[ListedFile], modalities: Sequence[str]) -> list[Study]:
    """NAME.nii.gz or NAME_CHANNEL.nii.gz, NAME_mask.nii.gz, NAME_liver_mask.nii.gz."""
    images: dict[str, dict[str, Path]] = {}
    masks: dict[str, Path] = {}
    for file in files:
        if file.is_mask:
            _add_file(file.path, file.bare_name, masks, "mask")
    only = modalities[0] if len(modalities) == 1 else None
    for named in name_files(files, modalities, numbered=True):
        case, modality = named.case, named.modality or only
        if not case:  # side by side, a modality alone is the name of a case
            case, modality = named.name, only
        if not named.is_mask and modality is not None:
            _add_file(named.path, modality, images.setdefault(case, {}), "image")
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
            name = split_name(mask_name, modalities, numbered=True)[0]
        if name not in images and mask_name.lower().endswith(f"_{LIVER}"):
            name = split_name(mask_name[: -len(LIVER) - 1], modalities, numbered=True)[0]
            key = LIVER
        if name not in images:
            raise InputError(f"{path}: is a mask, but there is no image of {name}.")
        _add_file(path, key, masks_by_study.setdefault(name, {}), "mask")
    return [
        Study(name, name, files, masks_by_study.get(name, {})) for name, files in images.items()
    ]


def _image_in(folder: ListedFolder, modalities: Sequence[str]) -> Study:
    """A folder with image.nii.gz or MR.nii.gz (files or slices), mask and liver_mask."""
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for file in name_files(folder.files_and_series, modalities, numbered=True):
        name = f"_{file.name}".lower()
        if is_mask_name(name):
            _add_file(file.path, LIVER if f"_{LIVER}_" in name else modalities[0], masks, "mask")
        elif name == f"_{IMAGE}" and len(modalities) == 1:
            _add_file(file.path, modalities[0], images, "image")
        elif file.modality is not None:
            _add_file(file.path, file.modality, images, "image")
    return Study(folder.path.name, folder.path.name, images, masks)


def _add_file(path: Path, key: str, files: dict[str, Path], kind: str) -> None:
    """Enters a file under its key; `kind` is "image" or "mask", for the message."""
    if key in files:
        raise InputError(f"{path}: is a second {key} {kind} beside {files[key].name}; keep one.")
    files[key] = path
