"""Box and strip plots: a box for each group, every case a point.

Box from the first to the third quartile with the median; whiskers to the farthest value within 1.5
box lengths. Infinite values stand above the frame and are in no quartile; values that do not exist
are not drawn. Where a few far values would squeeze all boxes into lines, the axis leaves them out:
they stand at the frame's edge, and the caption says them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunet_liver_ext.evaluation.metric_entry import Metric
from nnunet_liver_ext.evaluation.report.plots.shapes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Area,
    Line,
    Mark,
    Plot,
    Point,
    Scale,
    Shape,
    Text,
    rows,
    scale,
    shortened,
)

BOX_WIDTH, BOX_DISTANCE, LINE = 34.0, 74.0, 13.0
WHISKER = 1.5
# times the range of all whiskers: values that make the axis longer than this are left out of it
FAR = 3.0
MOST_NAMED = 6


@dataclass(frozen=True)
class Group:
    """What one box shows; `lines` are written under it."""

    lines: tuple[str, ...]
    rows: pd.DataFrame
    """With the columns case and value."""
    css: str = "s0"


def box_plot(metric: Metric, groups: Sequence[Group], title: str) -> Plot:
    """One metric, a box for each group."""
    line = metric.reference_line
    low, high = metric.bounds if metric.whole_axis else _axis_range(groups)
    best = metric.bounds[1] if metric.higher_is_better else math.inf
    y = scale(
        [low, high] + ([] if line is None else [line]),
        HEIGHT - BOTTOM,
        TOP,
        highest=best if math.isfinite(best) else None,
    )
    distance = max(BOX_DISTANCE, (WIDTH - LEFT - RIGHT) / len(groups))
    width = LEFT + distance * len(groups) + RIGHT
    shapes: list[Shape] = rows(y, LEFT, width - RIGHT)
    points: list[Point] = []
    for index, group in enumerate(groups):
        x = LEFT + distance * (index + 0.5)
        shapes += _box(group, x, y)
        shapes += _names(group, x, int(distance / 5.6))
        points += _points(group, x, metric, y)
    if line is not None:
        at = y.at(line)
        shapes.append(Line(LEFT, at, width - RIGHT, at, "reference"))
    height = HEIGHT - BOTTOM + 22 + LINE * max(len(group.lines) for group in groups)
    caption = " ".join(part for part in (metric.reference_note, _beyond(metric, groups, y)) if part)
    return Plot(
        title, _description(metric, groups), shapes, points, caption, width=width, height=height
    )


def five_numbers(values: np.ndarray) -> tuple[float, float, float, float, float]:
    """Lower whisker, first quartile, median, third quartile, upper whisker of finite values
    (N,)."""
    first, median, third = (float(value) for value in np.percentile(values, [25, 50, 75]))
    reach = WHISKER * (third - first)
    within = values[(values >= first - reach) & (values <= third + reach)]
    return min(float(within.min()), first), first, median, third, max(float(within.max()), third)


def _finite(group: Group) -> np.ndarray:
    values = group.rows["value"].to_numpy(float)
    return values[np.isfinite(values)]


def _axis_range(groups: Sequence[Group]) -> tuple[float, float]:
    """Lowest and highest value that the axis must show."""
    values = [own for group in groups if len(own := _finite(group))]
    if not values:
        return 0.0, 1.0
    fives = np.array([five_numbers(own) for own in values])
    low, high = float(fives[:, 0].min()), float(fives[:, 4].max())
    lowest, highest = (
        float(min(own.min() for own in values)),
        float(max(own.max() for own in values)),
    )
    if high <= low or highest - lowest <= FAR * (high - low):
        return lowest, highest
    return max(lowest, low - (high - low) / 2), min(highest, high + (high - low) / 2)


def _beyond(metric: Metric, groups: Sequence[Group], y: Scale) -> str:
    """Which finite values the axis leaves out."""
    left_out = [
        (float(value), f"{' '.join(group.lines)} {case} {metric.format(value)}")
        for group in groups
        for case, value in zip(group.rows["case"], group.rows["value"], strict=True)
        if np.isfinite(value) and not y.holds(value)
    ]
    if not left_out:
        return ""
    named = [text for _, text in sorted(left_out)[:MOST_NAMED]]
    more = f" and {len(left_out) - len(named)} more" if len(left_out) > len(named) else ""
    return f"Beyond the axis: {', '.join(named)}{more}."


def _box(group: Group, x: float, y: Scale) -> list[Shape]:
    finite = _finite(group)
    if not len(finite):
        return []
    low, first, median, third, high = (y.at(value) for value in five_numbers(finite))
    left, right = x - BOX_WIDTH / 2, x + BOX_WIDTH / 2
    return [
        Line(x, low, x, first, f"whisker {group.css}"),
        Line(x, third, x, high, f"whisker {group.css}"),
        Area(left, third, BOX_WIDTH, max(first - third, 0.5), f"box {group.css}"),
        Line(left, median, right, median, f"median {group.css}"),
    ]


def _names(group: Group, x: float, letters: int) -> list[Shape]:
    below = HEIGHT - BOTTOM + 22
    return [
        Text(
            x,
            below + LINE * number,
            shortened(name, letters),
            "name",
            full=name if len(name) > letters else "",
        )
        for number, name in enumerate(group.lines)
    ]


def _points(group: Group, x: float, metric: Metric, y: Scale) -> list[Point]:
    own = group.rows[group.rows["value"].notna()]
    spread = np.random.default_rng(0).uniform(-0.35, 0.35, len(own)) * BOX_WIDTH
    return [
        Point(
            round(x + dx, 1),
            y.at(value)
            if y.holds(value)
            else TOP - 10
            if value > y.ticks[-1]
            else HEIGHT - BOTTOM + 6,
            f"{case}: {metric.format(value)}",
            str(case),
            group.css,
            _mark(value, y),
        )
        for case, value, dx in zip(own["case"], own["value"], spread, strict=True)
    ]


def _mark(value: float, y: Scale) -> Mark:
    if y.holds(value):
        return "dot"
    return "infinite" if np.isinf(value) else "above" if value > y.ticks[-1] else "below"


def _description(metric: Metric, groups: Sequence[Group]) -> str:
    return (
        f"Box plot of {metric.heading}: "
        + "; ".join(_numbers(metric, group) for group in groups)
        + "."
    )


def _numbers(metric: Metric, group: Group) -> str:
    values = group.rows["value"].to_numpy(float)
    finite, infinite = values[np.isfinite(values)], int(np.isinf(values).sum())
    name = " ".join(group.lines)
    some = f"{len(finite)} cases" if len(finite) != 1 else "1 case"
    if len(finite):
        low, median, high = (
            metric.format(float(value)) for value in np.percentile(finite, [0, 50, 100])
        )
        some += f", median {median}, from {low} to {high}"
    return f"{name} {some}" + (f", {infinite} infinite" if infinite else "")
