"""The layouts in which users give studies: a CSV or a folder, of pairs or of single images.

A pair is a T1 and a T2 image. Ordinary studies are one image of one or more channels, perhaps with
a mask and a liver mask. Channels are named by the user: ("MR",), ("CT",), ("water", "fat"); the
mask belongs to the first of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.file_names import Files, StudyTable, list_files
from nnunet_liver_ext.studies.folder_studies import IMAGE, images_of_folder, pairs_of_folder
from nnunet_liver_ext.studies.study import LIVER, Study
from nnunet_liver_ext.studies.table_studies import studies_of_table

OTHER_COLUMNS = ("patient", "study", "mask", f"{LIVER}_mask")


def read_studies(path: Path, *, modalities: Sequence[str] = ("T1", "T2")) -> list[Study]:
    """Studies of a CSV or a folder, sorted by name.

    A CSV has the columns patient, study (or one of them) and for each modality t1, t1_mask, t2,
    t2_mask, with paths relative to the CSV; empty cells are absent files. A folder holds
    NAME_T1.nii.gz, NAME_T2.nii.gz, NAME_T1_mask.nii.gz, NAME_T2_mask.nii.gz side by side (any image
    ending), or nnU-Net's NAME_0000, NAME_0001, or a sub-folder for each study with T1, T2, T1_mask,
    T2_mask in it as files or DICOM folders. In folders each study is a patient of its own.

    Args:
        path: CSV file or folder.
        modalities: names of image 1 and image 2.

    Raises:
        InputError: nothing there, missing columns or files, or two studies with one name.
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
        InputError: nothing there, missing columns or files, a mask without an image, or two studies
            with one name.
    """
    return _select_images(list_files(path), modalities)


def select_studies(files: Files, modalities: Sequence[str]) -> tuple[list[Study], bool]:
    """The studies among the files, and whether they are single images rather than pairs.

    A CSV with a column `mask`, and a folder in which nothing is named T1 or T2, are of single
    images.

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
        masks = {f"{column}_mask": name for column, name in images.items()}
        studies = studies_of_table(files, images, masks)
    else:
        studies = pairs_of_folder(files, modalities)
    expected = (
        f"NAME_{modalities[0]}.nii.gz and NAME_{modalities[1]}.nii.gz, a sub-folder for each study,"
        " or a CSV with patient, study, t1, t2"
    )
    return _sort(studies, files.path, expected)


def _select_images(files: Files, modalities: Sequence[str]) -> list[Study]:
    columns = {name.lower(): name for name in modalities}
    if isinstance(files, StudyTable):
        images = columns | ({IMAGE: modalities[0]} if len(modalities) == 1 else {})
        masks = {"mask": modalities[0], f"{LIVER}_mask": LIVER}
        studies = studies_of_table(files, images, masks)
    else:
        studies = images_of_folder(files, modalities)
    expected = (
        "NAME.nii.gz and NAME_mask.nii.gz, a sub-folder for each study, or a CSV with patient,"
        f" study, {', '.join(columns)}, mask"
    )
    return _sort(studies, files.path, expected)


def _channels_of_single_images(files: Files, modalities: Sequence[str]) -> tuple[str, ...]:
    """The channels of single images; none for pairs."""
    if isinstance(files, StudyTable):
        columns = [column for column in files.columns if column and column not in OTHER_COLUMNS]
        return tuple(columns) if "mask" in files.columns else ()
    return () if files.names_modality(modalities) else (IMAGE,)


def _sort(studies: Sequence[Study], path: Path, expected: str) -> list[Study]:
    """The studies sorted by name; InputError if there are none, or two have one name."""
    if not studies:
        raise InputError(f"{path}: holds no studies; expected {expected}.")
    twice = [name for name, count in Counter(study.name for study in studies).items() if count > 1]
    if twice:
        raise InputError(f"{path}: two studies have the same name {twice[0]!r}; names must differ.")
    return sorted(studies, key=lambda study: study.name)
