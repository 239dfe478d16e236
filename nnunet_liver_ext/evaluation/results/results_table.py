"""results.csv: one row per measured value, and their summary over the cases.

results.csv has the columns case, patient, modality, class, metric, value, unit. An infinite
distance (one mask is empty) is written as inf, a relative similarity that does not exist (a mask is
empty) as nan. The summary's statistics are taken over the finite values, and `infinite` counts the
others: read the two together, as a mean without its infinite values flatters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.csv_files import read_csv
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.measuring.one_case import CaseResult
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.metric_entry import Metric
from nnunet_liver_ext.evaluation.tidy_table import COLUMNS, group_rows

GROUP = ["modality", "class", "metric", "unit"]


def results_table(results: Iterable[CaseResult]) -> pd.DataFrame:
    """One row for each case, modality, class and metric; metrics in the order of `METRICS`."""
    rows = [
        (
            result.key.case,
            result.patient,
            result.key.modality,
            name,
            metric,
            value,
            METRICS[metric].unit,
        )
        for result in results
        for name, values in result.values.items()
        for metric, value in values.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def details_tables(results: Iterable[CaseResult]) -> dict[str, pd.DataFrame]:
    """Further tables by name, of what `one_class` gives beside values: those that have a row."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        owner = {
            "case": result.key.case,
            "patient": result.patient,
            "modality": result.key.modality,
        }
        for name, more in result.details.items():
            rows.setdefault(name, []).extend({**owner, **row} for row in more)
    return {name: pd.DataFrame(rows_of_table) for name, rows_of_table in rows.items()}


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Statistics over the cases of each modality, class and metric.

    Returns:
        modality, class, metric, unit, cases, infinite, undefined, mean, std, median, min, max.
        `cases` counts all cases. mean, std (n - 1), median, min and max are of the finite values,
        nan if there are none (std: if there are fewer than two); `infinite` counts the infinite
        values and `undefined` those that do not exist (nan).
    """
    return pd.DataFrame(
        [
            {**dict(zip(GROUP, group, strict=True)), **_statistics(rows.value.to_numpy(float))}
            for group, rows in group_rows(table, GROUP)
        ]
    )


def summarised_metrics(summary: pd.DataFrame) -> list[Metric]:
    """The metrics that a summary shows, as far as they were measured."""
    there = set(summary.metric)
    return [metric for metric in METRICS.values() if metric.summarised and metric.name in there]


def read_results(path: Path) -> pd.DataFrame:
    """A results.csv as `results_table` made it; names stay text, "007" and "NA" too.

    Without a column `patient` (results of version 0.1) each case is a patient of its own.

    Raises:
        InputError: the file is missing or damaged, or has other columns.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such results; make them with nnunet_liver evaluate.")
    content = read_csv(path)
    table = pd.DataFrame(list(content.rows.values()), columns=content.columns)
    if tuple(table.columns) == tuple(name for name in COLUMNS if name != "patient"):
        table.insert(1, "patient", table["case"])
    if tuple(table.columns) != COLUMNS:
        raise InputError(
            f"{path}: has the columns {', '.join(table.columns)}; results have"
            f" {', '.join(COLUMNS)}."
        )
    try:
        return table.astype({"value": float})
    except ValueError as error:
        raise InputError(f"{path}: has a value that is no number ({error}).") from None


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes the table beside `path` and renames it."""
    with atomic_write(path) as unfinished:
        table.to_csv(unfinished, index=False, na_rep="nan")


def _statistics(values: np.ndarray) -> dict[str, float]:
    finite = values[np.isfinite(values)]
    some = len(finite) > 0
    return {
        "cases": len(values),
        "infinite": int(np.isinf(values).sum()),
        "undefined": int(np.isnan(values).sum()),
        "mean": float(finite.mean()) if some else math.nan,
        "std": float(finite.std(ddof=1)) if len(finite) > 1 else math.nan,
        "median": float(np.median(finite)) if some else math.nan,
        "min": float(finite.min()) if some else math.nan,
        "max": float(finite.max()) if some else math.nan,
    }
