"""The table of all cases: a row for each object, and for each image that was not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from nnunet_liver_ext.evaluation.files.find_label_maps import NO_MODALITY
from nnunet_liver_ext.evaluation.report.sections.sortable_table import (
    SortableTable,
    TableRow,
    list_choices,
    metric_cell,
    metric_columns,
    sort_by_family,
)
from nnunet_liver_ext.evaluation.results.flags import Flag
from nnunet_liver_ext.evaluation.tidy_table import OBJECT, group_rows


def make_anchors(table: pd.DataFrame, flags: Sequence[Flag]) -> dict[str, str]:
    """Id of each case's section, in the order of their names, with the cases that failed."""
    cases = sorted({*table["case"], *(flag.key.case for flag in flags)})
    return {case: f"case-{number}" for number, case in enumerate(cases, start=1)}


def rank_cases(table: pd.DataFrame, modality: str) -> list[tuple[str, str, float]]:
    """Worst, median and best case of one modality by Dice, the mean over the classes.

    Returns:
        (rank, case, Dice) of three cases, of fewer if there are.

    Of an even number of cases the lower middle one is the median. Ties are in the order of the
    names.
    """
    rows = table[(table.modality == modality) & (table.metric == "dice")]
    dice = rows.groupby("case").value.mean().sort_values(kind="stable")
    ranks = {0: "worst", len(dice) - 1: "best"} if len(dice) > 1 else {0: "only"}
    if len(dice) > 2:
        ranks[(len(dice) - 1) // 2] = "median"
    return [
        (ranks[index], str(dice.index[index]), float(dice.iloc[index])) for index in sorted(ranks)
    ]


def make_case_table(
    table: pd.DataFrame, flags: Sequence[Flag], anchors: Mapping[str, str], name: str
) -> SortableTable:
    """A row for each object, and one for each image that failed.

    Args:
        table: of single images, or of pairs.
        flags: of the cases.
        anchors: as `make_anchors`.
        name: of the table.
    """
    metrics = sort_by_family(table["metric"].unique())
    measured = {
        key: (str(rows["patient"].iloc[0]), dict(zip(rows["metric"], rows["value"], strict=True)))
        for key, rows in group_rows(table, OBJECT)
    }
    images = {key[:2] for key in measured}
    failed = [flag for flag in flags if flag.key not in images and not flag.class_name]
    objects = [(key, *measured[key]) for key in measured]
    objects += [((*flag.key, ""), "", {}) for flag in failed]
    rows = [
        TableRow(
            case,
            anchors[case],
            patient,
            "" if modality == NO_MODALITY else modality,
            class_name,
            [metric_cell(metric, values.get(metric.name)) for metric in metrics],
            [
                _flag_chip(flag)
                for flag in flags
                if flag.key == (case, modality) and flag.class_name in (class_name, "")
            ],
        )
        for (case, modality, class_name), patient, values in objects
    ]
    rows.sort(key=lambda row: list(anchors).index(row.case))
    with_patients = any(row.patient not in ("", row.case) for row in rows)
    return SortableTable(
        name, metric_columns(metrics), rows, list_choices(rows), with_patients, bool(flags)
    )


def _flag_chip(flag: Flag) -> tuple[str, str, bool]:
    return flag.short, flag.text, flag.severe
