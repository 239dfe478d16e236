"""A CSV of studies: patient, study, and a column for each image and mask."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.study import Study


@dataclass(frozen=True)
class StudyTable:
    """The cells of a CSV as text, by column name in small letters."""

    path: Path
    columns: list[str]
    rows: list[dict[str, str]]

    @classmethod
    def read(cls, path: Path) -> StudyTable:
        """Reads the CSV.

        Raises:
            InputError: it is no readable CSV.
        """
        import pandas as pd

        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: is no readable CSV ({error}).") from None
        columns = [str(column).strip().lower() for column in table.columns]
        columns = ["" if column.startswith("unnamed: ") else column for column in columns]
        rows = [dict(zip(columns, map(str.strip, row), strict=True)) for row in table.to_numpy()]
        return cls(path, columns, rows)

    def studies(self, images: Mapping[str, str], masks: Mapping[str, str]) -> list[Study]:
        """The study of each row; files are relative to the CSV.

        Args:
            images: modality by column (small letters).
            masks: key in `Study.masks` by column.

        Raises:
            InputError: there is no column of patients or images, a column's name is nearly one of
                these, or a row has no patient, no image, or names a file that does not exist.
        """
        if not {"patient", "study"} & set(self.columns):
            raise InputError(
                f"{self.path}: has neither a column patient nor study (found"
                f" {', '.join(self.columns)})."
            )
        if not set(images) & set(self.columns):
            raise InputError(f"{self.path}: has no image column; expected {' and '.join(images)}.")
        self._refuse_similar_columns(["patient", "study", *images, *masks])
        return [
            self._study(f"{self.path}, row {number}", row, images, masks)
            for number, row in enumerate(self.rows, start=2)
        ]

    def _refuse_similar_columns(self, known: Sequence[str]) -> None:
        """A mistyped column would silently leave out a mask of every study."""
        bare = {re.sub(r"[^a-z0-9]", "", column): column for column in known}
        for column in self.columns:
            meant = bare.get(re.sub(r"[^a-z0-9]", "", column))
            if column not in known and meant is not None:
                raise InputError(
                    f"{self.path}: the column {column!r} is probably {meant}; rename it."
                )

    def _study(
        self,
        where: str,
        row: Mapping[str, str],
        images: Mapping[str, str],
        masks: Mapping[str, str],
    ) -> Study:
        study = row.get("study") or row.get("patient", "")
        patient = row.get("patient") or study
        if not patient:
            raise InputError(f"{where}: neither patient nor study is given.")
        image_files = self._files(where, row, images)
        if not image_files:
            raise InputError(f"{where}: study {study} has no image.")
        return Study(patient, study, image_files, self._files(where, row, masks))

    def _files(
        self, where: str, row: Mapping[str, str], columns: Mapping[str, str]
    ) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for column, key in columns.items():
            cell = row.get(column)
            if not cell:
                continue
            if key in files:
                raise InputError(f"{where}: {cell} is a second file for {key}.")
            files[key] = self.path.parent / cell
            if not files[key].exists():
                raise InputError(f"{where}: {cell} does not exist.")
        return files
