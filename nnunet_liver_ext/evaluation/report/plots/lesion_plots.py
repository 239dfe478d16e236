"""Which lesions were found: counts by size, and every single one at its diameter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunet_liver_ext.evaluation.report.plots.shapes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Area,
    Line,
    Plot,
    Point,
    Scale,
    Shape,
    Text,
    rows,
    scale,
)
from nnunet_liver_ext.evaluation.results.summaries import SIZES_MM

BAR_WIDTH = 30.0
ROWS = {
    "hit": ("found", "good"),
    "poor": ("poor overlap", "weak"),
    "missed": ("missed", "bad"),
    "false": ("false", "false"),
}
"""By `found` in the table of lesions: what it is called, and its colour."""


@dataclass(frozen=True)
class SizeClass:
    """Detection among lesions of one size, in lesions or correspondences."""

    name: str
    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def lesions(self) -> int:
        """There to be found."""
        return self.true_positives + self.false_negatives


def by_size(lesions: pd.DataFrame) -> list[SizeClass]:
    """Counts by the diameter of the sphere of the same volume, in the classes of
    `summaries.SIZES_MM`.

    Found and missed lesions are in the class of their reference, false ones in that of their
    prediction; a lesion with too poor an overlap counts as missed and as false, as in
    `lesion_scores.scores_by_size`.

    Args:
        lesions: rows of `object_measures.lesion_rows`: found, reference_mm, prediction_mm.
    """
    found, reference, prediction = (
        lesions["found"],
        lesions["reference_mm"],
        lesions["prediction_mm"],
    )
    counts = [
        _counted(reference[found == "hit"]),
        _counted(prediction[found.isin(["poor", "false"])]),
        _counted(reference[found.isin(["poor", "missed"])]),
    ]
    bounds = zip((0, *SIZES_MM), (*SIZES_MM, math.inf), strict=True)
    return [
        SizeClass(_size_name(*bound), *own) for bound, *own in zip(bounds, *counts, strict=True)
    ]


def size_plot(lesions: pd.DataFrame, title: str) -> Plot:
    """For each class of size a bar of found and missed lesions, and one of false ones."""
    classes = by_size(lesions)
    highest = max(1, *(max(own.lesions, own.false_positives) for own in classes))
    y = scale([0, highest], HEIGHT - BOTTOM, TOP)
    shapes: list[Shape] = rows(y, LEFT, WIDTH - RIGHT)
    distance = (WIDTH - LEFT - RIGHT) / len(classes)
    for number, own in enumerate(classes):
        shapes += _bars(own, LEFT + distance * (number + 0.5), y)
    text = "; ".join(_in_words(own) for own in classes)
    raters = lesions["rater"].nunique() if "rater" in lesions else 1
    caption = "Diameter of the sphere of the same volume."
    caption += f" Counts are sums over {raters} raters." if raters > 1 else ""
    legend = (("good", "found"), ("bad", "missed"), ("false", "false"))
    description = f"Bar plot of the lesions, {title}: {text}."
    return Plot(f"Detection by size, {title}", description, shapes, (), caption, legend)


def lesion_strip(lesions: pd.DataFrame, title: str) -> Plot:
    """Every lesion as a point at its diameter, in a row for what became of it."""
    diameter = lesions["reference_mm"].where(lesions["found"] != "false", lesions["prediction_mm"])
    x = scale([0, *diameter], LEFT + 34, WIDTH - RIGHT, lowest=0)
    height = (HEIGHT - BOTTOM - TOP) / len(ROWS)
    shapes: list[Shape] = [Line(at, TOP, at, HEIGHT - BOTTOM, "grid") for at, _ in x.labels]
    shapes += [Text(at, HEIGHT - BOTTOM + 16, text) for at, text in x.labels]
    shapes.append(Text((x.start + x.end) / 2, HEIGHT - BOTTOM + 34, "diameter [mm]", "axis"))
    points, counts = [], []
    for number, (found, (name, css)) in enumerate(ROWS.items()):
        own = lesions.assign(diameter=diameter)[(lesions["found"] == found) & diameter.notna()]
        middle = TOP + height * (number + 0.5)
        shapes.append(Text(LEFT + 26, middle + 4, name, "name", "end"))
        points += _strip(own, name, css, x, middle, height)
        counts.append(f"{name} {len(own)}")
    description = f"Strip plot of the lesions' diameters, {title}: {', '.join(counts)}."
    return Plot(f"Every lesion, {title}", description, shapes, points)


def _strip(
    own: pd.DataFrame, name: str, css: str, x: Scale, middle: float, height: float
) -> list[Point]:
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(own)) * height
    return [
        Point(
            x.at(row["diameter"]),
            round(middle + dy, 1),
            f"{row['case']} {row['modality']}: {name}, {row['diameter']:.1f} mm"
            + (f", Dice {row['dice']:.2f}" if row["dice"] else ""),
            str(row["case"]),
            css,
        )
        for row, dy in zip(own.to_dict("records"), spread, strict=True)
    ]


def _counted(diameters_mm: pd.Series) -> list[int]:
    classes = np.digitize(diameters_mm.dropna().to_numpy(float), SIZES_MM)
    return np.bincount(classes, minlength=len(SIZES_MM) + 1).tolist()


def _size_name(low_mm: float, high_mm: float) -> str:
    if low_mm == 0:
        return f"< {high_mm:g} mm"
    return f"≥ {low_mm:g} mm" if math.isinf(high_mm) else f"{low_mm:g}–{high_mm:g} mm"


def _bars(own: SizeClass, x: float, y: Scale) -> list[Shape]:
    left, right = x - BAR_WIDTH - 2, x + 2
    lesions = own.lesions
    shapes: list[Shape] = [
        _bar(left, 0, own.true_positives, y, "good", f"{own.true_positives} found"),
        _bar(left, own.true_positives, lesions, y, "bad", f"{own.false_negatives} missed"),
        _bar(right, 0, own.false_positives, y, "false", f"{own.false_positives} false"),
        Text(x, y.start + 18, own.name, "name"),
    ]
    if lesions:
        shapes.append(
            Text(left + BAR_WIDTH / 2, y.at(lesions) - 5, f"{own.true_positives}/{lesions}", "name")
        )
    if own.false_positives:
        shapes.append(
            Text(
                right + BAR_WIDTH / 2,
                y.at(own.false_positives) - 5,
                f"{own.false_positives}",
                "name",
            )
        )
    return shapes


def _bar(left: float, low: float, high: float, y: Scale, css: str, text: str) -> Area:
    return Area(
        left, y.at(high), BAR_WIDTH, round(y.at(low) - y.at(high), 1), f"column {css}", text
    )


def _in_words(own: SizeClass) -> str:
    recall = f" (recall {own.true_positives / own.lesions:.2f})" if own.lesions else ""
    return (
        f"{own.name} {own.true_positives} found, {own.false_negatives} missed{recall},"
        f" {own.false_positives} false"
    )
