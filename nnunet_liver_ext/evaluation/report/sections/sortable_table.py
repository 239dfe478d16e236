"""Tables that the reader of a page sorts, filters and chooses columns of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.metric_entry import Metric

FAMILIES = {
    "overlap": "Overlap",
    "surface": "Surface",
    "volume": "Volume",
    "fat": "Fat fraction",
    "detection": "Lesions",
    "raters": "Raters",
    "pair": "Pair",
    "plausibility": "Plausibility",
}
"""Titles of the kinds of measures, in the order of the columns."""


@dataclass(frozen=True)
class Column:
    """A column of numbers."""

    title: str
    unit: str
    """Empty for a plain number."""
    family: str
    """Title of the family."""
    shown: bool
    """Before the reader has chosen."""


@dataclass(frozen=True)
class Cell:
    """What is read, and what is sorted by (a number as JavaScript reads it; empty sorts last)."""

    text: str
    key: str
    css: str = ""


@dataclass(frozen=True)
class TableRow:
    """One row; what it is filtered by stands in `case` to `flags`."""

    case: str
    anchor: str
    """Id of the element that its name leads to."""
    patient: str
    modality: str
    class_name: str
    cells: Sequence[Cell]
    flags: Sequence[tuple[str, str, bool]] = ()
    """(short, text, severe)."""


@dataclass(frozen=True)
class SortableTable:
    """A whole table with what its toolbar offers."""

    name: str
    """Name of the element, such as "cases"."""
    columns: Sequence[Column]
    rows: Sequence[TableRow]
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What can be selected: by "modality" and "class", where there is more than one."""
    with_patients: bool = False
    with_flags: bool = False

    @property
    def families(self) -> list[tuple[str, list[tuple[int, Column]]]]:
        """The columns of each family with their numbers, in order."""
        families: dict[str, list[tuple[int, Column]]] = {}
        for number, column in enumerate(self.columns):
            families.setdefault(column.family, []).append((number, column))
        return list(families.items())


def sort_by_family(names: Iterable[str]) -> list[Metric]:
    """The metrics, those of a family together."""
    there = set(names)
    order = list(FAMILIES)
    metrics = [metric for metric in METRICS.values() if metric.name in there]
    return sorted(metrics, key=lambda metric: order.index(metric.family))


def metric_columns(metrics: Sequence[Metric]) -> list[Column]:
    """A column for each metric; at first the most telling ones are shown, or all without these."""
    telling = [metric for metric in metrics if metric.shown_first] or metrics
    return [
        Column(
            metric.title,
            "" if metric.unit == "1" else metric.unit,
            FAMILIES[metric.family],
            metric in telling,
        )
        for metric in metrics
    ]


def metric_cell(metric: Metric, value: float | None) -> Cell:
    """A value of a metric; None where it was not measured."""
    if value is None:
        return Cell("", "")
    if math.isnan(value):
        return Cell("–", "")
    if math.isinf(value):
        return Cell(metric.format(value), "1e99" if value > 0 else "-1e99", "infinite")
    return Cell(
        metric.format(round(value, metric.decimals) + 0.0), f"{value:.6g}"
    )  # no minus before a zero


def list_choices(rows: Sequence[TableRow]) -> dict[str, list[str]]:
    """What the rows can be filtered by, where there is more than one."""
    values = {"modality": [row.modality for row in rows], "class": [row.class_name for row in rows]}
    unique = {
        name: [value for value in dict.fromkeys(column) if value] for name, column in values.items()
    }
    return {name: choices for name, choices in unique.items() if len(choices) > 1}
