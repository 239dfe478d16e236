"""The summary of an evaluation: a card for each object, and all measures with their spread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.absent_objects import Presence
from nnunet_liver_ext.evaluation.agreement import limits_of_agreement
from nnunet_liver_ext.evaluation.files.find_label_maps import NO_MODALITY
from nnunet_liver_ext.evaluation.metric_catalogue import AS_GOOD_AS_A_RATER, METRICS
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.report.sections.sortable_table import FAMILIES, sort_by_family
from nnunet_liver_ext.evaluation.results.flags import Flag, parse_key
from nnunet_liver_ext.evaluation.results.results_table import summarise
from nnunet_liver_ext.evaluation.tidy_table import group_rows, image_rows, pair_rows


@dataclass(frozen=True)
class Fact:
    """One measure on a card."""

    name: str
    value: str
    more: str
    warning: str = ""
    """How many values are infinite or do not exist."""


@dataclass(frozen=True)
class Card:
    """One modality and class, or the pairs of one class."""

    title: str
    cases: str
    """How many; "2 of 20" where 18 references lack the object."""
    failures: int
    flagged: int
    facts: list[Fact]
    false_positives: str = ""
    """ "3 of 18", of the cases whose reference lacks the object; empty if none does."""


@dataclass(frozen=True)
class Spread:
    """A measure of one object over the cases."""

    mean: str
    rest: str
    warning: str


def make_cards(
    table: pd.DataFrame,
    failures: Sequence[CaseFailure],
    flags: Sequence[Flag],
    presence: Mapping[tuple[str, str], Presence],
) -> list[Card]:
    """A card for each modality and class, in the order of the table.

    Args:
        table: of values that count, as `absent_objects.leave_out_absent`.
        failures: what could not be evaluated.
        flags: on the cases to look at.
        presence: as `absent_objects.count_presence`.
    """
    images = image_rows(table)
    failed = [parse_key(failure.case, list(images.modality.unique())) for failure in failures]
    return [
        Card(
            label(modality, name),
            of_object.cases_text if of_object else str(rows["case"].nunique()),
            sum(key.modality in (modality, NO_MODALITY) for key in failed),
            len(
                {
                    flag.key
                    for flag in flags
                    if flag.key.modality == modality and flag.class_name == name
                }
            ),
            _facts(rows),
            of_object.false_positives_text if of_object and of_object.is_absent_somewhere else "",
        )
        for (modality, name), rows in group_rows(images, ["modality", "class"])
        for of_object in [presence.get((modality, name))]
    ]


def make_pair_cards(table: pd.DataFrame, pairs: Sequence[dict[str, Any]]) -> list[Card]:
    """A card for the pairs of each class."""
    rows = pair_rows(table)
    return [
        Card(
            (
                f"Both images, {row['class']}"
                if not str(row["class"]).isdecimal()
                else f"Both images, label {row['class']}"
            ),
            str(row["pairs"]),
            0,
            0,
            _pair_facts(
                row, rows[(rows["class"] == row["class"]) & (rows.modality == row["modality"])]
            ),
        )
        for row in pairs
    ]


def collect_spreads(
    table: pd.DataFrame,
) -> tuple[list[str], list[tuple[str, list[tuple[str, list[Spread | None]]]]]]:
    """All measures with their spread.

    Returns:
        Names of the objects; for each family the title of each measure and its spread in each.
    """
    summary = summarise(table)
    objects = [key for key, _ in group_rows(summary, ["modality", "class"])]
    rows = {key: rows.iloc[0] for key, rows in group_rows(summary, ["modality", "class", "metric"])}
    families: dict[str, list[tuple[str, list[Spread | None]]]] = {}
    for metric in sort_by_family(table["metric"].unique()):
        cells = [
            _spread(rows[*key, metric.name]) if (*key, metric.name) in rows else None
            for key in objects
        ]
        families.setdefault(FAMILIES[metric.family], []).append((metric.heading, cells))
    return [label(*key) for key in objects], list(families.items())


def _facts(rows: pd.DataFrame) -> list[Fact]:
    by_metric = {
        str(name): measured["value"].dropna()
        if METRICS[str(name)].needs_reference  # nan: the reference lacks it, as the cases say
        else measured["value"]
        for name, measured in rows.groupby("metric", sort=False)
    }
    facts = [
        _fact(metric.name, by_metric[metric.name])
        for metric in METRICS.values()
        if metric.on_card and metric.name in by_metric
    ]
    if "volume_difference" in by_metric:
        facts.append(_volume_bias(by_metric))
    if "uncertainty_aware_score" in by_metric:
        as_good = int((by_metric["uncertainty_aware_score"] >= AS_GOOD_AS_A_RATER - 1e-9).sum())
        score = _fact("uncertainty_aware_score", by_metric["uncertainty_aware_score"])
        facts.append(
            Fact(
                score.name,
                score.value,
                f"{as_good} of {len(rows['case'].unique())} as good as a rater",
                score.warning,
            )
        )
    if "lesion_f1" in by_metric:
        facts.append(_lesions(by_metric))
    if "fat_mean_difference" in by_metric:
        facts.append(
            _fact("fat_mean_difference", by_metric["fat_mean_difference"], "Fat fraction, bias")
        )
    return facts


def _fact(metric: str, values: pd.Series, name: str = "") -> Fact:
    entry = METRICS[metric]
    finite = values[values.map(math.isfinite)]
    unit = "" if entry.unit == "1" else f" {entry.unit}"
    if finite.empty:
        return Fact(name or entry.title, "–", "", _not_finite(values))
    std = f" ± {entry.format(float(finite.std()))}" if len(finite) > 1 else ""
    more = (
        f"median {entry.format(float(finite.median()))}, {entry.format(finite.min())} to"
        f" {entry.format(finite.max())}"
    )
    return Fact(
        name or entry.title,
        f"{entry.format(float(finite.mean()))}{std}{unit}",
        more,
        _not_finite(values),
    )


def _volume_bias(by_metric: dict[str, pd.Series]) -> Fact:
    entry, relative = METRICS["volume_difference"], METRICS["relative_volume_difference"]
    limits = limits_of_agreement(by_metric["volume_difference"])
    percent = by_metric.get("relative_volume_difference", pd.Series(dtype=float))
    finite = percent[percent.map(math.isfinite)]
    more = f"95 % limits {entry.format(limits.lower)} to {entry.format(limits.upper)} ml"
    if len(finite):
        more += f"; mean {relative.format(float(finite.mean()))} %"
    return Fact("Volume, bias", f"{entry.format(limits.mean)} ml", more)


def _lesions(by_metric: dict[str, pd.Series]) -> Fact:
    hits, false, missed = (
        float(by_metric[f"lesion_{name}"].sum())
        for name in ("true_positives", "false_positives", "false_negatives")
    )
    pooled = 2 * hits / (2 * hits + false + missed) if hits + false + missed else math.nan
    entry = METRICS["lesion_f1"]
    mean = entry.format(float(by_metric["lesion_f1"].mean()))
    more = f"{hits:g} found, {missed:g} missed, {false:g} false; mean of cases {mean}"
    return Fact("Lesion F1, all cases", entry.format(pooled), more)


def _pair_facts(row: dict[str, Any], rows: pd.DataFrame) -> list[Fact]:
    entry = METRICS["relative_similarity_prediction"]
    gain, against = entry.format(float(row["gain"])), entry.format(float(row["reference"]))
    excluded = f"{row['excluded']} excluded" if row["excluded"] else ""
    more = f"references {against}, difference {gain}"
    facts = [
        Fact("Relative similarity D_S", entry.format(float(row["prediction"])), more, excluded)
    ]
    for name, title in (
        ("prediction", "Volume, first − second"),
        ("reference", "the same, references"),
    ):
        values = rows.value[rows.metric == f"pair_volume_difference_{name}"]
        if len(values):
            facts.append(_fact(f"pair_volume_difference_{name}", values, title))
    return facts


def _spread(row: pd.Series) -> Spread:
    metric = METRICS[row["metric"]]
    mean, std, median, low, high = (
        metric.format(float(row[name])) for name in ("mean", "std", "median", "min", "max")
    )
    return Spread(
        f"{mean} ± {std}",
        f"{median} ({low} to {high})",
        _counts(int(row["infinite"]), 0 if metric.needs_reference else int(row["undefined"])),
    )


def _not_finite(values: pd.Series) -> str:
    return _counts(int(values.map(math.isinf).sum()), int(values.isna().sum()))


def _counts(infinite: int, undefined: int) -> str:
    return ", ".join(
        f"{count} {name}"
        for count, name in ((infinite, "infinite"), (undefined, "undefined"))
        if count
    )
