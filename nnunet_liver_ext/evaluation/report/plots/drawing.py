"""Plots are drawn by matplotlib, once, and shown as SVG in the colours of the page or as a file.

matplotlib knows the light colours of style.css; in the SVG each of them becomes the page's
variable, so that a plot follows the reader's choice of light or dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nnunet_liver_ext.evaluation.report.html_page import read_template

WIDTH, HEIGHT = 340.0, 236.0  # pixels of the page
LIGHT_STYLE = read_template("style.css").partition("}")[0]
COLOURS = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", LIGHT_STYLE))
"""The light colours of style.css by the names of its variables."""
SERIES = 8
"""How many colours, c0 to c7, tell modalities or models apart."""
FAINT, INK, LINE = COLOURS["faint"], COLOURS["ink"], COLOURS["line"]
DASHED = (0, (5, 4))
STYLE = {
    "font.size": 11,
    "font.sans-serif": ["DejaVu Sans"],
    "text.color": FAINT,
    "text.parse_math": False,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "axes.labelcolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.size": 0,
    "axes.formatter.useoffset": False,
    "axes.edgecolor": "none",
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "figure.dpi": 72,  # a point is a pixel of the page
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
Symbol = Literal["dot", "large", "hollow", "infinite", "above", "below"]
"""A point, or a triangle above or below the frame for a value that is not on the axis."""
ABOVE, BELOW = 1.04, -0.03  # where the triangles stand, in heights of the frame


@dataclass(frozen=True)
class Mark:
    """Something that says its numbers when the pointer rests on it, and may lead to a case."""

    text: str
    case: str = ""
    """Empty if it leads nowhere."""
    x: float = 0.0
    """In units of the axes, as `y`; bars stand where they are drawn."""
    y: float = 0.0
    colour: str = "c0"
    """Name in `COLOURS`."""
    symbol: Symbol = "dot"


@dataclass(frozen=True)
class Plot:
    """One plot with what is written above and below it."""

    title: str
    description: str
    """What it shows, with the numbers, for those who do not see it."""
    figure: Figure
    marks: Mapping[str, Sequence[Mark]]
    """For each artist, by its `gid`, what it draws, in its order."""
    caption: str = ""
    legend: Sequence[tuple[str, str]] = ()
    """(Name in `COLOURS`, what it stands for)."""

    @property
    def width(self) -> float:
        """Pixels of the page."""
        return float(self.figure.get_figwidth() * self.figure.dpi)

    @property
    def points(self) -> list[Mark]:
        """All marks."""
        return [mark for group in self.marks.values() for mark in group]

    def svg(self, anchors: Mapping[str, str]) -> Markup:
        """An SVG element for the page.

        Args:
            anchors: ids of the elements that the marks lead to, by case.
        """
        for artist in self.figure.findobj():
            artist.set_clip_on(False)  # nothing is beyond the axes, and clip paths are references
        content = io.StringIO()
        with drawing_style({"svg.hashsalt": self.title}):
            self.figure.savefig(content, format="svg", transparent=True, metadata=NO_METADATA)
        svg = ElementTree.fromstring(content.getvalue())
        _fit_into_the_page(svg)
        for name, marks in self.marks.items():
            _add_titles_and_links(svg, name, marks, anchors)
        for group in svg.iter("g"):
            name = group.attrib.pop("id", "")
            if name and not re.search(r"_\d+$", name):  # one of ours, not "line2d_7"
                group.set("class", name)
        for name in ("width", "height"):
            svg.set(name, svg.get(name, "").removesuffix("pt"))
        svg.attrib |= {"role": "img", "aria-label": self.description}
        return Markup(ElementTree.tostring(svg, encoding="unicode"))


def drawing_style(more: Mapping[str, Any] | None = None) -> Any:
    """A context, also a decorator, in which matplotlib draws for the page.

    It begins from matplotlib's own defaults: nnU-Net sets seaborn's large fonts.
    """
    return style.context(["default", {**STYLE, **(more or {})}])


def new_figure(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure of this size in pixels, and its axes."""
    figure = Figure(figsize=(width / 72, height / 72))
    return figure, figure.subplots()


