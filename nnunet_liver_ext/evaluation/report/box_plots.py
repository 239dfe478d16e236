"""Box plots as numbers to draw: the report's template turns them into SVG, in the colours of the reader's screen.

Box from the first to the third quartile with the median; whiskers to the farthest value within 1.5 box lengths; every case
is a point. Infinite values stand above the frame and are in no quartile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from nnunet_liver_ext.evaluation.label_maps import NO_MODALITY
from nnunet_liver_ext.evaluation.measures import METRICS, Metric
from nnunet_liver_ext.evaluation.tables import grouped

PLOTTED = ("dice", "surface_dice", "hd95", "asd", "hd", "volume_difference")
HEIGHT, TOP, BOTTOM, LEFT = 210.0, 22.0, 34.0, 46.0  # of the plot and its margins, in SVG units
RIGHT, BOX_WIDTH, BOX_DISTANCE, NARROWEST = 8.0, 34.0, 86.0, 320.0
WHISKER = 1.5
UPPER_BOUNDS = {"dice": 1.0, "surface_dice": 1.0}


@dataclass(frozen=True)
class Point:
    """One case: where it is drawn and what is said about it."""

    x: float
    y: float
    text: str
    finite: bool


@dataclass(frozen=True)
class Box:
    """One modality and class; positions in SVG units. The five positions are None if there is no finite value."""

    x: float
    label: str
    points: list[Point]
    five: tuple[float, float, float, float, float] | None
    """Lower whisker, first quartile, median, third quartile, upper whisker."""


@dataclass(frozen=True)
class BoxPlot:
    """One metric."""

    metric: Metric
    width: float
    ticks: list[tuple[float, str]]
    boxes: list[Box]
    description: str


def box_plots(table: pd.DataFrame) -> list[BoxPlot]:
    """One plot for each metric that the report shows, with a box for each modality and class."""
    return [_box_plot(table[table.metric == name], METRICS[name]) for name in PLOTTED]


def _box_plot(rows: pd.DataFrame, metric: Metric) -> BoxPlot:
    finite = rows.value[np.isfinite(rows.value)].to_numpy(float)
    ticks = _ticks(finite, UPPER_BOUNDS.get(metric.name))
    groups = grouped(rows, ["modality", "class"])
    distance = max(BOX_DISTANCE, (NARROWEST - LEFT - RIGHT) / len(groups))
    boxes = [
        _box(group, label(modality, name), LEFT + distance * (index + 0.5), metric, ticks)
        for index, ((modality, name), group) in enumerate(groups)
    ]
    positions = [(_position(tick, ticks), f"{tick:g}".replace("-", "−")) for tick in ticks]
    return BoxPlot(metric, LEFT + distance * len(groups) + RIGHT, positions, boxes, _description(metric, groups))


def label(modality: str, class_name: str) -> str:
    """What is written under a box: "T1 liver", "T1 label 2" for a class without a name, the class alone without modality."""
    class_name = f"label {class_name}" if class_name.isdecimal() else class_name
    return class_name if modality == NO_MODALITY else f"{modality} {class_name}"


def _box(rows: pd.DataFrame, name: str, x: float, metric: Metric, ticks: np.ndarray) -> Box:
    values = rows.value.to_numpy(float)
    spread = np.random.default_rng(0).uniform(-0.35, 0.35, len(values)) * BOX_WIDTH
    points = [
        Point(x + dx, _position(value, ticks), f"{case}: {metric.format(value)}", bool(np.isfinite(value)))
        for case, value, dx in zip(rows.case, values, spread, strict=True)
    ]
    finite = values[np.isfinite(values)]
    return Box(x, name, points, _five(finite, ticks) if len(finite) else None)


def _five(values: np.ndarray, ticks: np.ndarray) -> tuple[float, float, float, float, float]:
    first, median, third = np.percentile(values, [25, 50, 75])
    reach = WHISKER * (third - first)
    within = values[(values >= first - reach) & (values <= third + reach)]
    low, high = min(within.min(), first), max(within.max(), third)
    a, b, c, d, e = (_position(float(value), ticks) for value in (low, first, median, third, high))
    return a, b, c, d, e


def _ticks(values: np.ndarray, upper_bound: float | None) -> np.ndarray:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    high = high if upper_bound is None else upper_bound
    if high - low < 1e-6:
        low, high = low - 0.05 * max(1.0, abs(low)), high if upper_bound is not None else high + 0.05 * max(1.0, abs(high))
    return np.asarray(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))


def _position(value: float, ticks: np.ndarray) -> float:
    if not np.isfinite(value):
        return TOP - 10 if value > 0 else HEIGHT - BOTTOM + 10
    share = (value - ticks[0]) / (ticks[-1] - ticks[0])
    return round(HEIGHT - BOTTOM - float(share) * (HEIGHT - BOTTOM - TOP), 2)


def _description(metric: Metric, groups: list[tuple[tuple[str, ...], pd.DataFrame]]) -> str:
    medians = (f"{label(*key)} median {metric.format(float(rows.value.median()))}" for key, rows in groups)
    return f"{metric.title}: " + ", ".join(medians)
