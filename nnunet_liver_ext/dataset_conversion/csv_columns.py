"""CSV files that come with a dataset."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from nnunet_liver_ext.errors import InputError


def read_csv_columns(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The cells of some columns of a CSV, row by row, without white space around them.

    Cells that a short row lacks are empty.

    Raises:
        InputError: it is no readable CSV, or lacks one of the columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, skipinitialspace=True)
            names, rows = table.fieldnames or (), list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is no readable CSV ({error}).") from None
    if not set(columns) <= set(names):
        raise InputError(
            f"{path}: needs the columns {', '.join(columns)}, found {', '.join(names) or 'none'}."
        )
    return [tuple((row[column] or "").strip() for column in columns) for row in rows]
