"""Ordinary studies: one image of one or more channels, its mask if there is one, perhaps a liver
mask beside it.

Channels are named by the user: ("MR",), ("CT",), ("water", "fat"). The mask belongs to the first of
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import image_ending, stem
from nnunet_liver_ext.studies.pair_studies import (
    LIVER,
    MASK_SUFFIXES,
    Study,
    distinct,
    put,
    read_table,
    sub_folders,
)

SLICE_SUFFIXES = ("", ".dcm", ".dicom", ".ima")
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
    path = Path(path)
    if path.is_dir():
        studies = (
            _from_nnunet(path, modalities)
            if (path / "imagesTr").is_dir()
            else _from_folder(path, modalities)
        )
    elif path.is_file():
        columns = {name.lower(): name for name in modalities} | (
            {IMAGE: modalities[0]} if len(modalities) == 1 else {}
        )
        studies = read_table(path, columns, {"mask": modalities[0], f"{LIVER}_mask": LIVER})
    else:
        raise InputError(f"{path}: no such file or folder.")
    if not studies:
        raise InputError(
            f"{path}: holds no studies; expected NAME.nii.gz and NAME_mask.nii.gz, a sub-folder for"
            " each study, or a CSV with patient, study,"
            f" {', '.join(name.lower() for name in modalities)}, mask."
        )
    return distinct(studies, path)


def _from_nnunet(folder: Path, modalities: Sequence[str]) -> list[Study]:
    """A raw dataset of nnU-Net; what lies in imagesTs has no masks."""
    studies = _side_by_side(folder / "imagesTr", modalities)
    labels = (
        {stem(path): path for path in _entries(folder / "labelsTr")}
        if (folder / "labelsTr").is_dir()
        else {}
    )
    alone = sorted(labels.keys() - {study.study for study in studies})
    if alone:
        raise InputError(f"{labels[alone[0]]}: is a mask, but there is no image of {alone[0]}.")
    found = [
        Study(
            one.patient,
            one.study,
            one.images,
            {modalities[0]: labels[one.study]} if one.study in labels else {},
        )
        for one in studies
    ]
    return found + (
        _side_by_side(folder / "imagesTs", modalities) if (folder / "imagesTs").is_dir() else []
    )


def _from_folder(folder: Path, modalities: Sequence[str]) -> list[Study]:
    studies = _side_by_side(folder, modalities)
    inside = (
        _one_study(child, modalities) for child in sub_folders(folder) if not _is_series(child)
    )
    return studies + [study for study in inside if study.images]


def _side_by_side(folder: Path, modalities: Sequence[str]) -> list[Study]:
    images: dict[str, dict[str, Path]] = {}
    masks: dict[str, Path] = {}
    for path in _entries(folder):
        words = stem(path) if path.is_file() else path.name
        if words.lower().endswith(MASK_SUFFIXES):
            put(path, words[: words.rindex("_")], masks, "mask")
        else:
            name, modality = _split(words, modalities)
            if modality is not None and name:
                put(path, modality, images.setdefault(name, {}), "image")
    return _with_masks(images, masks, modalities)


def _with_masks(
    images: dict[str, dict[str, Path]], masks: dict[str, Path], modalities: Sequence[str]
) -> list[Study]:
    """Each mask with its image: NAME or NAME_CHANNEL is the label map, NAME_liver the liver
    mask."""
    own: dict[str, dict[str, Path]] = {}
    for words, path in masks.items():
        name, key = _split(words, modalities)[0] if words not in images else words, modalities[0]
        if name not in images and words.lower().endswith(f"_{LIVER}"):
            name, key = _split(words[: -len(LIVER) - 1], modalities)[0], LIVER
        if name not in images:
            raise InputError(f"{path}: is a mask, but there is no image of {name}.")
        put(path, key, own.setdefault(name, {}), "mask")
    return [Study(name, name, files, own.get(name, {})) for name, files in images.items()]


def _one_study(folder: Path, modalities: Sequence[str]) -> Study:
    """A folder with image.nii.gz or MR.nii.gz (or a folder of slices of that name), mask.nii.gz,
    liver_mask.nii.gz."""
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for path in _entries(folder):
        words = f"_{stem(path) if path.is_file() else path.name}".lower()
        if words.endswith(MASK_SUFFIXES):
            put(path, LIVER if f"_{LIVER}_" in words else modalities[0], masks, "mask")
        elif words == f"_{IMAGE}" and len(modalities) == 1:
            put(path, modalities[0], images, "image")
        else:
            name, modality = _split(words, modalities)
            if modality is not None and name != words:
                put(path, modality, images, "image")
    return Study(folder.name, folder.name, images, masks)


def _entries(folder: Path) -> Iterator[Path]:
    """Image files and folders of DICOM slices, sorted."""
    for path in sorted(folder.iterdir()):
        if path.name[0] != "." and (image_ending(path) if path.is_file() else _is_series(path)):
            yield path


def _is_series(folder: Path) -> bool:
    """Whether a folder holds slices: files, none of them an image of another kind, and no
    folders."""
    inside = [path for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []
    return bool(inside) and all(
        path.is_file() and path.suffix.lower() in SLICE_SUFFIXES for path in inside
    )


def _split(words: str, modalities: Sequence[str]) -> tuple[str, str | None]:
    """(name of the study, channel) of a file's stem; without a channel in it, it is that of an only
    one, else None."""
    for channel, modality in enumerate(modalities):
        for ending in (f"_{modality}", f"_{channel:04d}"):
            if words.lower().endswith(ending.lower()):
                return words[: -len(ending)], modality
    return words, modalities[0] if len(modalities) == 1 else None
