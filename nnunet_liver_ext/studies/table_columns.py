"""What the columns of a CSV of studies mean: who, which image, which mask, or nothing of ours."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import image_ending
from nnunet_liver_ext.studies.file_names import StudyTable
from nnunet_liver_ext.studies.mask_names import image_of_mask, looks_like_mask

WHO = ("patient", "study")
SIMILAR = 0.8
"""From this ratio of `difflib` on (0 to 1), a column is another one misspelt."""


@dataclass(frozen=True)
class Columns:
    """The columns with files, all in small letters."""

    images: dict[str, str]
    """Modality by column."""
    masks: dict[str, str]
    """Key in `Study.masks` by column."""


def find_columns(
    table: StudyTable, images: Mapping[str, str], owners: Mapping[str, str]
) -> Columns:
    """The columns of images and masks.

    Other columns may be there, but one that is nearly one of these would silently leave out files.

    Args:
        table: the CSV.
        images: modality by column, in small letters.
        owners: key in `Study.masks` by the name of what a mask may be of, such as "t1" in t1_mask
            and mask_t1; "" for a column `mask`.

    Raises:
        InputError: there is no column of patients or images, or a column is probably one of these
            or of masks, with another name.
    """
    if not set(WHO) & set(table.columns):
        raise InputError(
            f"{table.path}: has neither a column patient nor study (found"
            f" {', '.join(table.columns)})."
        )
    if not set(images) & set(table.columns):
        raise InputError(f"{table.path}: has no image column; expected {' and '.join(images)}.")
    masks = {
        column: owners[owner]
        for column in table.columns
        if (owner := image_of_mask(column, [*filter(None, owners)])) is not None and owner in owners
    }
    names = {f"{owner}_mask" if owner else "mask": key for owner, key in owners.items()}
    known = {*WHO, *images, *masks}
    missing = [
        *(name for name in (*WHO, *images) if name not in table.columns),
        *(name for name, key in names.items() if key not in masks.values()),
    ]
    for column in set(table.columns) - known - {""}:
        _check_other(table, column, [*WHO, *images, *names], missing)
    return Columns(dict(images), masks)


def bare_mask_columns(table: StudyTable) -> list[str]:
    """Columns that hold masks without saying of which image: `mask`, `seg`, `label`."""
    return [column for column in table.columns if image_of_mask(column) == ""]


def columns_of_files(table: StudyTable) -> list[str]:
    """Columns with a name that hold files, and are no masks by their names."""
    return [
        column
        for column in table.columns
        if column and image_of_mask(column) is None and _holds_files(table, column)
    ]


def _check_other(
    table: StudyTable, column: str, names: Sequence[str], missing: Sequence[str]
) -> None:
    """InputError if a column is probably one of `names`, or one of the missing ones misspelt."""
    letters = {_letters(name): name for name in names}
    meant = letters.get(_letters(column))
    holds_files = _holds_files(table, column)
    if meant is None:
        candidates = missing if holds_files else [name for name in missing if name in WHO]
        meant = next(iter(get_close_matches(column, candidates, n=1, cutoff=SIMILAR)), None)
    if meant is not None:
        raise InputError(f"{table.path}: the column {column!r} is probably {meant}; rename it.")
    if holds_files and looks_like_mask(column):
        masks = " or ".join(name for name in names if image_of_mask(name) is not None)
        raise InputError(
            f"{table.path}: the column {column!r} looks like one of masks; it would have to be"
            f" called {masks}."
        )


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name)


def _holds_files(table: StudyTable, column: str) -> bool:
    cells = [row[column] for row in table.rows.values() if row[column]]
    return any(
        image_ending(cell) is not None or os.path.exists(table.path.parent / cell)  # noqa: PTH110  (Path's fails on long remarks)
        for cell in cells
    )
