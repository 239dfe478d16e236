"""Made-up results, and a parser for the pages that are made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd

from nnunet_liver_ext.evaluation.files.find_label_maps import ImageKey
from nnunet_liver_ext.evaluation.measuring.one_case import CaseResult
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS, computed_metrics
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.report import write_report
from nnunet_liver_ext.evaluation.results.results_table import results_table

VOID = ("img", "meta", "link", "br", "input")


class Page(HTMLParser):
    """The elements of a page with their attributes and texts; refuses tags that are not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()
        assert not self._open, self._open

    @classmethod
    def of(cls, path: Path) -> Page:
        return cls(path.read_text(encoding="utf-8"))

    def all(self, tag: str, css: str = "", **attributes: str) -> list[Element]:
        return [
            one
            for one in self.elements
            if one.tag == tag
            and (not css or css in one.attributes.get("class", "").split())
            and all(
                one.attributes.get(name.replace("_", "-")) == value
                for name, value in attributes.items()
            )
        ]

    def one(self, tag: str, css: str = "", **attributes: str) -> Element:
        (found,) = self.all(tag, css, **attributes)
        return found

    @property
    def text(self) -> str:
        return self.one("body").text

    @property
    def ids(self) -> list[str]:
        return [one.attributes["id"] for one in self.elements if "id" in one.attributes]

    @property
    def links(self) -> list[str]:
        """All that a browser would fetch or follow."""
        names = ("href", "src", "srcset", "action", "data", "poster")
        return [
            one.attributes[name]
            for one in self.elements
            for name in names
            if name in one.attributes
        ]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, list(self._open))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(
            Element(tag, {name: value or "" for name, value in attrs}, list(self._open))
        )

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data


class Element:
    """One tag with all text in it."""

    def __init__(self, tag: str, attributes: dict[str, str], above: list[Element]) -> None:
        self.tag, self.attributes, self.above, self.text = tag, attributes, above, ""

    def within(self, other: Element) -> bool:
        return other in self.above


def object_values(
    dice: float, *, reference_ml: float = 1000.0, error_ml: float = 10.0, **more: float
) -> dict[str, float]:
    """All metrics of an object from its Dice; one with a Dice of 0 is missed."""
    distance = math.inf if dice == 0 else 40 * (1 - dice)
    values = {
        "dice": dice,
        "iou": dice / (2 - dice),
        "surface_dice": dice,
        "hd": 2 * distance,
        "hd95": distance,
        "asd": distance / 5,
        "masd": distance / 5,
        "volume_prediction": 0.0 if dice == 0 else reference_ml + error_ml,
        "volume_reference": reference_ml,
        "volume_difference": -reference_ml if dice == 0 else error_ml,
        "relative_volume_difference": -100.0 if dice == 0 else 100 * error_ml / reference_ml,
        "pieces": 0.0 if dice == 0 else 1.0,
        "share_outside_largest_piece": math.nan if dice == 0 else 0.0,
        "share_on_the_left": math.nan if dice == 0 else 10.0,
        **more,
    }
    assert set(computed_metrics()) <= set(values) <= set(METRICS)
    return values


def results(
    values: Mapping[tuple[str, str, str], Mapping[str, float]],
    patients: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """{(case, modality, class): values by metric} as the table of results."""
    by_key: dict[ImageKey, dict[str, Mapping[str, float]]] = {}
    for (case, modality, name), own in values.items():
        by_key.setdefault(ImageKey(case, modality), {})[name] = own
    patients = patients or {}
    return results_table(
        CaseResult(
            key, {name: dict(one) for name, one in own.items()}, patients.get(key.case, key.case)
        )
        for key, own in by_key.items()
    )


def livers(
    dices: Mapping[str, tuple[float, ...]], modalities: tuple[str, ...] = ("T1", "T2")
) -> pd.DataFrame:
    """{case: Dice of each of its images} as the table of results, of the class liver."""
    return results(
        {
            (case, modality, "liver"): object_values(
                dice, reference_ml=1000 + 10 * number, error_ml=number - 1.5
            )
            for number, (case, own) in enumerate(dices.items())
            for modality, dice in zip(modalities, own, strict=False)
        }
    )


def write_page(folder: Path, table: pd.DataFrame, options: Options = Options(), **more) -> Page:
    """The page of these results, without pictures unless `cases` are given."""
    path = folder / "report.html"
    write_report(
        table,
        path,
        **{"cases": [], "classes": None, "options": options, "processes": 1, **more},
    )
    return Page.of(path)