def add_points(axes: Axes, marks: Iterable[Mark]) -> dict[str, list[Mark]]:
    """Draws marks, those of one colour and symbol together; gives them as `Plot.marks`."""
    groups: dict[tuple[str, Symbol], list[Mark]] = {}
    for mark in marks:
        groups.setdefault((mark.colour, mark.symbol), []).append(mark)
    by_artist = {}
    for (colour, symbol), group in groups.items():
        gid = f"points {symbol} {colour}"
        by_artist[gid] = group
        _scatter(axes, group, COLOURS[colour], symbol, gid)
    return by_artist


def _scatter(axes: Axes, marks: Sequence[Mark], colour: str, symbol: Symbol, gid: str) -> None:
    x, y = [mark.x for mark in marks], [mark.y for mark in marks]
    look: dict[str, Any] = {"gid": gid, "zorder": 3}
    if symbol == "dot":
        axes.scatter(x, y, s=6**2, color=colour, alpha=0.62, linewidths=0, **look)
    elif symbol == "large":
        axes.scatter(x, y, s=9**2, color=colour, linewidths=0, **look)
    elif symbol == "hollow":
        look |= {"facecolors": COLOURS["panel"], "edgecolors": colour}
        axes.scatter(x, y, s=9**2, linewidths=1.6, **look)
    else:
        look |= {"marker": "v" if symbol == "below" else "^", "edgecolors": colour}
        look["facecolors"] = colour if symbol == "infinite" else "none"
        height = BELOW if symbol == "below" else ABOVE
        transform = axes.get_xaxis_transform()
        axes.scatter(x, [height] * len(x), s=7**2, linewidths=1.4, transform=transform, **look)


def round_ticks(
    values: Iterable[float], *, lowest: float | None = None, highest: float | None = None
) -> list[float]:
    """Two or more round numbers around the finite values.

    Args:
        values: what must lie between the first and the last tick; infinite and nan are left out.
        lowest: a bound of the values, below which no tick lies.
        highest: a bound of the values, where the ticks end.
    """
    finite = np.array([value for value in values if np.isfinite(value)], float)
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    high = high if highest is None else highest
    if high - low < 1e-6:
        low -= 0.05 * max(1.0, abs(low))
        high += 0.05 * max(1.0, abs(high)) if highest is None else 0.0
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    within = [float(tick) for tick in ticks if lowest is None or tick >= lowest - 1e-9]
    return within if len(within) > 1 else [float(tick) for tick in ticks]


def set_ticks(axes: Axes, *, x: Sequence[float] = (), y: Sequence[float] = ()) -> None:
    """Puts ticks on the axes and lets them end at the first and the last one."""
    if x:
        axes.set_xticks(x)
        axes.set_xlim(x[0], x[-1])
    if y:
        axes.set_yticks(y)
        axes.set_ylim(y[0], y[-1])


def _fit_into_the_page(svg: ElementTree.Element) -> None:
    """Names, fonts and colours become the page's; a style sheet would hold for all of the page."""
    variables = {hexadecimal: f"var(--{name})" for name, hexadecimal in COLOURS.items()}
    for element in svg.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: text for key, text in element.attrib.items()}
        if "style" in element.attrib:
            look = re.sub(r"font-family: [^;]*;? ?", "", element.attrib["style"])
            element.attrib["style"] = re.sub(
                "#[0-9a-f]{6}", lambda found: variables.get(found.group(), found.group()), look
            )
    for definitions in svg.findall("defs"):
        for sheet in definitions.findall("style"):
            definitions.remove(sheet)


def _add_titles_and_links(
    svg: ElementTree.Element, name: str, marks: Sequence[Mark], anchors: Mapping[str, str]
) -> None:
    (group,) = (group for group in svg.iter("g") if group.get("id") == name)
    kind = "use" if group.find(".//use") is not None else "path"
    shapes = [(parent, shape) for parent in group.iter() for shape in parent.findall(kind)]
    for (parent, shape), mark in zip(shapes, marks, strict=True):
        ElementTree.SubElement(shape, "title").text = mark.text
        if mark.case in anchors:
            link = ElementTree.Element("a", href=f"#{anchors[mark.case]}", tabindex="-1")
            parent[list(parent).index(shape)] = link
            link.append(shape)
