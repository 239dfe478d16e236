"""The layouts in which users give studies: a CSV or a folder, of pairs or of single images.

A pair is a T1 and a T2 image. Ordinary studies are one image of one or more channels, perhaps with
a mask and a liver mask. Channels are named by the user: ("MR",), ("CT",), ("water", "fat"); the
mask belongs to the first of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import stem
from nnunet_liver_ext.studies.file_names import (
    Files,
    ListedFile,
    ListedFolder,
    NamedFile,
    StudyTable,
    list_files,
    name_files,
    split_name,
)
from nnunet_liver_ext.studies.mask_names import image_of_mask, looks_like_mask
from nnunet_liver_ext.studies.study import LIVER, Study
from nnunet_liver_ext.studies.table_columns import (
    WHO,
    bare_mask_columns,
    columns_of_files,
    find_columns,
)

IMAGE = "image"
"""What an only image may be called in a CSV, and in the sub-folder of its study."""


def read_studies(path: Path, *, modalities: Sequence[str] = ("T1", "T2")) -> list[Study]:
    """Studies of a CSV or a folder, sorted by name.

    A CSV has the columns patient, study (or one of them) and for each modality t1, t1_mask, t2,
    t2_mask, with paths relative to the CSV; empty cells are absent files. What else is a mask's
    name is said by `mask_names`. A folder holds
    NAME_T1.nii.gz, NAME_T2.nii.gz, NAME_T1_mask.nii.gz, NAME_T2_mask.nii.gz side by side (any image
    ending), or nnU-Net's NAME_0000, NAME_0001, or a sub-folder for each study with T1, T2, T1_mask,
    T2_mask in it as files or DICOM folders. In folders each study is a patient of its own.

    Args:
        path: CSV file or folder.
        modalities: names of image 1 and image 2.

    Raises:
        InputError: nothing there, missing columns or files, a column or file that looks like a
            mask's and is none of these, or two studies with one name.
    """
    return _select_pairs(list_files(path), modalities)


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
        InputError: nothing there, missing columns or files, a mask without an image, a column or
            file that looks like a mask's and is none of these, or two studies with one name.
    """
    return _select_images(list_files(path), modalities)


def select_studies(files: Files, modalities: Sequence[str]) -> tuple[list[Study], bool]:
    """The studies among the files, and whether they are single images rather than pairs.

    A CSV with a column `mask` (or `seg`, `label`), and a folder in which nothing is named T1 or T2,
    are of single images.

    Args:
        files: a folder, or a CSV.
        modalities: names of image 1 and image 2 of pairs.

    Raises:
        InputError: as `read_studies` and `read_image_studies`.
    """
    if channels := _channels_of_single_images(files, modalities):
        return _select_images(files, channels), True
    return _select_pairs(files, modalities), False


def _select_pairs(files: Files, modalities: Sequence[str]) -> list[Study]:
    if isinstance(files, StudyTable):
        images = {name.lower(): name for name in modalities}
        studies = _studies_of_table(files, images, owners=images)
    else:
        studies = _pairs_of_folder(files, modalities)
    expected = (
        f"NAME_{modalities[0]}.nii.gz and NAME_{modalities[1]}.nii.gz, a sub-folder for each study,"
        " or a CSV with patient, study, t1, t2"
    )
    return _sort(studies, files.path, expected)


def _select_images(files: Files, modalities: Sequence[str]) -> list[Study]:
    columns = {name.lower(): name for name in modalities}
    if isinstance(files, StudyTable):
        images = columns | ({IMAGE: modalities[0]} if len(modalities) == 1 else {})
        first = [name for name, modality in images.items() if modality == modalities[0]]
        owners = dict.fromkeys(["", *first], modalities[0]) | {LIVER: LIVER}
        studies = _studies_of_table(files, images, owners)
    else:
        studies = _images_of_folder(files, modalities)
    expected = (
        "NAME.nii.gz and NAME_mask.nii.gz, a sub-folder for each study, or a CSV with patient,"
        f" study, {', '.join(columns)}, mask"
    )
    return _sort(studies, files.path, expected)


def _channels_of_single_images(files: Files, modalities: Sequence[str]) -> tuple[str, ...]:
    """The channels of single images; none for pairs."""
    if isinstance(files, StudyTable):
        channels = (column for column in columns_of_files(files) if column not in WHO)
        return tuple(channels) if bare_mask_columns(files) else ()
    return () if files.names_modality(modalities) else (IMAGE,)


