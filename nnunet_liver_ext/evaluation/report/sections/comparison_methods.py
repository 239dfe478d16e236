"""The paragraph about methods of a comparison of models, as docs/statistics.md explains it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.report.sections.evaluation_methods import (
    MethodsText,
    name_software,
    number_references,
)
from nnunet_liver_ext.evaluation.statistics.bootstrap import FEWEST_PATIENTS


def describe_comparison(
    tables: Mapping[str, pd.DataFrame],
    comparison: pd.DataFrame,
    settings: Mapping[str, Any],
    *,
    with_ranking: bool,
) -> MethodsText:
    """What the numbers of a comparison are.

    Args:
        tables: results of each model by its name.
        comparison: as `statistics.compare_paired`.
        settings: "resamples" and "seed" of the bootstrap, if they are known.
        with_ranking: whether the models were ranked.
    """
    sentences = [*_say_how(tables, comparison, settings), *_say_smallest(comparison)]
    sentences += _say_left_out(comparison)
    if with_ranking:
        sentences.append(
            "The stability of the ranking was found by bootstrap over patients [ranking]."
        )
    return number_references([" ".join(sentences)])


def _say_how(
    tables: Mapping[str, pd.DataFrame], comparison: pd.DataFrame, settings: Mapping[str, Any]
) -> list[str]:
    first = comparison.iloc[0]
    confidence = f"{first['confidence']:.0%}".replace("%", " %")
    rate = f"{1 - first['confidence']:.2g}"
    drawn = f", {settings['resamples']} resamples" if "resamples" in settings else ""
    drawn += f", seed {settings['seed']}" if "seed" in settings else ""
    tested = (
        "the patients' mean differences"
        if first["tested_unit"] == "patient"
        else "the differences of single cases"
    )
    return [
        (
            f"The models {', '.join(tables)} were compared on the same cases"
            f" ({_range(comparison['cases'])} cases of {_range(comparison['patients'])} patients)"
            f" with {name_software()}."
        ),
        (
            f"We report the mean difference over the cases with its {confidence} confidence"
            f" interval (bootstrap over patients{drawn}, expanded percentile interval [bootstrap])"
            f" and test {tested} with the Wilcoxon signed-rank test [wilcoxon]; fewer than"
            f" {FEWEST_PATIENTS} are not tested."
        ),
        (
            "p values were adjusted after Benjamini and Hochberg [adjusted] within families of"
            f" measures ({', '.join(dict.fromkeys(comparison['family']))}) [hansch]; a false"
            f" discovery rate of {rate} was allowed. The effect size is the matched-pairs"
            " rank-biserial correlation [rank_biserial]."
        ),
    ]


def _say_smallest(comparison: pd.DataFrame) -> list[str]:
    smallest = {}
    for row in comparison[comparison["smallest_difference"] > 0].to_dict("records"):
        unit = "" if row["unit"] == "1" else f" {row['unit']}"
        title = METRICS[row["metric"]].compared_title
        smallest[title] = f"{row['smallest_difference']:g}{unit}"
    if not smallest:
        return []
    text = ", ".join(f"{name} {value}" for name, value in smallest.items())
    return [f"Smaller differences than these were not considered meaningful [strategies]: {text}."]


def _say_left_out(comparison: pd.DataFrame) -> list[str]:
    not_finite, absent = (int(comparison[name].max()) for name in ("not_finite", "absent"))
    sentences = []
    if not_finite:
        sentences.append(
            f"Up to {not_finite} cases without a finite value (a mask is empty) were left out of a"
            " mean; a missing mask counts as a loss, the last of all ranks."
        )
    if absent:
        sentences.append(
            f"Up to {absent} cases whose reference lacks the object were left out of a comparison."
        )
    return sentences


def _range(numbers: pd.Series) -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return str(low) if low == high else f"{low} to {high}"
