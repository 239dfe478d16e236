"""CSV files that come with a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_liver_ext.csv_files import read_csv
from nnunet_liver_ext.errors import InputError


def read_csv_columns(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The cells of some columns of a CSV, row by row, without white space around them.

    Cells that a short row lacks are empty.

    Raises:
        InputError: as `read_csv`, or it lacks one of the columns.
    """
    table = read_csv(path, short_rows=True)
    names = table.columns
    if not set(columns) <= set(names):
        raise InputError(
            f"{path}: needs the columns {', '.join(columns)}, found {', '.join(names) or 'none'}."
        )
    chosen = [names.index(column) for column in columns]
    return [tuple(cells[index] for index in chosen) for cells in table.rows.values()]
