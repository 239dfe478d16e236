"""A comparison in a plain sentence that claims no more than its numbers do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.statistics.bootstrap import FEWEST_PATIENTS

ComparisonRow = Mapping[Any, Any]


def comparison_sentence(row: ComparisonRow) -> str:
    """One row of `statistics.compare_paired` in words.

    Such as: "Dice of T2 liver: B is 0.012 higher than A on average (95 % CI 0.004 to 0.020; 42
    patients, 88 cases; p = 0.003 after Benjamini-Hochberg). B is better in 60, tied in 8 and worse
    in 20 cases."
    """
    if row["verdict"] == "no pairs":
        return f"{_subject(row)}: no case can be compared.{_left_out(row)}"
    return (
        " ".join([f"{_subject(row)}: {_main(row)}.{_judgement(row)}", _cases(row)])
        + _left_out(row)
        + _optimistic(row)
    )


def format_number(value: float, decimals: int) -> str:
    """The number with a true minus sign, and none before zero; "–" for nan."""
    return "–" if math.isnan(value) else f"{value:z.{decimals}f}".replace("-", "−")


def format_p(p_value: float) -> str:
    """ "0.003", "<0.001", "0.0497" rather than 0.050; "–" for nan."""
    if math.isnan(p_value):
        return "–"
    text = f"{p_value:.3f}"
    return "<0.001" if p_value < 0.001 else f"{p_value:.4f}" if text == "0.050" else text


def metric_and_object(row: ComparisonRow) -> str:
    """ "Dice of T2 liver"."""
    return f"{METRICS[row['metric']].compared_title} of {label(row['modality'], row['class'])}"


def unit_suffix(row: ComparisonRow) -> str:
    """ " mm", nothing for a plain number."""
    return "" if row["unit"] == "1" else f" {row['unit']}"


def _subject(row: ComparisonRow) -> str:
    return metric_and_object(row) + ("" if row["higher_is_better"] else " (lower is better)")


def _main(row: ComparisonRow) -> str:
    if not row["cases"]:
        return f"no case has masks of both {row['model_b']} and {row['model_a']} ({_evidence(row)})"
    if row["verdict"] == "identical":
        return f"{row['model_b']} and {row['model_a']} do not differ in any of {_size(row)}"
    return f"{row['model_b']} is {_difference(row)} {row['model_a']} on average ({_evidence(row)})"


def _difference(row: ComparisonRow) -> str:
    decimals, value = METRICS[row["metric"]].compared_decimals, abs(row["mean_difference"])
    if value == 0:
        return "the same as"
    amount = (
        f"{value:.{decimals}f}"
        if round(value, decimals)
        else f"less than {10**-decimals:.{decimals}f}"
    )
    return f"{amount}{unit_suffix(row)} {'higher' if row['mean_difference'] > 0 else 'lower'} than"


def _evidence(row: ComparisonRow) -> str:
    decimals = METRICS[row["metric"]].compared_decimals
    interval = (
        f"{row['confidence']:.0%} CI {format_number(row['low'], decimals)} to"
        f" {format_number(row['high'], decimals)}".replace("%", " %")
    )
    p_value = format_p(row["p_adjusted"])
    p_value = (
        f"p {'= ' * (not p_value.startswith('<'))}{p_value.replace('<', '< ')} after"
        " Benjamini-Hochberg"
    )
    p_value += (
        ", cases taken as independent"
        if row["tested_unit"] == "case" and row["cases"] > row["patients"]
        else ""
    )
    parts = [interval] if not math.isnan(row["low"]) else []
    parts += [_size(row)] + ([p_value] if not math.isnan(row["p_value"]) else [])
    return "; ".join(parts)


def _size(row: ComparisonRow) -> str:
    return f"{_count(row['patients'], 'patient')}, {_count(row['cases'], 'case')}"


def _judgement(row: ComparisonRow) -> str:
    smallest = f"{row['smallest_difference']:g}{unit_suffix(row)}"
    tested = f"{row['tested_unit']}s"
    return {
        "too few": (
            f" Too few for a test, which needs {FEWEST_PATIENTS} {tested}: this says nothing about"
            " other patients."
        ),
        "equivalent": (
            f" No relevant difference: the whole interval is within {smallest}, the smallest of"
            " interest."
        ),
        "small": (
            f" {_although(row)}n average that is less than {smallest}, the smallest difference of"
            " interest."
        ),
        "not significant": " Not significant, which does not show that they are equal.",
        "contradictory": _contradiction(row),
    }.get(row["verdict"], "")


def _contradiction(row: ComparisonRow) -> str:
    misses = row["infinite_b"] - row["infinite_a"]
    gain = row["mean_difference"] * (1 if row["higher_is_better"] else -1)
    if misses * gain <= 0:
        return " The ranks favour the other model: a few large differences make the mean."
    more, other = (row["model_b"], row["model_a"])[:: 1 if misses > 0 else -1]
    return (
        f" But {more} has no mask in {_count(abs(misses), 'case')} more than {other}: misses and"
        " distances say opposite things."
    )


def _although(row: ComparisonRow) -> str:
    favoured = row["model_b"] if row["rank_biserial"] > 0 else row["model_a"]
    return (
        f"The ranks favour {favoured} significantly, but o"
        if row["p_adjusted"] <= 1 - row["confidence"]
        else "O"
    )


def _cases(row: ComparisonRow) -> str:
    return (
        f"{row['model_b']} is better in {row['better']}, tied in {row['tied']} and worse in"
        f" {_count(row['worse'], 'case')}."
    )


def _left_out(row: ComparisonRow) -> str:
    parts = (
        [f"{_count(row['missing'], 'case')} that only one of them has"] if row["missing"] else []
    )
    if row["absent"]:
        invented = ", ".join(
            f"{row[f'model_{side}']}: {row[f'false_positives_{side}']}" for side in "ab"
        )
        parts.append(
            f"{_count(row['absent'], 'case')} without it in the reference (false positives"
            f" {invented})"
        )
    if row["not_finite"]:
        whose = f"{row['model_a']}: {row['not_finite_a']}, {row['model_b']}: {row['not_finite_b']}"
        parts.append(
            f"{_count(row['not_finite'], 'case')} whose value is infinite or missing ({whose})"
        )
    if not parts:
        return ""
    *first, last = parts
    listed = f"{', '.join(first)} and {last}" if first else last
    last_ranks = (
        " No mask is a loss, the last of all ranks."
        if row["infinite_a"] + row["infinite_b"]
        else ""
    )
    return f" Left out of the means: {listed}.{last_ranks}"


def _optimistic(row: ComparisonRow) -> str:
    names = [row[f"model_{side}"] for side in "ab" if row.get(f"optimistic_{side}", False)]
    return (
        f" Optimistic for {' and '.join(names)}: the checkpoint was chosen on these cases."
        if names
        else ""
    )


def _count(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"
