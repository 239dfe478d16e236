"""Plots as shapes to draw: the page turns them into SVG, in the colours of the reader's screen.

Positions are in SVG units, from the left and from the top. `css` names the classes that style.css
gives a colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.ticker import MaxNLocator

HEIGHT, TOP, BOTTOM, LEFT, RIGHT = 236.0, 22.0, 46.0, 52.0, 14.0  # of a plot and its margins
WIDTH = 340.0
Anchor = Literal["start", "middle", "end"]
Mark = Literal["dot", "infinite", "above", "below"]
"""A dot, or a triangle for what is not on the axis."""


@dataclass(frozen=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    css: str


@dataclass(frozen=True)
class Area:
    """A rectangle; with `text` as its tooltip."""

    x: float
    y: float
    width: float
    height: float
    css: str
    text: str = ""


@dataclass(frozen=True)
class Point:
    """One case: a mark that says its numbers and leads to the case."""

    x: float
    y: float
    text: str
    case: str
    css: str = ""
    mark: Mark = "dot"


@dataclass(frozen=True)
class Text:
    """A word in a plot; `text` may be shortened, `full` is its tooltip then."""

    x: float
    y: float
    text: str
    css: str = ""
    anchor: Anchor = "middle"
    full: str = ""


Shape = Line | Area | Text


@dataclass(frozen=True)
class Plot:
    """One plot with what is written above and below it."""

    title: str
    description: str
    """For those who do not see it: what it shows, with the numbers."""
    shapes: Sequence[Shape]
    points: Sequence[Point] = ()
    caption: str = ""
    legend: Sequence[tuple[str, str]] = ()
    """(CSS class, what it stands for)."""
    width: float = WIDTH
    height: float = HEIGHT


@dataclass(frozen=True)
class Scale:
    """From values to positions, linear."""

    ticks: tuple[float, ...]
    start: float
    """Position of the first tick."""
    end: float
    """Position of the last one."""

    def at(self, value: float) -> float:
        """Position of a finite value."""
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return round(self.start + share * (self.end - self.start), 1)

    def holds(self, value: float) -> bool:
        """Whether the value is between the first and the last tick; infinite ones and nan are
        not."""
        slack = 1e-9 * (self.ticks[-1] - self.ticks[0])
        return self.ticks[0] - slack <= value <= self.ticks[-1] + slack

    @property
    def labels(self) -> list[tuple[float, str]]:
        """Position and text of each tick."""
        return [(self.at(tick), f"{round(tick, 10):g}".replace("-", "−")) for tick in self.ticks]


def scale(
    values: Iterable[float],
    start: float,
    end: float,
    *,
    lowest: float | None = None,
    highest: float | None = None,
) -> Scale:
    """Round ticks around the finite values.

    Args:
        values: what must be on the scale; others than finite ones are left out.
        start: position of the first tick.
        end: position of the last tick.
        lowest: the scale does not begin below, whatever is rounded; a bound of the values.
        highest: the scale ends here; a bound of the values.
    """
    finite = np.array([value for value in values if np.isfinite(value)], float)
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    high = high if highest is None else highest
    if high - low < 1e-6:
        low, high = (
            low - 0.05 * max(1.0, abs(low)),
            high if highest is not None else high + 0.05 * max(1.0, abs(high)),
        )
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    kept = [float(tick) for tick in ticks if lowest is None or tick >= lowest - 1e-9]
    return Scale(tuple(kept if len(kept) > 1 else map(float, ticks)), start, end)


def frame(x: Scale, y: Scale, x_title: str, y_title: str) -> list[Shape]:
    """Grid, tick labels and titles of a plot with two numeric axes."""
    middle = (x.start + x.end) / 2
    shapes: list[Shape] = rows(y, x.start, x.end)
    shapes += [Line(at, y.start, at, y.start + 4, "grid") for at, _ in x.labels]
    shapes += [Text(at, y.start + 16, text) for at, text in x.labels]
    return [
        *shapes,
        Text(middle, y.start + 34, x_title, "axis"),
        Text(x.start - 44, TOP - 9, y_title, "axis", "start"),
    ]


def rows(y: Scale, left: float, right: float) -> list[Shape]:
    """Horizontal grid lines with their labels."""
    lines: list[Shape] = [Line(left, at, right, at, "grid") for at, _ in y.labels]
    return lines + [Text(left - 6, at + 4, text, anchor="end") for at, text in y.labels]


def shortened(text: str, letters: int) -> str:
    """The text, cut with an ellipsis if it is longer."""
    return text if len(text) <= letters else text[: letters - 1] + "…"
