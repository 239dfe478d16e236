"""The studies of a CSV: patient, study, and a column for each image and mask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.file_names import StudyTable
from nnunet_liver_ext.studies.study import Study


def studies_of_table(
    table: StudyTable, images: Mapping[str, str], masks: Mapping[str, str]
) -> list[Study]:
    """The study of each row; files are relative to the CSV.

    Args:
        table: the CSV.
        images: modality by column (small letters).
        masks: key in `Study.masks` by column.

    Raises:
        InputError: there is no column of patients or images, a column's name is nearly one of
            these, or a row has no patient, no image, or names a file that does not exist.
    """
    _check_columns(table, images, masks)
    return [
        _study_of_row(table.path, number, row, images, masks)
        for number, row in enumerate(table.rows, start=2)
    ]


def _check_columns(table: StudyTable, images: Mapping[str, str], masks: Mapping[str, str]) -> None:
    """Other columns may be there, but a mistyped one would silently leave out files."""
    if not {"patient", "study"} & set(table.columns):
        raise InputError(
            f"{table.path}: has neither a column patient nor study (found"
            f" {', '.join(table.columns)})."
        )
    if not set(images) & set(table.columns):
        raise InputError(f"{table.path}: has no image column; expected {' and '.join(images)}.")
    known = ["patient", "study", *images, *masks]
    letters = {re.sub(r"[^a-z0-9]", "", column): column for column in known}
    for column in table.columns:
        meant = letters.get(re.sub(r"[^a-z0-9]", "", column))
        if column not in known and meant is not None:
            raise InputError(f"{table.path}: the column {column!r} is probably {meant}; rename it.")


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