def _sort(studies: Sequence[Study], path: Path, expected: str) -> list[Study]:
    """The studies sorted by name; InputError if there are none, or two have one name."""
    if not studies:
        raise InputError(f"{path}: holds no studies; expected {expected}.")
    twice = [name for name, count in Counter(study.name for study in studies).items() if count > 1]
    if twice:
        raise InputError(f"{path}: two studies have the same name {twice[0]!r}; names must differ.")
    return sorted(studies, key=lambda study: study.name)


def _studies_of_table(
    table: StudyTable, images: Mapping[str, str], owners: Mapping[str, str]
) -> list[Study]:
    """The study of each row; files are relative to the CSV.

    Args:
        table: the CSV.
        images: modality by column (small letters).
        owners: key in `Study.masks` by what a mask's column is of, see `find_columns`.

    Raises:
        InputError: as `find_columns`, or a row has no patient, no image, or names a file that does
            not exist.
    """
    columns = find_columns(table, images, owners)
    return [
        _study_of_row(table.path, number, row, columns.images, columns.masks)
        for number, row in table.rows.items()
    ]


def _study_of_row(
    path: Path,
    number: int,
    row: Mapping[str, str],
    images: Mapping[str, str],
    masks: Mapping[str, str],
) -> Study:
    where = f"{path}, row {number}"
    study = row.get("study") or row.get("patient", "")
    patient = row.get("patient") or study
    if not patient:
        raise InputError(f"{where}: neither patient nor study is given.")
    image_files = _files_of_row(path.parent, where, row, images)
    if not image_files:
        raise InputError(f"{where}: study {study} has no image.")
    for file in image_files.values():
        if image_of_mask(stem(file), [*images.values()]) is not None:
            raise InputError(f"{where}: {file.name} is given as an image, but is named as a mask.")
    return Study(patient, study, image_files, _files_of_row(path.parent, where, row, masks))


def _files_of_row(
    folder: Path, where: str, row: Mapping[str, str], columns: Mapping[str, str]
) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for column, key in columns.items():
        cell = row.get(column)
        if not cell:
            continue
        if key in files:
            raise InputError(f"{where}: {cell} is a second file for {key}.")
        files[key] = folder / cell
        if not files[key].exists():
            raise InputError(f"{where}: {cell} does not exist.")
    return files


def _pairs_of_folder(folder: ListedFolder, modalities: Sequence[str]) -> list[Study]:
    """The studies of pairs in a folder, side by side or each in a sub-folder.

    In the folder of a study, an image or a mask may be a folder of DICOM slices, and a modality
    alone is its name (T1.nii.gz).

    Raises:
        InputError: a mask has no image, or does not say of which it is, or two files are the same
            image's.
    """
    _refuse_folders_of_masks(folder)
    named = [("", file) for file in name_files(folder.files, modalities, numbered=True)]
    for inner in folder.study_folders:
        in_study = name_files(inner.files_and_folders, modalities, numbered=True)
        named += [(inner.path.name, file) for file in in_study]
    images: dict[tuple[Path, str], dict[str, Path]] = {}
    masks: dict[tuple[Path, str], dict[str, Path]] = {}
    for in_folder, file in named:
        study = in_folder or file.case
        is_of_pair = file.modality is not None and study != ""
        if looks_like_mask(file.name) and not (file.is_mask and is_of_pair):
            raise _odd_mask_error(file.path, f"NAME_{modalities[0]}_mask")
        if file.modality is not None and study:
            key = (file.path.parent, study)
            of_kind = (masks if file.is_mask else images).setdefault(key, {})
            _add_file(file.path, file.modality, of_kind, "mask" if file.is_mask else "image")
    for key in sorted(masks.keys() - images.keys()):
        raise _no_image_error(next(iter(masks[key].values())), key[1])
    return [Study(key[1], key[1], files, masks.get(key, {})) for key, files in images.items()]


