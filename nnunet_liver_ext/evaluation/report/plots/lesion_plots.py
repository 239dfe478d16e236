"""Which lesions were found: counts by size, and every single one at its diameter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nnunet_liver_ext.evaluation.report.plots.drawing import (
    COLOURS,
    HEIGHT,
    INK,
    Mark,
    Plot,
    add_points,
    drawing_style,
    new_figure,
    round_ticks,
    set_ticks,
)
from nnunet_liver_ext.evaluation.results.agreement_and_detection import SIZES_MM

BAR_WIDTH, BAR_GAP = 0.3, 0.02  # in distances between two classes of size
OUTCOMES = {
    "hit": ("found", "good"),
    "poor": ("poor overlap", "c1"),
    "missed": ("missed", "bad"),
    "false": ("false", "c1"),
}
"""What each `found` in the table of lesions is called, and its colour."""


@dataclass(frozen=True)
class SizeClass:
    """Detection among lesions of one size, in lesions or correspondences."""

    name: str
    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def lesions(self) -> int:
        """How many there are to be found."""
        return self.true_positives + self.false_negatives


def count_by_size(lesions: pd.DataFrame) -> list[SizeClass]:
    """Counts by the diameter of the sphere of the same volume, in the classes of `SIZES_MM`.

    Found and missed lesions are in the class of their reference, false ones in that of their
    prediction; a lesion with too poor an overlap counts as missed and as false, as in
    `lesion_scores.scores_by_size`.

    Args:
        lesions: rows of `one_class.lesion_rows`: found, reference_mm, prediction_mm.
    """
    outcome, reference_mm = lesions["found"], lesions["reference_mm"]
    counts = [
        _count_in_classes(reference_mm[outcome == "hit"]),
        _count_in_classes(lesions["prediction_mm"][outcome.isin(["poor", "false"])]),
        _count_in_classes(reference_mm[outcome.isin(["poor", "missed"])]),
    ]
    bounds_mm = zip((0, *SIZES_MM), (*SIZES_MM, math.inf), strict=True)
    return [
        SizeClass(_size_name(*bounds), *of_class)
        for bounds, *of_class in zip(bounds_mm, *counts, strict=True)
    ]


@drawing_style()
def size_plot(lesions: pd.DataFrame, title: str) -> Plot:
    """For each class of size a bar of found and missed lesions, and one of false ones."""
    classes = count_by_size(lesions)
    highest = max(1, *(max(size.lesions, size.false_positives) for size in classes))
    figure, axes = new_figure()
    set_ticks(axes, y=round_ticks([0, highest]))
    axes.set_xlim(-0.5, len(classes) - 0.5)
    axes.set_xticks(range(len(classes)), [size.name for size in classes], color=INK)
    axes.grid(visible=False, axis="x")
    bars: dict[str, list[Mark]] = {}
    for place, size in enumerate(classes):
        bars |= _draw_bars(axes, size, place)
    text = "; ".join(_describe_size(size) for size in classes)
    raters = lesions["rater"].nunique() if "rater" in lesions else 1
    caption = "Diameter of the sphere of the same volume."
    caption += f" Counts are sums over {raters} raters." if raters > 1 else ""
    legend = (("good", "found"), ("bad", "missed"), ("c1", "false"))
    description = f"Bar plot of the lesions, {title}: {text}."
    return Plot(f"Detection by size, {title}", description, figure, bars, caption, legend)


@drawing_style()
def lesion_strip(lesions: pd.DataFrame, title: str) -> Plot:
    """Every lesion as a point at its diameter, in a row for what became of it."""
    diameter_mm = lesions["reference_mm"].where(
        lesions["found"] != "false", lesions["prediction_mm"]
    )
    figure, axes = new_figure(height=HEIGHT - 20)
    set_ticks(axes, x=round_ticks([0, *diameter_mm], lowest=0))
    axes.set_ylim(len(OUTCOMES) - 0.5, -0.5)
    axes.set_yticks(range(len(OUTCOMES)), [name for name, _ in OUTCOMES.values()], color=INK)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("diameter [mm]")
    marks, counts = [], []
    for place, (outcome, (name, colour)) in enumerate(OUTCOMES.items()):
        rows = lesions.assign(diameter_mm=diameter_mm)[lesions["found"] == outcome]
        rows = rows[rows["diameter_mm"].notna()]
        marks += _strip(rows, name, colour, place)
        counts.append(f"{name} {len(rows)}")
    description = f"Strip plot of the lesions' diameters, {title}: {', '.join(counts)}."
    return Plot(f"Every lesion, {title}", description, figure, add_points(axes, marks))


def _strip(rows: pd.DataFrame, name: str, colour: str, place: int) -> list[Mark]:
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(rows))
    marks = []
    for row, dy in zip(rows.to_dict("records"), spread, strict=True):
        text = f"{row['case']} {row['modality']}: {name}, {row['diameter_mm']:.1f} mm"
        text += f", Dice {row['dice']:.2f}" if row["dice"] else ""
        marks.append(Mark(text, str(row["case"]), row["diameter_mm"], place + dy, colour))
    return marks


def _count_in_classes(diameters_mm: pd.Series) -> list[int]:
    classes = np.digitize(diameters_mm.dropna().to_numpy(float), SIZES_MM)
    return np.bincount(classes, minlength=len(SIZES_MM) + 1).tolist()


def _size_name(low_mm: float, high_mm: float) -> str:
    if low_mm == 0:
        return f"< {high_mm:g} mm"
    return f"≥ {low_mm:g} mm" if math.isinf(high_mm) else f"{low_mm:g}–{high_mm:g} mm"


def _draw_bars(axes: Axes, size: SizeClass, place: int) -> dict[str, list[Mark]]:
    """Draws the bars of one class of size; gives their numbers as `Plot.marks`."""
    left, right = place - (BAR_WIDTH + BAR_GAP) / 2, place + (BAR_WIDTH + BAR_GAP) / 2
    bars = (
        ("found", "good", left, 0, size.true_positives),
        ("missed", "bad", left, size.true_positives, size.false_negatives),
        ("false", "c1", right, 0, size.false_positives),
    )
    marks = {}
    for name, colour, x, bottom, count in bars:
        gid = f"column {name} {size.name}"
        look = {"color": COLOURS[colour], "alpha": 0.75, "linewidth": 0, "gid": gid}
        axes.bar(x, count, BAR_WIDTH, bottom, **look)
        marks[gid] = [Mark(f"{count} {name}", colour=colour)]
    if size.lesions:
        _write_above(axes, left, size.lesions, f"{size.true_positives}/{size.lesions}")
    if size.false_positives:
        _write_above(axes, right, size.false_positives, str(size.false_positives))
    return marks


def _write_above(axes: Axes, x: float, height: float, text: str) -> None:
    place: dict[str, Any] = {"textcoords": "offset points", "horizontalalignment": "center"}
    axes.annotate(text, (x, height), (0, 3), color=INK, **place)


def _describe_size(size: SizeClass) -> str:
    recall = f" (recall {size.true_positives / size.lesions:.2f})" if size.lesions else ""
    return (
        f"{size.name} {size.true_positives} found, {size.false_negatives} missed{recall},"
        f" {size.false_positives} false"
    )
