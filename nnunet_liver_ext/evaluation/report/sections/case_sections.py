"""A section for each case: its flags, notes, numbers, lesions and raters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.files.find_label_maps import NO_MODALITY, ImageKey
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.report.sections.case_table import rank_cases
from nnunet_liver_ext.evaluation.report.sections.sortable_table import (
    FAMILIES,
    metric_cell,
    sort_by_family,
)
from nnunet_liver_ext.evaluation.results.flags import Flag, parse_key
from nnunet_liver_ext.evaluation.tidy_table import group_rows, image_rows, pair_rows

TextRows = list[list[str]]
"""Rows of text."""


@dataclass(frozen=True)
class ObjectValues:
    """All values of some objects."""

    objects: list[str]
    families: list[tuple[str, list[tuple[str, list[str]]]]]
    """For each family the title of each metric and its values, one for each object."""


@dataclass(frozen=True)
class CaseSection:
    """One case, with all of its images."""

    name: str
    anchor: str
    patient: str
    """Empty if it says no more than the case."""
    headline: list[str]
    """A few words for each object."""
    flags: list[tuple[str, Flag]]
    """With the name of the object."""
    ranks: list[str]
    """Such as "worst T1"."""
    notes: list[str]
    numbers: list[ObjectValues]
    """Those of the images, and those of the pair."""
    lesions: TextRows = field(default_factory=list)
    raters: TextRows = field(default_factory=list)

    @property
    def chips(self) -> list[tuple[str, bool]]:
        """Each kind of flag once, and whether it is severe."""
        return list({flag.short: flag.severe for _, flag in self.flags}.items())


def make_case_sections(
    table: pd.DataFrame,
    flags: Sequence[Flag],
    anchors: Mapping[str, str],
    notes: Sequence[CaseFailure],
    details: Mapping[str, pd.DataFrame],
) -> list[CaseSection]:
    """A section for each case, in the order of `anchors`."""
    modalities = [modality for modality in table.modality.unique() if modality != NO_MODALITY]
    ranks: dict[str, list[str]] = {}
    for modality in image_rows(table).modality.unique():
        for rank, case, _ in rank_cases(table, modality):
            ranks.setdefault(case, []).append(
                f"{rank} {modality}" if modality != NO_MODALITY else rank
            )
    said = [
        (key, _name_image(key, note.reason))
        for note in notes
        for key in [parse_key(note.case, modalities)]
    ]
    classes = ["", *table["class"].unique()]

    def place(flag: Flag) -> tuple[str, int]:
        return flag.key.modality, classes.index(flag.class_name)

    by_case = {str(case): rows for case, rows in table.groupby("case", sort=False)}
    return [
        _make_section(
            case,
            anchor,
            by_case.get(case, table.iloc[:0]),
            sorted((flag for flag in flags if flag.key.case == case), key=place),
            ranks.get(case, []),
            [reason for key, reason in said if key.case == case],
            {name: rows[rows["case"] == case] for name, rows in details.items()},
        )
        for case, anchor in anchors.items()
    ]


def _make_section(
    case: str,
    anchor: str,
    rows: pd.DataFrame,
    flags: list[Flag],
    ranks: list[str],
    notes: list[str],
    details: Mapping[str, pd.DataFrame],
) -> CaseSection:
    patient = str(rows["patient"].iloc[0]) if len(rows) else ""
    dice = rows[rows.metric == "dice"]
    return CaseSection(
        case,
        anchor,
        "" if patient == case else patient,
        [
            f"{label(modality, name)} Dice {METRICS['dice'].format(value)}"
            for modality, name, value in zip(
                dice["modality"], dice["class"], dice["value"], strict=True
            )
        ],
        [(_name_object(flag), flag) for flag in flags],
        ranks,
        notes,
        [_numbers(part) for part in (image_rows(rows), pair_rows(rows)) if len(part)],
        _lesions(details["lesions"]) if "lesions" in details else [],
        _raters(details["raters"]) if "raters" in details else [],
    )


def _numbers(rows: pd.DataFrame) -> ObjectValues:
    objects = group_rows(rows, ["modality", "class"])
    values = [
        dict(zip(measured["metric"], measured["value"], strict=True)) for _, measured in objects
    ]
    families: dict[str, list[tuple[str, list[str]]]] = {}
    for metric in sort_by_family(rows["metric"].unique()):
        cells = [metric_cell(metric, by_metric.get(metric.name)).text for by_metric in values]
        title = metric.title + (f" [{metric.unit}]" if metric.unit != "1" else "")
        families.setdefault(FAMILIES[metric.family], []).append((title, cells))
    return ObjectValues([label(*key) for key, _ in objects], list(families.items()))


def _name_image(key: ImageKey, text: str) -> str:
    return text if key.modality == NO_MODALITY else f"{key.modality}: {text}"


def _name_object(flag: Flag) -> str:
    if not flag.class_name:
        return "" if flag.key.modality == NO_MODALITY else flag.key.modality
    return label(flag.key.modality, flag.class_name)


def _lesions(rows: pd.DataFrame) -> TextRows:
    return [
        [
            label(row["modality"], row["class"]),
            str(row["rater"]),
            row["found"],
            _number(row["reference_mm"], 1),
            _number(row["prediction_mm"], 1),
            _number(row["dice"], 2) if row["dice"] else "–",
        ]
        for row in rows.to_dict("records")
    ]


def _raters(rows: pd.DataFrame) -> TextRows:
    return [
        [
            label(row["modality"], row["class"]),
            str(row["first"]),
            str(row["second"]),
            _number(row["dice"], 3),
        ]
        for row in rows.to_dict("records")
    ]


def _number(value: float, decimals: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{decimals}f}"
