"""Tables of a comparison of models: all measures at a glance, and every case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunet_liver_ext.evaluation.files.find_label_maps import NO_MODALITY
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.report.sections.sortable_table import (
    Cell,
    Column,
    SortableTable,
    TableRow,
    list_choices,
    metric_cell,
)
from nnunet_liver_ext.evaluation.statistics.sentences import format_number
from nnunet_liver_ext.evaluation.tidy_table import OBJECT, group_rows


@dataclass(frozen=True)
class Verdict:
    """A mean difference, and what it shows."""

    difference: str
    word: str


@dataclass(frozen=True)
class MetricTableRow(TableRow):
    """A row of one metric, by whose title the reader can filter."""

    metric: str = ""
    is_first: bool = False
    """Whether links to the case lead to this row, the first of its case."""


def summarise_verdicts(
    comparison: pd.DataFrame, values: pd.DataFrame, models: Sequence[str]
) -> tuple[list[str], list[tuple[str, int, int, list[str], list[Verdict]]]]:
    """All measures at a glance.

    Means are over the cases in which the value is finite for all models.

    Returns:
        Names of the differences; for each measure and object its name, the number of cases, that of
        cases left out, the models' means, and the differences with their verdicts.
    """
    compared = list(dict.fromkeys(zip(comparison["model_a"], comparison["model_b"], strict=True)))
    lines = []
    for (metric, modality, name), rows in group_rows(comparison, ["metric", "modality", "class"]):
        decimals = METRICS[metric].compared_decimals
        rows_of_object = values[
            (values.metric == metric) & (values.modality == modality) & (values["class"] == name)
        ]
        wide = rows_of_object.pivot(index="case", columns="model", values="value").reindex(
            columns=list(models)
        )
        all_cases = len(wide)
        wide = wide.loc[np.isfinite(wide.to_numpy(float)).all(axis=1)]
        verdicts = {
            (row["model_a"], row["model_b"]): Verdict(
                format_number(row["mean_difference"], decimals), row["verdict"]
            )
            for row in rows.to_dict("records")
        }
        means = [format_number(float(wide[model].mean()), decimals) for model in models]
        cells = [verdicts.get(pair, Verdict("–", "")) for pair in compared]
        title = f"{_heading(metric)}, {label(modality, name)}"
        lines.append((title, len(wide), all_cases - len(wide), means, cells))
    return [f"{b} − {a}" for a, b in compared], lines


def make_comparison_table(
    values: pd.DataFrame,
    metrics: Sequence[str],
    models: Sequence[str],
    compared: Sequence[tuple[str, str]],
    anchors: Mapping[str, str],
) -> SortableTable:
    """A row for each metric, case, modality and class, with a column for each model.

    Args:
        values: as `comparable_metrics.compared_values`.
        metrics: names, in the order of the rows.
        models: names, in the order of the columns.
        compared: names of the two models of each difference.
        anchors: id of what each case leads to.
    """
    columns = [Column(model, "", "Models", shown=True) for model in models]
    columns += [Column(f"{b} − {a}", "", "Differences", shown=True) for a, b in compared]
    order = {metric: position for position, metric in enumerate(metrics)}
    objects = sorted(
        group_rows(values, [*OBJECT, "metric"]), key=lambda item: (order[item[0][3]], item[0][0])
    )
    rows: list[MetricTableRow] = []
    seen: set[str] = set()
    for (case, modality, name, metric), measured in objects:
        by_model = dict(zip(measured["model"], measured["value"], strict=True))
        rows.append(
            MetricTableRow(
                case,
                anchors[case],
                str(measured["patient"].iloc[0]) if "patient" in measured else "",
                "" if modality == NO_MODALITY else modality,
                name,
                _cells(metric, by_model, models, compared),
                metric=_heading(metric),
                is_first=anchors[case] not in seen,
            )
        )
        seen.add(anchors[case])
    choices = {"metric": [_heading(metric) for metric in metrics], **list_choices(rows)}
    with_patients = any(row.patient not in ("", row.case) for row in rows)
    return SortableTable("cases", columns, rows, choices, with_patients)


def _cells(
    metric: str,
    by_model: Mapping[str, float],
    models: Sequence[str],
    compared: Sequence[tuple[str, str]],
) -> list[Cell]:
    entry = METRICS[metric]
    cells = [metric_cell(entry, by_model.get(model)) for model in models]
    for a, b in compared:
        if a not in by_model or b not in by_model:
            cells.append(metric_cell(entry, None))
            continue
        difference = by_model[b] - by_model[a]
        gain = difference if METRICS[metric].higher_is_better else -difference
        cell = metric_cell(entry, difference)
        cells.append(
            Cell(
                cell.text,
                cell.key,
                cell.css or ("gain" if gain > 0 else "loss" if gain < 0 else ""),
            )
        )
    return cells


def _heading(metric: str) -> str:
    return METRICS[metric].compared_heading
