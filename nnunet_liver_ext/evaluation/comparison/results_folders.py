"""What a comparison of models starts from: results, how they were measured, patients and folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_liver_ext.csv_files import read_csv
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.json_files import read_json

COLUMNS = ("case", "modality", "class", "metric", "value", "unit")
CHOSEN = "checkpoint_chosen_on_these_cases"
CHOSEN_BY_TRAINING = "checkpoint_was_chosen_on_these_cases"
"""The same entry as training writes it into validation/summary.json."""


@dataclass(frozen=True)
class ModelResults:
    """Results of one model, and what the results.json and summary.json beside them say."""

    name: str
    path: Path
    table: pd.DataFrame
    measured: dict[str, Any] = field(default_factory=dict)
    """Entries of results.json by their names as in `comparison.conventions.depends_on`, those that
    are there."""
    chosen_on_these_cases: bool = False
    """The checkpoint was the best one on the very cases that are scored: optimistic."""


def read_all_results(
    paths: Sequence[Path], names: Sequence[str] | None = None
) -> list[ModelResults]:
    """The results of each model, with names that differ.

    Args:
        paths: folders with results.csv, or the CSV files; two or more.
        names: of the models; None takes those of the folders, see `default_names`.

    Raises:
        InputError: fewer than two, not as many names, two equal ones, or a file that cannot be
            read.
    """
    if len(paths) < 2:
        raise InputError("a comparison needs the results of two or more models.")
    files = [results_file(path) for path in paths]
    names = list(names) if names else default_names(files)
    if len(names) != len(files):
        raise InputError(f"--names: {len(names)} names for {len(files)} results.")
    if len(set(names)) < len(names) or not all(names):
        raise InputError(
            f"--names: every model needs a name of its own, found {', '.join(map(repr, names))}."
        )
    return [
        ModelResults(name, file, read_table(file), *_described(file))
        for name, file in zip(names, files, strict=True)
    ]


def results_file(path: Path) -> Path:
    """The results.csv of a folder, or the file itself.

    Raises:
        InputError: it is not there.
    """
    file = path / "results.csv" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file}: no such results; make them with nnunet_liver evaluate.")
    return file


def default_names(files: Sequence[Path]) -> list[str]:
    """Names of the folders, or of those above where these are equal.

    A file that is not called results.csv gives its own name.

    Raises:
        InputError: two results are one file.
    """
    resolved = [file.resolve() for file in files]
    if len(set(resolved)) < len(resolved):
        raise InputError(
            f"{files[0]}: the same results are given twice; a comparison needs different ones."
        )
    parts = [
        (file.parent if file.name == "results.csv" else file.with_suffix("")).parts[::-1]
        for file in resolved
    ]
    for depth in range(min(map(len, parts))):
        names = [folders[depth] for folders in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError(
        "the folders of the results give no names that differ: name the models with --names."
    )


def read_table(path: Path) -> pd.DataFrame:
    """A results.csv with or without the column patient; names stay text, "007" and "NA" too.

    Raises:
        InputError: the file is missing, has other columns, a value that is no number, or a row
            twice.
    """
    table = _read_csv(path, COLUMNS)
    table = table[[name for name in ("case", "patient", *COLUMNS[1:]) if name in table.columns]]
    values = pd.to_numeric(table["value"].replace("", "no value"), errors="coerce")
    unreadable = table["value"][values.isna() & (table["value"].str.lower() != "nan")]
    if len(unreadable):
        raise InputError(f"{path}: {unreadable.iloc[0]!r} in the column value is no number.")
    twice = table[table.duplicated(["case", "modality", "class", "metric"])]
    if len(twice):
        raise InputError(
            f"{path}: {', '.join(twice.iloc[0][['case', 'modality', 'class', 'metric']])} is in it"
            " twice."
        )
    return table.assign(value=values.astype(float))


def read_patients(path: Path) -> dict[str, str]:
    """Patient of each case, from a CSV with the columns case and patient.

    Raises:
        InputError: the file is missing or has no such columns, a name is empty, or a case has two
            patients.
    """
    table = _read_csv(path, ("case", "patient"))
    if (table[["case", "patient"]] == "").any(axis=None):
        raise InputError(f"{path}: a case or a patient has no name.")
    pairs = table[["case", "patient"]].drop_duplicates()
    twice = pairs[pairs["case"].duplicated(keep=False)]
    if len(twice):
        case = twice["case"].iloc[0]
        names = " and ".join(twice["patient"][twice["case"] == case])
        raise InputError(f"{path}: case {case} has the patients {names}; a case has one.")
    return dict(zip(pairs["case"], pairs["patient"], strict=True))


def read_folds(path: Path) -> dict[str, int]:
    """Fold of each case, from nnU-Net's splits_final.json: the one in whose validation set it is.

    Raises:
        InputError: the file is missing or no splits, or a case is in two validation sets (a
            repeated cross-validation).
    """
    try:
        splits = read_json(path)
        pairs = [(str(case), number) for number, fold in enumerate(splits) for case in fold["val"]]
    except (InputError, OSError, TypeError, KeyError):
        raise InputError(
            f"{path}: is no splits_final.json of nnU-Net; it lies in the folder"
            " nnUNet_preprocessed."
        ) from None
    folds: dict[str, int] = {}
    for case, number in pairs:
        if case in folds:
            raise InputError(
                f"{path}: case {case} is in the validation sets of the folds {folds[case]} and"
                f" {number}; run-to-run differences need runs on the same folds, keep those of one"
                " repetition."
            )
        folds[case] = number
    return folds


def combine_results(
    results: Sequence[ModelResults], patients: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """All results in one table with the column model; `patients` replaces the column patient.

    Raises:
        InputError: a case is not in `patients`, or no case is in two results.
    """
    table = pd.concat(
        [model.table.assign(model=model.name) for model in results], ignore_index=True
    )
    if patients is not None:
        without = sorted(set(table["case"]) - set(patients))
        if without:
            raise InputError(
                f"--patients: case {without[0]} has no row ({len(without)} such cases); every case"
                " needs one."
            )
        table["patient"] = table["case"].map(dict(patients))
    cases = [set(model.table["case"]) for model in results]
    if not any(cases[i] & cases[j] for i in range(len(cases)) for j in range(i)):
        first = ", ".join(
            f"{model.name}: {min(of_model, default='none')}"
            for model, of_model in zip(results, cases, strict=True)
        )
        raise InputError(
            f"the results have no case in common ({first}): are their cases named in the same way?"
        )
    return table


def _described(file: Path) -> tuple[dict[str, Any], bool]:
    content = _json_of(file.with_suffix(".json"))
    summary = _json_of(file.with_name("summary.json"))
    flat = {name: content.get(name) for name in ("tolerance_mm", "raters")}
    for group in ("conventions", "options", "similarity"):
        said = content.get(group)
        flat |= (
            {f"{group}.{name}": value for name, value in said.items()}
            if isinstance(said, dict)
            else {}
        )
    measured = {name: value for name, value in flat.items() if value is not None}
    return measured, any(
        bool(entries.get(key))
        for entries in (content, summary)
        for key in (CHOSEN, CHOSEN_BY_TRAINING)
    )


def _json_of(path: Path) -> dict[str, Any]:
    """Empty if there is no such file."""
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no results.json of nnunet_liver evaluate.")
    return content


def _read_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    content = read_csv(path)
    table = pd.DataFrame(list(content.rows.values()), columns=content.columns)
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise InputError(
            f"{path}: has the columns {', '.join(table.columns)}; {', '.join(missing)} is missing."
        )
    return table
