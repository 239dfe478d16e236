"""Forest plots of a comparison of models: the mean difference of each row with its confidence
interval."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from nnunet_liver_ext.evaluation.comparison.forest_figure import PANEL, forest_rows
from nnunet_liver_ext.evaluation.report.plots.shapes import (
    Area,
    Line,
    Plot,
    Point,
    Scale,
    Shape,
    Text,
    scale,
    shortened,
)

WIDTH, NAMES, NUMBERS = (
    980.0,
    330.0,
    210.0,
)  # of the plot, of the column of names, of that of the numbers
ROW, ABOVE, BELOW = 26.0, 12.0, 44.0
SHOWN_AS = {"better": "better", "worse": "worse"}
"""Verdicts with a colour; all others are grey."""


def forest_plots(comparison: pd.DataFrame) -> list[Plot]:
    """A plot for each family, unit and direction; rows as `comparison.plot.forest_rows`. 0 is in
    the middle of each."""
    rows, names = forest_rows(comparison), _names(comparison)
    return [_panel(own, *names) for _, own in rows.groupby(PANEL, sort=False)]


def _names(comparison: pd.DataFrame) -> tuple[str, str]:
    """What a difference is, and which of the two models a gain is of."""
    pairs = comparison[["model_a", "model_b"]].drop_duplicates()
    a, b = map(str, pairs.iloc[0])
    if len(pairs) == 1:
        return f"{b} − {a}", b
    return (
        (f"model − {a}", "the model")
        if pairs["model_a"].nunique() == 1
        else ("first − second model", "the first")
    )


def _panel(rows: pd.DataFrame, difference: str, gaining: str) -> Plot:
    height = ABOVE + ROW * len(rows) + BELOW
    numbers = rows[["difference", "low", "high", "smallest_difference"]].abs().to_numpy(float)
    farthest = float(np.nanmax(numbers)) or 1.0
    x = scale([-farthest, farthest], NAMES + 10, WIDTH - NUMBERS)
    bottom = height - BELOW
    smallest = float(rows["smallest_difference"].max())
    shapes: list[Shape] = []
    if smallest > 0:
        shapes.append(
            Area(
                x.at(-smallest),
                ABOVE,
                round(x.at(smallest) - x.at(-smallest), 1),
                bottom - ABOVE,
                "band",
            )
        )
    shapes += [Line(at, ABOVE, at, bottom, "grid") for at, _ in x.labels]
    shapes += [Text(at, bottom + 16, text) for at, text in x.labels]
    shapes.append(Line(x.at(0), ABOVE, x.at(0), bottom, "zero"))
    points: list[Point] = []
    for number, row in enumerate(rows.to_dict("records")):
        middle = ABOVE + ROW * (number + 0.5)
        shapes += _row(row, middle, x)
        points.append(_point(row, middle, x))
    first = rows.iloc[0]
    unit = "" if first["unit"] == "1" else f" [{first['unit']}]"
    better = f"{gaining} is better →" if first["higher_is_better"] else f"← {gaining} is better"
    title = f"{str(first['family']).capitalize()}{unit}"
    shapes.append(
        Text(
            (x.start + x.end) / 2,
            bottom + 34,
            f"{difference}{unit}, mean over the cases; {better}",
            "axis",
        )
    )
    text = "; ".join(
        f"{row['label']} {row['text']} {row['verdict']}" for row in rows.to_dict("records")
    )
    description = f"Forest plot, {title}, mean difference with its interval: {text}."
    return Plot(title, description, shapes, points, width=WIDTH, height=height)


def _row(row: dict, middle: float, x: Scale) -> list[Shape]:
    css = SHOWN_AS.get(row["verdict"], "undecided")
    shapes: list[Shape] = [
        Text(
            NAMES,
            middle + 4,
            shortened(row["label"], 56),
            "name",
            "end",
            row["label"] if len(row["label"]) > 56 else "",
        ),
        Text(WIDTH - NUMBERS + 12, middle + 4, row["text"], f"name {css}", "start"),
    ]
    if not math.isnan(row["low"]):
        shapes.append(Line(x.at(row["low"]), middle, x.at(row["high"]), middle, f"interval {css}"))
    return shapes


def _point(row: dict, middle: float, x: Scale) -> Point:
    css = SHOWN_AS.get(row["verdict"], "undecided")
    css += " hollow" if math.isnan(row["low"]) else ""
    text = f"{row['label']}: {row['text']} ({row['verdict']})"
    return Point(x.at(row["difference"]), middle, text, "", f"large {css}")
