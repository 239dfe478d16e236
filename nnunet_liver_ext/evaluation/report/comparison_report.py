"""The report of a comparison: several models on the same cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_liver_ext.evaluation.absent_objects import leave_out_absent
from nnunet_liver_ext.evaluation.comparison.written_tables import (
    COMPARISON,
    RANKING,
    RUNS,
    WORDS,
    caption,
    rank_cells,
    text_table,
)
from nnunet_liver_ext.evaluation.files.find_label_maps import NO_MODALITY
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.report.html_page import write_page
from nnunet_liver_ext.evaluation.report.plots.box_plots import box_plots
from nnunet_liver_ext.evaluation.report.plots.evaluation_plots import BOX_NOTE, choose_colours
from nnunet_liver_ext.evaluation.report.plots.forest_plots import forest_plots
from nnunet_liver_ext.evaluation.report.sections.comparison_methods import describe_comparison
from nnunet_liver_ext.evaluation.report.sections.comparison_tables import (
    make_comparison_table,
    summarise_verdicts,
)
from nnunet_liver_ext.evaluation.results.flags import ORGAN
from nnunet_liver_ext.evaluation.statistics.comparable_metrics import compared_values
from nnunet_liver_ext.evaluation.statistics.sentences import comparison_sentence
from nnunet_liver_ext.evaluation.tidy_table import group_rows

NOTHING = pd.DataFrame()


def write_comparison_report(
    tables: Mapping[str, pd.DataFrame],
    comparison: pd.DataFrame,
    path: Path,
    *,
    ranking: pd.DataFrame = NOTHING,
    runs: pd.DataFrame = NOTHING,
    notes: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Writes the report beside `path`, then renames it.

    Args:
        tables: results of each model by its name, as `results_table.results_table` makes them;
            `patient` may be missing.
        comparison: as `statistics.compare_paired`, with or without `optimistic_a` and
            `optimistic_b`.
        path: of the HTML file.
        ranking: as `statistics.stability.ranking_stability` for some metrics, or nothing.
        runs: as `statistics.stability.run_to_run`, or nothing.
        notes: what else the reader should know.
        settings: of the comparison; "resamples" and "seed" are named among the methods, and
            "empty" (by default "exclude") says which values count.
    """
    empty = (settings or {}).get("empty", "exclude")
    table = _put_organ_first(
        pd.concat([table.assign(model=model) for model, table in tables.items()], ignore_index=True)
    )
    comparison = _put_organ_first(comparison)
    metrics = list(dict.fromkeys(comparison["metric"]))
    values = compared_values(table, [METRICS[name] for name in metrics], empty=empty)
    compared = list(dict.fromkeys(zip(comparison["model_a"], comparison["model_b"], strict=True)))
    cases = sorted(map(str, values["case"].unique()))
    anchors = {case: f"case-{number}" for number, case in enumerate(cases, start=1)}
    write_page(
        "comparison.html.j2",
        path,
        models=list(tables),
        number_of_cases=len(cases),
        modalities=[name for name in values["modality"].unique() if name != NO_MODALITY],
        sentences=[
            (
                heading,
                [(row["verdict"], comparison_sentence(row)) for row in rows.to_dict("records")],
            )
            for heading, rows in _split_by_models(comparison)
        ],
        glance=summarise_verdicts(comparison, values, list(tables)),
        forests=forest_plots(comparison),
        forest_note=_forest_note(comparison),
        comparison=_text_table(comparison, COMPARISON),
        comparison_caption=caption(comparison),
        ranking=_ranks(ranking, list(tables)),
        runs=_text_table(runs, RUNS),
        plots=box_plots(leave_out_absent(table, empty), metrics, choose_colours(list(tables))),
        models_legend=list(zip(choose_colours(list(tables)).values(), tables, strict=True)),
        box_note=BOX_NOTE,
        case_table=make_comparison_table(values, metrics, list(tables), compared, anchors),
        methods=describe_comparison(
            tables, comparison, settings or {}, with_ranking=len(ranking) > 0
        ),
        notes=notes,
        anchors=anchors,
    )


def _split_by_models(comparison: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [
        (f"{b} compared with {a}", rows)
        for (a, b), rows in group_rows(comparison, ["model_a", "model_b"])
    ]


def _ranks(
    ranking: pd.DataFrame, models: Sequence[str]
) -> tuple[list[str], list[list[str]], int] | None:
    """The rank of each model, and how often it comes first when other patients are drawn."""
    if ranking.empty:
        return None
    text = text_table(ranking, RANKING)
    text["Cell"] = rank_cells(text).str.replace("%", " %")
    rows = []
    for (measure, name), ranked in group_rows(text, ["Measure", "Object"]):
        ranks = dict(zip(ranked["Model"], ranked["Cell"], strict=True))
        rows.append(
            [
                measure,
                name,
                ranked["Cases"].iloc[0],
                ranked["Left out"].iloc[0].partition(" ")[0],
                *(ranks.get(model, "–") for model in models),
                ranked["Kendall's tau"].iloc[0],
            ]
        )
    return ["Measure", "Object", "Cases", "Left out", *models, "Kendall's τ"], rows, 2


def _text_table(table: pd.DataFrame, cells: Any) -> tuple[list[str], list[list[str]], int] | None:
    """Headings, rows, and how many columns are words; None for an empty table."""
    if table.empty:
        return None
    text = text_table(table, cells)
    words = [name for name in text.columns if name in WORDS and name != "Verdict"]
    return list(text.columns), text.to_numpy().tolist(), len(words)


def _forest_note(comparison: pd.DataFrame) -> str:
    return (
        "Points: mean difference over the cases, first minus second model; bars:"
        f" {comparison['confidence'].iloc[0]:.0%} confidence interval, patients resampled; hollow"
        " points have too few patients for one. Grey band: below the smallest difference of"
        " interest. Colour: significantly better or worse, after Benjamini-Hochberg within the"
        " kind of measure."
    ).replace("%", " %")


def _put_organ_first(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the liver before all others, otherwise in their order."""
    return rows.iloc[np.argsort(rows["class"].str.lower() != ORGAN, kind="stable")].reset_index(
        drop=True
    )