def _images_of_folder(folder: ListedFolder, modalities: Sequence[str]) -> list[Study]:
    """The studies of single images in a folder, or in a raw dataset of nnU-Net.

    Raises:
        InputError: a mask has no image, or two files are the same image's.
    """
    if any(inner.path.name == "imagesTr" for inner in folder.folders):
        return _images_of_nnunet(folder, modalities)
    _refuse_folders_of_masks(folder)
    in_folders = (
        _image_in(inner, modalities) for inner in folder.study_folders if not inner.is_series
    )
    side_by_side = _images_side_by_side(folder.files_and_series, modalities)
    return side_by_side + [study for study in in_folders if study.images]


def _images_of_nnunet(folder: ListedFolder, modalities: Sequence[str]) -> list[Study]:
    """A raw dataset of nnU-Net; what lies in imagesTs has no masks."""
    inner = {child.path.name: child for child in folder.folders}
    studies = _images_side_by_side(inner["imagesTr"].files_and_series, modalities)
    labels: dict[str, Path] = {}
    if "labelsTr" in inner:
        labels = {file.name: file.path for file in inner["labelsTr"].files_and_series}
    for alone in sorted(labels.keys() - {study.study for study in studies}):
        raise _no_image_error(labels[alone], alone)
    masks = {name: {modalities[0]: path} for name, path in labels.items()}
    studies = [replace(study, masks=masks.get(study.study, {})) for study in studies]
    if "imagesTs" in inner:
        studies += _images_side_by_side(inner["imagesTs"].files_and_series, modalities)
    return studies


def _images_side_by_side(files: Sequence[ListedFile], modalities: Sequence[str]) -> list[Study]:
    """NAME.nii.gz or NAME_CHANNEL.nii.gz, NAME_mask.nii.gz, NAME_liver_mask.nii.gz."""
    images: dict[str, dict[str, Path]] = {}
    masks: dict[str, Path] = {}
    only = modalities[0] if len(modalities) == 1 else None
    for named in name_files(files, modalities, numbered=True):
        if looks_like_mask(named.name) and not (named.is_mask and named.bare_name):
            raise _odd_mask_error(named.path, "NAME_mask")
        if named.is_mask:
            _add_file(named.path, named.bare_name, masks, "mask")
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
            raise _no_image_error(path, name)
        _add_file(path, key, masks_by_study.setdefault(name, {}), "mask")
    return [
        Study(name, name, files, masks_by_study.get(name, {})) for name, files in images.items()
    ]


def _image_in(folder: ListedFolder, modalities: Sequence[str]) -> Study:
    """A folder with image.nii.gz or MR.nii.gz (files or slices), mask and liver_mask."""
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for file in name_files(folder.files_and_series, modalities, numbered=True):
        if file.is_mask:
            _add_file(file.path, _mask_key(file, modalities), masks, "mask")
        elif looks_like_mask(file.name):
            raise _odd_mask_error(file.path, "mask")
        elif file.name.lower() == IMAGE and len(modalities) == 1:
            _add_file(file.path, modalities[0], images, "image")
        elif file.modality is not None:
            _add_file(file.path, file.modality, images, "image")
    if masks and not images:
        raise _no_image_error(next(iter(masks.values())), folder.path.name)
    return Study(folder.path.name, folder.path.name, images, masks)


def _mask_key(file: NamedFile, modalities: Sequence[str]) -> str:
    words = re.split("[_.-]", file.bare_name.lower())
    return LIVER if LIVER in words else modalities[0]


def _refuse_folders_of_masks(folder: ListedFolder) -> None:
    """A folder of masks beside one of images is no layout that is read."""
    for inner in folder.study_folders:
        is_full = inner.files and not inner.is_series
        if is_full and image_of_mask(inner.path.name) is not None:
            raise _odd_mask_error(inner.path, "each file NAME_mask beside its image NAME")


def _add_file(path: Path, key: str, files: dict[str, Path], kind: str) -> None:
    """Enters a file under its key; `kind` is "image" or "mask", for the message."""
    if key in files:
        raise InputError(f"{path}: is a second {key} {kind} beside {files[key].name}; keep one.")
    files[key] = path


def _odd_mask_error(path: Path, name: str) -> InputError:
    return InputError(
        f"{path}: looks like a mask, but whose it is cannot be told from its name; call it {name}"
        " (or _seg, _label), and an image something else."
    )


def _no_image_error(mask: Path, study: str) -> InputError:
    return InputError(f"{mask}: is a mask, but there is no image of {study}.")
