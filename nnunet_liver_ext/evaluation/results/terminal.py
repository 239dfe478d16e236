"""The summary for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from nnunet_liver_ext.console import list_cases
from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.absent_objects import (
    count_presence,
    describe_absent,
    leave_out_absent,
)
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.options import Empty
from nnunet_liver_ext.evaluation.results.pair_summary import (
    further_cells,
    further_headings,
    pair_cells,
)
from nnunet_liver_ext.evaluation.results.results_table import summarise, summarised_metrics
from nnunet_liver_ext.evaluation.tidy_table import group_rows, image_rows


def summary_table(table: pd.DataFrame, *, tolerance_mm: float, empty: Empty = "exclude") -> Table:
    """Mean ± standard deviation of each metric, a row for each modality and class.

    Args:
        table: as `results_table.results_table` makes it.
        tolerance_mm: of the surface Dice.
        empty: as `absent_objects.leave_out_absent`.
    """
    summary = summarise(leave_out_absent(image_rows(table), empty))
    metrics = summarised_metrics(summary)
    presence = count_presence(image_rows(table))
    absent = any(of_object.is_absent_somewhere for of_object in presence.values())
    shown = Table(
        title="Mean ± standard deviation",
        caption=(
            f"Surface Dice within {tolerance_mm:g} mm. + n ∞: n infinite distances (an empty mask),"
            " in no mean." + f" {describe_absent(empty)}" * absent
        ),
        show_lines=True,
    )
    shown.add_column("Object")
    shown.add_column("Cases", justify="right")
    for metric in metrics:
        unit = f"\n\\[{metric.unit}]" if metric.unit != "1" else ""
        heading = metric.title.replace(" ", "\n") + unit
        shown.add_column(heading, justify="right", overflow="fold")
    for (modality, class_name), rows in group_rows(summary, ["modality", "class"]):
        cells = [_mean_and_std(rows[rows.metric == metric.name]) for metric in metrics]
        there = presence.get((modality, class_name))
        cases = there.cases_text if there else str(rows.cases.iloc[0])
        if there and there.is_absent_somewhere:
            cases += f"\nFP {there.false_positives_text}"
        shown.add_row(Text(label(modality, class_name)), cases, *cells)
    return shown


def pairs_table(pairs: Sequence[dict[str, Any]], *, similarity: str) -> Table:
    """How similar both masks of a pair are, a row for each class."""
    shown = Table(
        title=f"Relative similarity of the masks of a pair ({similarity}), mean",
        caption=(
            "p: Wilcoxon signed-rank test, predictions against references. Excluded: a mask is"
            " empty."
        ),
    )
    columns = ["Pairs", "Excluded", "Predicted", "Reference", "Difference", "p"]
    return _fill(shown, columns, pairs, pair_cells)


def pair_dice_table(pairs: Sequence[dict[str, Any]]) -> Table:
    """The mean Dice of both masks of a pair before and after a registration."""
    shown = Table(
        title="Dice of the masks of a pair, mean",
        caption=(
            "As they lie: of both masks without any registration. First warped (as for the relative"
            " similarity) or registered (by a model): of the first prediction, moved so, with the"
            " second reference."
        ),
    )
    return _fill(shown, further_headings(pairs), pairs, further_cells)


def _fill(
    shown: Table,
    columns: Sequence[str],
    pairs: Sequence[dict[str, Any]],
    cells: Callable[[dict[str, Any]], list[str]],
) -> Table:
    """The table with a row for each modality and class."""
    shown.add_column("Object")
    for column in columns:
        shown.add_column(column, justify="right")
    for row in pairs:
        shown.add_row(Text(label(row["modality"], row["class"])), *cells(row))
    return shown


def notes_text(notes: Sequence[CaseFailure]) -> Text:
    """The notes, a line for each sentence with the cases that it is about."""
    cases: dict[str, list[str]] = {}
    for note in notes:
        cases.setdefault(note.reason, []).append(note.case)
    lines = (f"  {list_cases(names)}: {reason}" for reason, names in cases.items())
    return Text("Note:\n" + "\n".join(lines), style="yellow")


def _mean_and_std(rows: pd.DataFrame) -> str:
    if rows.empty:
        return ""
    statistics = rows.iloc[0]
    metric = METRICS[statistics["metric"]]
    mean, std = metric.format(statistics["mean"]), metric.format(statistics["std"])
    infinite = f"\n+\u00a0{statistics['infinite']}\u00a0∞" if statistics["infinite"] else ""
    return f"{mean}\n±\u00a0{std}{infinite}"
