"""Flags on the cases to look at first.

They are far from the others, empty, in pieces, on the wrong side, or not there at all. None of this
proves an error; see docs/report.md for when a flag is set.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.absent_objects import leave_out_absent
from nnunet_liver_ext.evaluation.files.find_label_maps import MODALITIES, NO_MODALITY, ImageKey
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.options import Empty, Options
from nnunet_liver_ext.evaluation.plausibility import outliers
from nnunet_liver_ext.evaluation.tidy_table import OBJECT, empty_masks, image_rows

FEWEST_FOR_OUTLIERS = 5
"""A robust z of fewer cases means nothing."""
ORGAN = "liver"
"""One piece on the patient's right is expected of this class, or of the only one."""
LEFT_PERCENT = 50.0
MOST_OUTSIDE_PERCENT = 1.0
"""Share of a prediction outside the body. The body's outline is some mm too large, so a good mask
has 0."""


@dataclass(frozen=True)
class Flag:
    """One reason to look at a case."""

    key: ImageKey
    class_name: str
    """Empty if it is about the whole image."""
    short: str
    """A word or two."""
    text: str
    """A sentence without its full stop."""
    severe: bool = False


def find_flags(
    table: pd.DataFrame, failures: Sequence[CaseFailure], options: Options
) -> list[Flag]:
    """All flags, case by case in no particular order.

    Args:
        table: as `results_table.results_table` makes it.
        failures: what could not be evaluated.
        options: of which classes are lesions, which a case need not have.
    """
    images = image_rows(table)
    modalities = list(images.modality.unique())
    return [
        *_failed(failures, modalities),
        *_empty(images, options),
        *_outliers(leave_out_absent(images, options.empty)),
        *_implausible(images),
    ]


def cases_to_look_at(table: pd.DataFrame, options: Options) -> list[dict[str, Any]]:
    """The flags of what was evaluated, for results.json: case, modality, class, reason."""
    return [
        {
            "case": flag.key.case,
            "modality": flag.key.modality,
            "class": flag.class_name,
            "reason": flag.text,
        }
        for flag in find_flags(table, (), options)
    ]


def parse_key(text: str, modalities: Sequence[str]) -> ImageKey:
    """The key whose text this is, see `ImageKey.__str__`: "P001 T2" is case P001, modality T2."""
    for modality in {*MODALITIES, *modalities}:
        if modality != NO_MODALITY and text.endswith(f" {modality}"):
            return ImageKey(text.removesuffix(f" {modality}"), modality)
    return ImageKey(text, NO_MODALITY)


def _failed(failures: Sequence[CaseFailure], modalities: Sequence[str]) -> Iterator[Flag]:
    for failure in failures:
        short = "no prediction" if "no prediction" in failure.reason else "not evaluated"
        yield Flag(
            parse_key(failure.case, modalities),
            "",
            short,
            failure.reason.rstrip("."),
            severe=True,
        )


def _empty(table: pd.DataFrame, options: Options) -> Iterator[Flag]:
    for row in empty_masks(table):
        which = row["empty"]
        if which == "both" and row["class"] in options.lesions:
            continue
        short = "both empty" if which == "both" else f"empty {which}"
        yield Flag(
            ImageKey(row["case"], row["modality"]),
            row["class"],
            short,
            describe_empty(which, options.empty),
            severe=which == "prediction",
        )


def describe_empty(which: str, empty: Empty) -> str:
    """What it means that a mask is empty, without a full stop.

    Args:
        which: "prediction", "reference" or "both", as `tidy_table.empty_masks`.
        empty: as `absent_objects.leave_out_absent`.
    """
    excluded = empty == "exclude"
    return {
        "prediction": "the prediction is empty; distances are infinite",
        "reference": "the reference is empty and the prediction is not, a false positive; "
        + ("in no mean of overlap and distance" if excluded else "distances are infinite"),
        "both": "prediction and reference are empty, which "
        + ("is in no mean of overlap and distance" if excluded else "counts as right"),
    }[which]


def _outliers(table: pd.DataFrame) -> Iterator[Flag]:
    empties_known = "volume_prediction" in set(table.metric)
    enough = table[
        table.groupby(["modality", "class", "metric"])["value"].transform("size")
        >= FEWEST_FOR_OUTLIERS
    ]
    there = set(enough.metric)
    for metric in [entry for entry in METRICS.values() if entry.flags_outliers]:
        if metric.name not in there:
            continue
        for row in outliers(enough, metric.name).to_dict("records"):
            finite = math.isfinite(row["value"])
            if (
                not finite and empties_known
            ):  # an infinite distance is an empty mask, which has a flag of its own
                continue
            value = f"{metric.format(row['value'])} {metric.unit}".removesuffix(" 1")
            z = f" (robust z {row['z']:+.1f})" if finite else ""
            text = f"{metric.title} {value} is far from the other cases{z}".replace("-", "−")
            yield Flag(
                ImageKey(row["case"], row["modality"]),
                row["class"],
                f"{metric.title} outlier",
                text,
            )


def _implausible(table: pd.DataFrame) -> Iterator[Flag]:
    only_one = table["class"].nunique() == 1
    wide = table.pivot(index=OBJECT, columns="metric", values="value")
    for names, row in zip(wide.index, wide.to_dict("records"), strict=True):
        case, modality, name = map(str, names)
        for short, text in _what_is_odd(row, is_organ=only_one or name.lower() == ORGAN):
            yield Flag(ImageKey(case, modality), name, short, text)


def _what_is_odd(values: Mapping[Any, float], *, is_organ: bool) -> Iterator[tuple[str, str]]:
    pieces, beside = values.get("pieces", 0.0), values.get("share_outside_largest_piece", math.nan)
    if is_organ and pieces > 1:
        yield (
            f"{pieces:.0f} pieces",
            f"the prediction has {pieces:.0f} pieces, {beside:.1f} % of it outside the largest",
        )
    left = values.get("share_on_the_left", math.nan)
    if is_organ and left > LEFT_PERCENT:
        yield "on the left", f"{left:.0f} % of the prediction lie on the patient's left"
    outside = values.get("share_outside_the_body", math.nan)
    if outside > MOST_OUTSIDE_PERCENT:
        yield "outside the body", f"{outside:.1f} % of the prediction lie outside the body"
