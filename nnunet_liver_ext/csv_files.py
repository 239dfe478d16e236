"""Reading CSV so that no row is read one column off."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nnunet_liver_ext.errors import InputError


@dataclass(frozen=True)
class CsvTable:
    """The cells of a CSV as text, without white space around them."""

    columns: list[str]
    """Names as they are written; "" for a column without one. None in an empty file."""
    rows: dict[int, list[str]]
    """A cell for each column, by the row's number in the file: the header is row 1."""


def read_csv(path: Path, *, short_rows: bool = False) -> CsvTable:
    """Reads a CSV of UTF-8 text with a header; rows without any content are passed over.

    Args:
        path: of the file.
        short_rows: a row may have fewer fields than the header; its last cells are then empty.

    Raises:
        InputError: it cannot be read, two columns have one name (capitals aside), or a row has more
            fields than the header, or fewer.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, skipinitialspace=True, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is no readable CSV ({error}).") from None
    filled = {
        number: fields
        for number, fields in enumerate(lines, start=1)
        if any(map(str.strip, fields))
    }
    if not filled:
        return CsvTable([], {})
    columns = [name.strip() for name in filled.pop(min(filled))]
    _check_names(path, columns)
    for number, fields in filled.items():
        if len(fields) > len(columns) or (len(fields) < len(columns) and not short_rows):
            raise InputError(
                f"{path}, row {number}: has {len(fields)} fields, the header has {len(columns)};"
                " put quotes around a cell with a comma, leave an empty cell for what is not there,"
                " and end no row with a comma too many."
            )
    padding = [""] * len(columns)
    rows = {
        number: [cell.strip() for cell in (fields + padding)[: len(columns)]]
        for number, fields in filled.items()
    }
    return CsvTable(columns, rows)


def _check_names(path: Path, columns: list[str]) -> None:
    if len(columns) == 1 and (found := set(";\t") & set(columns[0])):
        raise InputError(
            f"{path}: its header has {found.pop()!r} between the columns; save it with commas."
        )
    counts = Counter(name.lower() for name in columns if name)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise InputError(
            f"{path}: {counts[twice[0]]} columns are named {twice[0]!r}; names must differ."
        )
