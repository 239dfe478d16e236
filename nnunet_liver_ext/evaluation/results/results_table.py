"""Results as tables: one row per measured value, their summary, and both as files.

results.csv has the columns case, patient, modality, class, metric, value, unit. An infinite
distance (one mask is empty) is written as inf, a relative similarity that does not exist (a mask is
empty) as nan. The summary's statistics are taken over the finite values, and `infinite` counts the
others: read the two together, as a mean without its infinite values flatters.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from nnunet_liver_ext import __version__
from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.errors import CaseFailure, InputError
from nnunet_liver_ext.evaluation.measuring.one_case import CaseResult
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS, pair_metrics
from nnunet_liver_ext.evaluation.metric_entry import Metric
from nnunet_liver_ext.evaluation.options import Options

COLUMNS = ("case", "patient", "modality", "class", "metric", "value", "unit")
OBJECT = ["case", "modality", "class"]
GROUP = ["modality", "class", "metric", "unit"]
SHARED_CONVENTIONS = {
    "surface": "6-connected inner border of each mask, voxel centres in mm",
    "relative_similarity": (
        "highest Dice of the pair's masks after a transform of the first, on their grid if it is"
        " one, else on the pair's common grid; nan (excluded) if one is empty or fills the volume"
    ),
    "empty masks": (
        "both empty: Dice and surface Dice 1, distances 0; one empty: Dice and surface Dice 0,"
        " distances inf"
    ),
    "summary": (
        "mean, std (n - 1), median, min and max of finite values; `infinite` and `undefined` (nan)"
        " count the others"
    ),
}


def conventions(options: Options) -> dict[str, str]:
    """What the numbers mean, by metric or kind of metric."""
    beyond = {"standard": "background", "chaos": "more of the mask"}[options.convention]
    shared = SHARED_CONVENTIONS
    return {
        "surface": f"{shared['surface']}; beyond the volume is {beyond}",
        **{metric.name: metric.convention for metric in METRICS.values() if metric.convention},
        **{name: text for name, text in shared.items() if name != "surface"},
    }


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
    """Further tables by name, those that have a row: lesions (see `object_measures.lesion_rows`),
    raters (`rater_rows`)."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        owner = {
            "case": result.key.case,
            "patient": result.patient,
            "modality": result.key.modality,
        }
        for name, more in result.details.items():
            rows.setdefault(name, []).extend({**owner, **row} for row in more)
    return {name: pd.DataFrame(own) for name, own in rows.items()}


def image_rows(table: pd.DataFrame) -> pd.DataFrame:
    """What was measured of single images."""
    return table[~table.metric.isin(list(pair_metrics()))]


def pair_rows(table: pd.DataFrame) -> pd.DataFrame:
    """What was measured of both masks of a pair."""
    return table[table.metric.isin(list(pair_metrics()))]


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Statistics over the cases: modality, class, metric, unit, cases, infinite, undefined, mean,
    std, median, min, max.

    `cases` counts all cases. mean, std (n - 1), median, min and max are of the finite values, NaN
    if there are none (std: if there are fewer than two); `infinite` counts the infinite values and
    `undefined` those that do not exist (nan).
    """
    return pd.DataFrame(
        [
            {**dict(zip(GROUP, group, strict=True)), **_statistics(rows.value.to_numpy(float))}
            for group, rows in grouped(table, GROUP)
        ]
    )


def summarised_metrics(summary: pd.DataFrame) -> list[Metric]:
    """The metrics that a summary shows, as far as they were measured."""
    there = set(summary.metric)
    return [metric for metric in METRICS.values() if metric.summarised and metric.name in there]


def grouped(
    table: pd.DataFrame, columns: Sequence[str]
) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """The rows that share the values of these columns (two or more), in the order in which they
    come."""
    return [
        (tuple(map(str, cast(tuple, values))), rows)
        for values, rows in table.groupby(list(columns), sort=False)
    ]


def empty_masks(table: pd.DataFrame) -> list[dict[str, str]]:
    """Where a mask is empty: case, modality, class, and which one ("reference", "prediction" or
    "both").

    Known from the volumes; without them there are none.
    """
    volumes = table[table.metric.isin(["volume_prediction", "volume_reference"])]
    return [
        {
            **dict(zip(OBJECT, names, strict=True)),
            "empty": _which_is_empty(set(rows.metric[rows.value == 0])),
        }
        for names, rows in grouped(volumes, OBJECT)
        if (rows.value == 0).any()
    ]


def read_results(path: Path) -> pd.DataFrame:
    """A results.csv as `results_table` made it; names stay text, "007" and "NA" too.

    Without a column `patient` (results of version 0.1) each case is a patient of its own.

    Raises:
        InputError: the file is missing or has other columns.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such results; make them with nnunet_liver evaluate.")
    table = pd.read_csv(
        path, dtype={name: str for name in COLUMNS if name != "value"}, keep_default_na=False
    )
    if tuple(table.columns) == tuple(name for name in COLUMNS if name != "patient"):
        table.insert(1, "patient", table["case"])
    if tuple(table.columns) != COLUMNS:
        raise InputError(
            f"{path}: has the columns {', '.join(table.columns)}; results have"
            f" {', '.join(COLUMNS)}."
        )
    return table.astype({"value": float})


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes the table beside `path` and renames it."""
    with atomic_write(path) as unfinished:
        table.to_csv(unfinished, index=False, na_rep="nan")


def write_json(
    table: pd.DataFrame,
    path: Path,
    *,
    options: Options,
    pairs: Sequence[dict[str, Any]] = (),
    agreement: Sequence[dict[str, Any]] = (),
    detection: Sequence[dict[str, Any]] = (),
    to_look_at: Sequence[dict[str, Any]] = (),
    more: Mapping[str, Any] | None = None,
    failures: Sequence[CaseFailure] = (),
    notes: Sequence[CaseFailure] = (),
) -> None:
    """Writes what the CSV does not say: conventions, versions, the summary, empty masks and
    problems.

    Numbers that do not exist are null, so the file is plain JSON; there are no folders of this
    machine in it.
    """
    content = {
        "tolerance_mm": options.tolerance_mm,
        "options": options.to_json(),
        "conventions": conventions(options),
        "versions": versions(),
        "summary": [_plain(row) for row in summarise(table).to_dict("records")],
        "similarity": (
            {"transforms": options.similarity, "pairs": [_plain(row) for row in pairs]}
            if options.similarity
            else None
        ),
        "agreement": [_plain(row) for row in agreement],
        "detection": [_plain(row) for row in detection],
        "to_look_at": list(to_look_at),
        "empty_masks": empty_masks(table) if "volume_prediction" in set(table.metric) else None,
        "failures": [vars(failure) for failure in failures],
        "notes": [vars(note) for note in notes],
        **(more or {}),
    }
    with atomic_write(path) as unfinished:
        unfinished.write_text(
            json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )


def versions() -> dict[str, str]:
    """Of the software that the numbers depend on."""
    packages = {name: version(name) for name in ("numpy", "scipy", "SimpleITK", "pandas")}
    return {"nnunet_liver_ext": __version__, "python": platform.python_version(), **packages}


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


def _which_is_empty(metrics: set[str]) -> str:
    return "both" if len(metrics) == 2 else metrics.pop().removeprefix("volume_")


def _plain(value: Any) -> Any:
    """Plain JSON: a number that does not exist is null, an infinite one is text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
