"""Forest plots of a comparison: the mean difference of each row with its confidence interval."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.evaluation.comparison.written_tables import (
    FOOTNOTE,
    has_optimistic,
    interval_text,
    model_name,
    model_names,
)
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.report.plots.drawing import (
    COLOURS,
    FAINT,
    INK,
    Mark,
    Plot,
    Symbol,
    add_points,
    drawing_style,
    new_figure,
    round_ticks,
    set_ticks,
)
from nnunet_liver_ext.evaluation.statistics.sentences import ComparisonRow

WIDTH, ROW, AROUND, TITLE, LEGEND = 980.0, 26.0, 56.0, 24.0, 60.0  # pixels
MOST_LETTERS = 56  # of a label in one line
VERDICT_COLOURS = {"better": "c0", "worse": "bad"}
"""All other verdicts are grey."""
PANEL = ["family", "unit", "higher_is_better"]


def forest_rows(comparison: pd.DataFrame) -> pd.DataFrame:
    """What a forest plot shows, a row for each comparison that has a difference.

    Returns:
        label; difference, low, high (nan without an interval) and smallest_difference in `unit`;
        family, unit and higher_is_better, which make a panel; verdict; text, the numbers as text.
    """
    numbers = ["difference", "low", "high", "smallest_difference"]
    return pd.DataFrame(
        [
            {
                "label": (
                    f"{METRICS[row['metric']].compared_title},"
                    f" {label(row['modality'], row['class'])}{_models(row, comparison)}"
                ),
                "difference": row["mean_difference"],
                "text": interval_text(row),
                **{name: row[name] for name in (*numbers[1:], *PANEL, "verdict")},
            }
            for row in comparison.to_dict("records")
            if row["cases"]
        ],
        columns=["label", *numbers, "text", *PANEL, "verdict"],
    )


def forest_plots(comparison: pd.DataFrame) -> list[Plot]:
    """A plot for each family, unit and direction; 0 is in the middle of each."""
    rows = forest_rows(comparison)
    return [_plot(panel, comparison) for _, panel in rows.groupby(PANEL, sort=False)]


@drawing_style()
def write_forest_picture(comparison: pd.DataFrame, path: Path) -> None:
    """All panels of `forest_plots` as one PNG file, with what the colours mean below them."""
    panels = [panel for _, panel in forest_rows(comparison).groupby(PANEL, sort=False)]
    heights = [AROUND + TITLE + ROW * len(panel) for panel in panels]
    figure = Figure(figsize=(WIDTH / 72, (LEGEND + sum(heights)) / 72))
    title = "Differences of the models" if panels else "No case can be compared"
    figure.suptitle(title, color=INK, fontsize=13)
    if panels:
        all_axes = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
        for axes, panel in zip(all_axes, panels, strict=True):
            _draw_panel(axes, panel, comparison)
            axes.set_title(_panel_title(panel), color=INK, fontweight="bold")
        figure.supxlabel(_legend(comparison), fontsize=9, color=FAINT)
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, dpi=110)


@drawing_style()
def _plot(panel: pd.DataFrame, comparison: pd.DataFrame) -> Plot:
    figure, axes = new_figure(WIDTH, AROUND + ROW * len(panel))
    marks = _draw_panel(axes, panel, comparison)
    title = _panel_title(panel)
    text = "; ".join(
        f"{row['label']} {row['text']} {row['verdict']}" for row in panel.to_dict("records")
    )
    description = f"Forest plot, {title}, mean difference with its interval: {text}."
    return Plot(title, description, figure, marks)


def _draw_panel(axes: Axes, panel: pd.DataFrame, comparison: pd.DataFrame) -> dict[str, list[Mark]]:
    numbers = panel[["difference", "low", "high", "smallest_difference"]].abs().to_numpy(float)
    farthest = float(np.nanmax(numbers)) or 1.0
    set_ticks(axes, x=round_ticks([-farthest, farthest]))
    axes.set_ylim(len(panel) - 0.5, -0.5)
    labels = [textwrap.fill(text, MOST_LETTERS) for text in panel["label"]]
    axes.set_yticks(range(len(panel)), labels, color=INK)
    axes.grid(visible=False, axis="y")
    smallest = float(panel["smallest_difference"].max())
    if smallest > 0:
        axes.axvspan(-smallest, smallest, color=FAINT, alpha=0.12, linewidth=0, gid="band")
    axes.axvline(0, color=FAINT, alpha=0.7, linewidth=1, gid="zero")
    axes.set_xlabel(_axis_title(panel, comparison))
    rows = panel.to_dict("records")
    return add_points(axes, [_draw_row(axes, row, place) for place, row in enumerate(rows)])


def _draw_row(axes: Axes, row: Mapping[Any, Any], place: int) -> Mark:
    colour = VERDICT_COLOURS.get(row["verdict"], "faint")
    axes.annotate(
        row["text"],
        (1.03, place),
        xycoords=axes.get_yaxis_transform(),
        verticalalignment="center",
        color=COLOURS[colour] if colour != "faint" else INK,
        fontweight="bold" if colour != "faint" else "normal",
    )
    without_interval = math.isnan(row["low"])
    if not without_interval:
        ends = (row["low"], row["high"])
        look: dict[str, Any] = {"linewidth": 2.6, "solid_capstyle": "butt", "gid": "interval"}
        axes.plot(ends, (place, place), color=COLOURS[colour], **look)
    text = f"{row['label']}: {row['text']} ({row['verdict']})"
    symbol: Symbol = "hollow" if without_interval else "large"
    return Mark(text, "", row["difference"], place, colour, symbol)


def _axis_title(panel: pd.DataFrame, comparison: pd.DataFrame) -> str:
    """What the difference is, and on which side of 0 which model is better."""
    difference, gaining = _difference_names(comparison)
    side = "{} is better →" if panel["higher_is_better"].iloc[0] else "← {} is better"
    return f"{difference}{_unit(panel)}, mean over the cases; {side.format(gaining)}"


def _panel_title(panel: pd.DataFrame) -> str:
    return f"{str(panel['family'].iloc[0]).capitalize()}{_unit(panel)}"


def _unit(panel: pd.DataFrame) -> str:
    unit = panel["unit"].iloc[0]
    return "" if unit == "1" else f" [{unit}]"


def _models(row: ComparisonRow, comparison: pd.DataFrame) -> str:
    """What of the models' names the axis does not say."""
    if len(comparison[["model_a", "model_b"]].drop_duplicates()) == 1:
        return ""
    return f": {model_name(row, 'b') if comparison['model_a'].nunique() == 1 else model_names(row)}"


def _difference_names(comparison: pd.DataFrame) -> tuple[str, str]:
    """What a difference is, and which of the two models a gain is of."""
    compared = comparison[["model_a", "model_b"]].drop_duplicates()
    first, second = map(str, compared.iloc[0])
    if len(compared) == 1:
        return f"{second} − {first}", second
    if compared["model_a"].nunique() == 1:
        return f"model − {first}", "the model"
    return "first − second model", "the first"


def _legend(comparison: pd.DataFrame) -> str:
    text = (
        f"Bars: {comparison['confidence'].iloc[0]:.0%} confidence interval, patients resampled;"
        " none (hollow) with too few patients. Grey band: below the smallest difference of"
        " interest.\nBlue: significantly better, red: significantly worse, after"
        " Benjamini-Hochberg within the kind of measure."
    )
    return f"{text} {FOOTNOTE}" if has_optimistic(comparison) else text
