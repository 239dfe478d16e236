"""Tables of the mismatch test: the drop of each case and their means, for files and a terminal.

A drop is the value with the matching auxiliary image minus that with another patient's: positive
where Dice falls, negative where a distance grows. Of signed differences (of volume) the absolute
value is compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.benchmark.mismatch.partners import Partners
from nnunet_liver_ext.errors import CaseFailure, SomeCasesFailed
from nnunet_liver_ext.evaluation.comparison.written_tables import left_out_text
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.results_json import versions
from nnunet_liver_ext.evaluation.statistics.comparable_metrics import (
    comparable_metrics,
    compared_values,
)
from nnunet_liver_ext.evaluation.statistics.sentences import format_number, format_p

OBJECT = ["case", "patient", "modality", "class", "metric", "unit"]
CONVENTIONS = {
    "drop": (
        "value with the matching auxiliary image minus that with another patient's; of differences"
        " absolute values"
    ),
    "auxiliary image": (
        "another patient's, put onto the matching pair's common grid by its scanner coordinates;"
        " where it covers less than half of the own one's field of view (alignment: centre), the"
        " centres of the two coincide"
    ),
    "all else": (
        "common grid, crop and the segmented image are those of the matching pair; no"
        " postprocessing"
    ),
    "p_value": "Wilcoxon signed-rank test over patients; p_adjusted after Benjamini-Hochberg",
    "low, high": "95 % interval of the mean drop, patients drawn anew",
}


SUMMARY = {
    **{
        name: name for name in ("model", "modality", "class", "metric", "unit", "cases", "patients")
    },
    **{"mean_b": "mean_matched", "mean_a": "mean_mismatched", "mean_difference": "mean_drop"},
    **{name: name for name in ("low", "high", "p_value", "p_adjusted", "not_finite", "absent")},
}
"""What of `compare_paired` is written, and under which name."""


@dataclass(frozen=True)
class MismatchResult:
    """What came out of the mismatch test."""

    table: pd.DataFrame
    """A row for each model, case, modality, class and metric: matched, mismatched, drop, and who
    stood in."""
    summary: pd.DataFrame
    """As `statistics.compare_paired` of mismatched (a) and matched (b), with the column model; the
    mean difference is the mean drop."""
    failures: list[CaseFailure]
    notes: list[str]
    total: int

    def raise_for_failures(self) -> None:
        if self.failures:
            raise SomeCasesFailed(self.failures, self.total)


def drops(matched: pd.DataFrame, mismatched: pd.DataFrame) -> pd.DataFrame:
    """What each case of both tables loses with another patient's auxiliary image.

    Columns: case, patient, modality, class, metric, unit, matched, mismatched and drop. A drop is
    nan where both values are infinite or one does not exist.

    Args:
        matched: results with the matching auxiliary image.
        mismatched: those with another patient's.
    """
    metrics = comparable_metrics(matched["metric"])
    beside_own, beside_other = (
        compared_values(table, metrics, empty="one").rename(columns={"value": kind})
        for kind, table in (("matched", matched), ("mismatched", mismatched))
    )
    both = beside_own.merge(beside_other, on=OBJECT)
    return both.assign(drop=both["matched"] - both["mismatched"])[
        [*OBJECT, "matched", "mismatched", "drop"]
    ]


def drop_table(summary: pd.DataFrame) -> Table:
    """The drop in Dice of each model, image and class, for a terminal."""
    shown = Table(title="Dice beside the own auxiliary image and beside another patient's")
    for column in (
        "Model",
        "Object",
        "Cases",
        "Left out",
        "Own",
        "Another's",
        "Drop",
        "95 % interval",
        "p (BH)",
    ):
        shown.add_column(
            column, justify="left" if column in ("Model", "Object") else "right", overflow="fold"
        )
    for row in summary[summary["metric"] == "dice"].to_dict("records"):
        interval = (
            "–"
            if math.isnan(row["low"])
            else f"{format_number(row['low'], 3)} to {format_number(row['high'], 3)}"
        )
        values = [format_number(row[name], 3) for name in ("mean_b", "mean_a", "mean_difference")]
        cells = [
            row["model"],
            label(row["modality"], row["class"]),
            str(row["cases"]),
            left_out_text(row),
            *values,
            interval,
        ]
        shown.add_row(*(Text(cell) for cell in cells), format_p(row["p_adjusted"]))
    return shown


def write_json(
    result: MismatchResult,
    models: Mapping[str, Any],
    partners: Partners,
    path: Path,
    options: Options,
) -> None:
    """How it was done, and the summary; numbers that do not exist are null."""
    content = {
        "conventions": CONVENTIONS,
        "options": options.to_json(),
        "seed": partners.seed,
        "others": partners.lender_names(),
        "models": models,
        "summary": [_rename_columns(row) for row in result.summary.to_dict("records")],
        "notes": result.notes,
        "failures": [vars(failure) for failure in result.failures],
        "versions": versions(),
    }
    with atomic_write(path) as unfinished:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        unfinished.write_text(text + "\n", encoding="utf-8")


def _rename_columns(row: Mapping[Any, Any]) -> dict[str, Any]:
    values = {
        new: row[old].item() if hasattr(row[old], "item") else row[old]
        for old, new in SUMMARY.items()
    }
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
