"""Box and strip plots: a box for each modality (and model), every case a point.

Box from the first to the third quartile with the median; whiskers to the farthest value within 1.5
box lengths. Infinite values stand above the frame and are in no quartile; values that do not exist
are not drawn. Where a few far values would squeeze all boxes into lines, the axis leaves them out:
they stand at the frame's edge, and the caption says them.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats

from nnunet_liver_ext.evaluation.files.find_label_maps import NO_MODALITY
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.metric_entry import Metric
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.report.plots.drawing import (
    COLOURS,
    DASHED,
    FAINT,
    HEIGHT,
    INK,
    WIDTH,
    Mark,
    Plot,
    Symbol,
    add_points,
    drawing_style,
    new_figure,
    round_ticks,
    set_ticks,
)
from nnunet_liver_ext.evaluation.tidy_table import group_rows

BOX_WIDTH, BOX_DISTANCE, AROUND, LINE = 34.0, 74.0, 66.0, 13.0  # pixels
LETTER = 5.6  # pixels, about
# times the range of all whiskers: values that make the axis longer than this are left out of it
FAR = 3.0
MOST_NAMED = 6


@dataclass(frozen=True)
class BoxGroup:
    """What one box shows; `lines` are written under it."""

    lines: tuple[str, ...]
    rows: pd.DataFrame
    """With the columns case and value."""
    colour: str = "c0"

    @property
    def finite(self) -> np.ndarray:
        """The finite values (N,)."""
        values = self.rows["value"].to_numpy(float)
        return values[np.isfinite(values)]

    @property
    def box(self) -> dict[str, Any]:
        """q1, med and q3, and the whiskers' ends whislo and whishi; empty without finite values."""
        return boxplot_stats(self.finite)[0] if len(self.finite) else {}


def box_plots(
    table: pd.DataFrame, metrics: Sequence[str], colours: Mapping[str, str]
) -> list[Plot]:
    """A plot for each class and metric that the table has, with a box for each modality.

    Args:
        table: results; with the column `model` each box is of one model, too.
        metrics: names.
        colours: by modality, or by model.
    """
    several = table["class"].nunique() > 1
    plots = []
    for class_name in table["class"].unique():
        for metric in (METRICS[name] for name in metrics):
            rows = table[(table["metric"] == metric.name) & (table["class"] == class_name)]
            rows = rows[rows["value"].notna()]
            if len(rows):
                title = metric.heading + f", {label(NO_MODALITY, class_name)}" * several
                plots.append(box_plot(metric, list(_groups(rows, colours)), title))
    return plots


@drawing_style()
def box_plot(metric: Metric, groups: Sequence[BoxGroup], title: str) -> Plot:
    """One metric, a box for each group."""
    reference = metric.reference_line
    shown = metric.bounds if metric.whole_axis else _axis_range(groups)
    best = metric.bounds[1] if metric.higher_is_better else math.inf
    ticks = round_ticks(
        shown if reference is None else (*shown, reference),
        highest=best if math.isfinite(best) else None,
    )
    distance = max(BOX_DISTANCE, (WIDTH - AROUND) / len(groups))
    names = ["\n".join(_wrap(group.lines, int(distance / LETTER))) for group in groups]
    more_lines = max(name.count("\n") for name in names)
    figure, axes = new_figure(AROUND + distance * len(groups), HEIGHT - 8 + LINE * more_lines)
    set_ticks(axes, y=ticks)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_xticks(range(len(groups)), names, color=INK)
    axes.tick_params(axis="x", pad=10)  # below what is beyond the axis
    axes.set_title(" ")  # room for what is above it
    axes.grid(visible=False, axis="x")
    for place, group in enumerate(groups):
        _draw_box(axes, group, place, BOX_WIDTH / distance)
    if reference is not None:
        axes.axhline(reference, color=FAINT, linestyle=DASHED, linewidth=1, gid="reference")
    marks = [
        mark
        for place, group in enumerate(groups)
        for mark in _points(group, place, BOX_WIDTH / distance, metric, ticks)
    ]
    caption = " ".join(
        filter(None, (metric.reference_note, _list_values_beyond(metric, groups, ticks)))
    )
    points = add_points(axes, marks)
    return Plot(title, _description(metric, groups), figure, points, caption)


