"""report.html: one file that opens alone, offline, with the summary, box plots, pictures and every case's numbers."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from nnunet_liver_ext.errors import CaseFailure, InputError
from nnunet_liver_ext.evaluation import box_plots
from nnunet_liver_ext.evaluation.cases import Comparison
from nnunet_liver_ext.evaluation.label_maps import NO_MODALITY, Classes
from nnunet_liver_ext.evaluation.measures import METRICS, Metric
from nnunet_liver_ext.evaluation.pairs import pair_cells
from nnunet_liver_ext.evaluation.tables import CONVENTIONS, OBJECT, empty_masks, grouped, image_rows, summarise, versions
from nnunet_liver_ext.images import replaced

SUMMARISED = ("dice", "surface_dice", "hd", "hd95", "asd", "volume_difference")


@dataclass(frozen=True)
class Picture:
    """One overlay: a PNG in base64, and what is written beside it."""

    rank: str
    case: str
    modality: str
    dice: str
    data: str | None
    problem: str = ""
    has_image: bool = False


def write_report(
    table: pd.DataFrame,
    path: Path,
    *,
    comparisons: Sequence[Comparison],
    classes: Classes | None,
    tolerance_mm: float,
    similarity: str | None = None,
    pairs: Sequence[dict[str, Any]] = (),
    failures: Sequence[CaseFailure] = (),
    notes: Sequence[CaseFailure] = (),
) -> None:
    """Writes the report beside `path` and renames it.

    Args:
        table: as `tables.results_table` makes it.
        path: of the HTML file.
        comparisons: the files behind the table, for the pictures of the worst, median and best case of each modality.
        classes: labels of each class by name, or None to draw every label.
        tolerance_mm: of the surface Dice.
        similarity: the class of transforms of the relative similarity, if it was measured.
        pairs: how similar the masks of a pair are, as `pairs.summarise_pairs`.
        failures: what could not be evaluated; listed on top.
        notes: what else the reader should know.
    """
    table = image_rows(table)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((files(__package__) / "report.html.j2").read_text(encoding="utf-8"))
    html = template.render(
        modalities=[name for name in table.modality.unique() if name != NO_MODALITY],
        number_of_cases=table.case.nunique(),
        tolerance_mm=f"{tolerance_mm:g}",
        summarised=[METRICS[name] for name in SUMMARISED],
        summary=_summary_rows(table),
        similarity=similarity,
        pairs=[(box_plots.label(row["modality"], row["class"]), pair_cells(row)) for row in pairs],
        plots=box_plots.box_plots(table),
        plot=box_plots,
        pictures=_pictures(table, comparisons, classes),
        metrics=list(METRICS.values()),
        cases=_case_rows(table),
        failures=failures,
        notes=notes,
        empty=empty_masks(table),
        label=box_plots.label,
        conventions=CONVENTIONS,
        versions=versions(),
    )
    with replaced(path) as unfinished:
        unfinished.write_text(html, encoding="utf-8")


def ranked_cases(table: pd.DataFrame, modality: str) -> list[tuple[str, str, float]]:
    """Worst, median and best case of one modality by Dice (mean over the classes): (rank, case, Dice), fewer if there are.

    Of an even number of cases the lower middle one is the median. Ties are in the order of the names.
    """
    rows = table[(table.modality == modality) & (table.metric == "dice")]
    dice = rows.groupby("case").value.mean().sort_values(kind="stable")
    ranks = {0: "worst", len(dice) - 1: "best"} if len(dice) > 1 else {0: "only"}
    if len(dice) > 2:
        ranks[(len(dice) - 1) // 2] = "median"
    return [(ranks[index], str(dice.index[index]), float(dice.iloc[index])) for index in sorted(ranks)]


def _pictures(table: pd.DataFrame, comparisons: Sequence[Comparison], classes: Classes | None) -> list[Picture]:
    by_key = {tuple(comparison.key): comparison for comparison in comparisons}
    return [
        _picture(by_key[(case, modality)], rank, METRICS["dice"].format(dice), classes)
        for modality in table.modality.unique()
        for rank, case, dice in ranked_cases(table, modality)
    ]


def _picture(comparison: Comparison, rank: str, dice: str, classes: Classes | None) -> Picture:
    from nnunet_liver_ext.evaluation.overlays import overlay_png

    case, modality = comparison.key
    shown = "" if modality == NO_MODALITY else modality
    try:
        data = base64.b64encode(overlay_png(comparison, classes)).decode()
    except InputError as error:  # the image, as the masks have been read before
        reason = str(error).replace(str(comparison.image), comparison.image.name if comparison.image else "")
        return Picture(rank, case, shown, dice, None, reason)
    return Picture(rank, case, shown, dice, data, has_image=comparison.image is not None)


def _summary_rows(table: pd.DataFrame) -> list[dict]:
    rows = []
    for (modality, name), group in grouped(summarise(table), ["modality", "class"]):
        cells = [_summary_cell(group[group.metric == metric].iloc[0]) for metric in SUMMARISED]
        rows.append({"label": box_plots.label(modality, name), "cases": int(group.cases.iloc[0]), "cells": cells})
    return rows


def _summary_cell(statistics: pd.Series) -> dict[str, str | int]:
    metric = METRICS[statistics["metric"]]
    cell: dict[str, str | int] = {name: metric.format(statistics[name]) for name in ("mean", "std", "median", "min", "max")}
    return {**cell, "infinite": int(statistics["infinite"])}


def _case_rows(table: pd.DataFrame) -> list[dict]:
    empty = {(row["case"], row["modality"], row["class"]): row["empty"] for row in empty_masks(table)}
    return [
        {
            "case": case,
            "label": box_plots.label(modality, name),
            "empty": empty.get((case, modality, name), ""),
            "cells": [_case_cell(rows.value[rows.metric == metric.name].iloc[0], metric) for metric in METRICS.values()],
        }
        for (case, modality, name), rows in grouped(table, OBJECT)
    ]


def _case_cell(value: float, metric: Metric) -> tuple[str, str]:
    """What is read, and what is sorted by."""
    return metric.format(value), "1e99" if math.isinf(value) else f"{value:.6g}"
