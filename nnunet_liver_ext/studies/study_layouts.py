"""Studies of pairs: a T1 and a T2 image of each, with their masks if there are any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.listed_files import ListedFile, ListedFolder, add_file, split_name
from nnunet_liver_ext.studies.study import Study, sort_by_name
from nnunet_liver_ext.studies.study_table import StudyTable


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
    return select_pair_studies(list_studies(path), modalities)


def list_studies(path: Path, what: str = "file or folder") -> ListedFolder | StudyTable:
    """The files of a folder, or the rows of a CSV.

    Raises:
        InputError: there is nothing at `path` (the message says `what` is missing), or it is no
            readable CSV.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such {what}.")
    return ListedFolder(path) if path.is_dir() else StudyTable.read(path)


def select_pair_studies(files: ListedFolder | StudyTable, modalities: Sequence[str]) -> list[Study]:
    """The studies of pairs among the files; layouts and errors as `read_studies`."""
    if isinstance(files, StudyTable):
        images = {name.lower(): name for name in modalities}
        masks = {f"{column}_mask": name for column, name in images.items()}
        studies = files.studies(images, masks)
    else:
        in_folders = (_study_in(folder, modalities) for folder in files.study_folders)
        studies = _studies_side_by_side(files.files, modalities)
        studies += [study for study in in_folders if study.images]
    if not studies:
        raise InputError(
            f"{files.path}: holds no studies; expected NAME_{modalities[0]}.nii.gz and"
            f" NAME_{modalities[1]}.nii.gz, a sub-folder for each study, or a CSV with patient,"
            " study, t1, t2."
        )
    return sort_by_name(studies, files.path)


def _studies_side_by_side(files: Sequence[ListedFile], modalities: Sequence[str]) -> list[Study]:
    """NAME_T1.nii.gz, NAME_T1_mask.nii.gz, or NAME_0000.nii.gz in one folder."""
    images: dict[str, dict[str, Path]] = {}
    masks: dict[str, dict[str, Path]] = {}
    for file in files:
        name, modality = split_name(file.bare_name, modalities, numbered=True)
        if modality is not None and name:
            of_kind = (masks if file.is_mask else images).setdefault(name, {})
            add_file(file.path, modality, of_kind, "mask" if file.is_mask else "image")
    alone = sorted(masks.keys() - images.keys())
    if alone:
        raise InputError(
            f"{next(iter(masks[alone[0]].values()))}: is a mask, but there is no image of"
            f" {alone[0]}."
        )
    return [Study(name, name, paths, masks.get(name, {})) for name, paths in images.items()]


def _study_in(folder: ListedFolder, modalities: Sequence[str]) -> Study:
    """A folder with T1.nii.gz, T1_mask.nii.gz, T2.nii.gz, ... or DICOM folders T1, T2."""
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for file in folder.files_and_folders:
        modality = split_name(f"_{file.bare_name}", modalities, numbered=True).modality
        if modality is not None:
            of_kind = masks if file.is_mask else images
            add_file(file.path, modality, of_kind, "mask" if file.is_mask else "image")
    return Study(folder.path.name, folder.path.name, images, masks)
