"""A forest plot of a comparison: the mean difference of each row with its confidence interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.evaluation.class_labels import label
from nnunet_liver_ext.evaluation.comparison.written_tables import (
    FOOTNOTE,
    has_optimistic,
    interval_of,
    model_of,
    models_of,
)
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.statistics.sentences import Row

COLOURS = {"better": "#0072B2", "worse": "#D55E00"}  # told apart with every kind of colour vision
OTHER = "#555555"
BAND = "#e4e4e4"
ROW_INCHES, AROUND_INCHES, TITLE_INCHES, WIDTH_INCHES = 0.28, 0.62, 0.8, 9.5
PANEL = ["family", "unit", "higher_is_better"]


def forest_rows(comparison: pd.DataFrame) -> pd.DataFrame:
    """What a forest plot shows, a row for each comparison that has a difference.

    Returns:
        label; difference, low, high (nan without an interval) and smallest_difference in `unit`;
        family, unit and higher_is_better, which make a panel; verdict; text, the numbers as text.
    """
    return pd.DataFrame(
        [
            {
                "label": (
                    f"{METRICS[row['metric']].compared_title},"
                    f" {label(row['modality'], row['class'])}{_models(row, comparison)}"
                ),
                "difference": row["mean_difference"],
                "low": row["low"],
                "high": row["high"],
                "smallest_difference": row["smallest_difference"],
                "text": interval_of(row),
                **{name: row[name] for name in (*PANEL, "verdict")},
            }
            for row in comparison.to_dict("records")
            if row["cases"]
        ],
        columns=[
            "label",
            "difference",
            "low",
            "high",
            "smallest_difference",
            "text",
            *PANEL,
            "verdict",
        ],
    )


def draw_forest(comparison: pd.DataFrame, path: Path) -> None:
    """A panel for each family and unit. Grey: below the smallest difference of interest; blue and
    orange: significant."""
    from matplotlib import style

    with style.context("default"):  # nnU-Net sets seaborn's large fonts
        _draw(comparison, forest_rows(comparison), path)


def _draw(comparison: pd.DataFrame, rows: pd.DataFrame, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [own for _, own in rows.groupby(PANEL, sort=False)]
    lines = [len(own) for own in panels]
    height = TITLE_INCHES + AROUND_INCHES * len(panels) + ROW_INCHES * sum(lines)
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_title(comparison) if panels else "No case can be compared", fontsize="medium")
    if panels:
        all_axes = figure.subplots(len(panels), squeeze=False, height_ratios=lines)[:, 0]
        for axes, own in zip(all_axes, panels, strict=True):
            _draw_panel(axes, own)
        figure.supxlabel(_legend(comparison), fontsize="x-small", color=OTHER)
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, dpi=110)


def _draw_panel(axes: Any, rows: pd.DataFrame) -> None:
    for height, row in enumerate(rows.to_dict("records")):
        colour, smallest = COLOURS.get(row["verdict"], OTHER), row["smallest_difference"]
        axes.fill_betweenx(
            [height - 0.5, height + 0.5], -smallest, smallest, color=BAND, linewidth=0, zorder=0
        )
        axes.plot(
            [row["low"], row["high"]],
            [height, height],
            color=colour,
            linewidth=2,
            solid_capstyle="butt",
        )
        inside = "white" if np.isnan(row["low"]) else colour
        axes.plot(
            row["difference"], height, "o", color=colour, markerfacecolor=inside, markersize=5
        )
        axes.annotate(
            row["text"],
            (1.02, height),
            xycoords=axes.get_yaxis_transform(),
            va="center",
            fontsize="small",
        )
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    axes.set_yticks(range(len(rows)), rows["label"], fontsize="small")
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=_limits(rows))
    axes.locator_params(axis="x", nbins=6)
    axes.tick_params(axis="x", labelsize="small")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(
        _panel_title(rows.iloc[0].to_dict()), loc="left", fontsize="small", fontweight="bold"
    )


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """With 0 in the middle, so that the sides can be compared."""
    values = rows[["difference", "low", "high", "smallest_difference"]].abs().to_numpy(float)
    farthest = float(np.nanmax(values)) or 1.0
    return -1.08 * farthest, 1.08 * farthest


def _models(row: Row, comparison: pd.DataFrame) -> str:
    """What of the models' names the title does not say."""
    if len(comparison[["model_a", "model_b"]].drop_duplicates()) == 1:
        return ""
    return f": {model_of(row, 'b') if comparison['model_a'].nunique() == 1 else models_of(row)}"


def _title(comparison: pd.DataFrame) -> str:
    row = comparison.iloc[0].to_dict()
    if len(comparison[["model_a", "model_b"]].drop_duplicates()) == 1:
        return f"Mean difference over the cases: {models_of(row)}"
    if comparison["model_a"].nunique() == 1:
        return f"Mean difference over the cases: each model − {model_of(row, 'a')}"
    return "Mean difference over the cases: first − second model"


def _panel_title(row: Row) -> str:
    unit = "" if row["unit"] == "1" else f" [{row['unit']}]"
    side = "first is better →" if row["higher_is_better"] else "← first is better"
    return f"{str(row['family']).capitalize()}{unit}: {side}"


def _legend(comparison: pd.DataFrame) -> str:
    text = (
        f"Bars: {comparison['confidence'].iloc[0]:.0%} confidence interval, patients resampled;"
        " none (hollow) with too few patients. Grey band: below the smallest difference of"
        " interest.\nBlue: significantly better, orange: significantly worse, after"
        " Benjamini-Hochberg within the kind of measure."
    )
    return f"{text} {FOOTNOTE}" if has_optimistic(comparison) else text