def _groups(rows: pd.DataFrame, colours: Mapping[str, str]) -> Iterator[BoxGroup]:
    for (modality, name), of_object in group_rows(rows, ["modality", "class"]):
        if "model" not in of_object:
            yield BoxGroup((label(modality, name),), of_object, colours.get(modality, "c0"))
            continue
        for model in of_object["model"].unique():
            of_model = of_object[of_object["model"] == model]
            yield BoxGroup((label(modality, name), model), of_model, colours.get(model, "c0"))


def _wrap(lines: Sequence[str], letters: int) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, letters)]


def _axis_range(groups: Sequence[BoxGroup]) -> tuple[float, ...]:
    """Lowest and highest value that the axis must show."""
    boxes = [group.box for group in groups if group.box]
    if not boxes:
        return 0.0, 1.0
    low, high = min(box["whislo"] for box in boxes), max(box["whishi"] for box in boxes)
    values = np.concatenate([group.finite for group in groups])
    lowest, highest = float(values.min()), float(values.max())
    if high <= low or highest - lowest <= FAR * (high - low):
        return lowest, highest
    return max(lowest, low - (high - low) / 2), min(highest, high + (high - low) / 2)


def _list_values_beyond(metric: Metric, groups: Sequence[BoxGroup], ticks: Sequence[float]) -> str:
    """Which finite values the axis leaves out."""
    left_out = [
        (float(value), f"{' '.join(group.lines)} {case} {metric.format(value)}")
        for group in groups
        for case, value in zip(group.rows["case"], group.rows["value"], strict=True)
        if np.isfinite(value) and _symbol(value, ticks) != "dot"
    ]
    if not left_out:
        return ""
    named = [text for _, text in sorted(left_out)[:MOST_NAMED]]
    more = f" and {len(left_out) - len(named)} more" if len(left_out) > len(named) else ""
    return f"Beyond the axis: {', '.join(named)}{more}."


def _draw_box(axes: Axes, group: BoxGroup, place: int, width: float) -> None:
    if not group.box:
        return
    colour = COLOURS[group.colour]
    drawn = axes.bxp(
        [group.box],
        positions=[place],
        widths=width,
        patch_artist=True,
        showfliers=False,
        showcaps=False,
        manage_ticks=False,
        boxprops={"facecolor": (colour, 0.13), "edgecolor": colour, "linewidth": 1.3},
        whiskerprops={"color": colour, "linewidth": 1.3},
        medianprops={"color": colour, "linewidth": 2.4, "solid_capstyle": "butt"},
    )
    for gid, kind in (("box", "boxes"), ("whisker", "whiskers"), ("median", "medians")):
        for artist in drawn[kind]:
            artist.set_gid(f"{gid} {group.colour}")


def _points(
    group: BoxGroup, place: int, width: float, metric: Metric, ticks: Sequence[float]
) -> Iterator[Mark]:
    rows = group.rows[group.rows["value"].notna()]
    spread = np.random.default_rng(0).uniform(-0.35, 0.35, len(rows)) * width
    for case, value, dx in zip(rows["case"], rows["value"], spread, strict=True):
        symbol = _symbol(value, ticks)
        colour = "bad" if symbol == "infinite" else group.colour
        text = f"{case}: {metric.format(value)}"
        yield Mark(text, str(case), place + dx, value, colour, symbol)


def _symbol(value: float, ticks: Sequence[float]) -> Symbol:
    slack = 1e-9 * (ticks[-1] - ticks[0])
    if np.isinf(value):
        return "infinite"
    if value > ticks[-1] + slack:
        return "above"
    return "below" if value < ticks[0] - slack else "dot"


def _description(metric: Metric, groups: Sequence[BoxGroup]) -> str:
    numbers = "; ".join(_numbers(metric, group) for group in groups)
    return f"Box plot of {metric.heading}: {numbers}."


def _numbers(metric: Metric, group: BoxGroup) -> str:
    infinite = int(np.isinf(group.rows["value"]).sum())
    text = f"{' '.join(group.lines)} {len(group.finite)} case{'s' * (len(group.finite) != 1)}"
    if len(group.finite):
        low, median, high = map(metric.format, np.percentile(group.finite, [0, 50, 100]))
        text += f", median {median}, from {low} to {high}"
    return text + (f", {infinite} infinite" if infinite else "")
