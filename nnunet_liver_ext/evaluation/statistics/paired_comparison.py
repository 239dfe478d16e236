"""Paired comparison of models: difference, interval, test and effect, with patients as the unit.

Sources: Wilcoxon signed-rank tests, adjusted after Benjamini and Hochberg within families of
measures, as Hänsch et al. 2022, "Statistical tests"; the smallest difference of interest of
Couteaux et al. 2021, "Comparing deep learning strategies", section 4. It deviates in the unit: the
papers test cases, this tests patients, because two cases of one patient are not independent and
counting both makes p too small. `unit="case"` does as the papers did.

All formulas, a worked example and how to cite them: docs/statistics.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.absent_objects import predicted_where_absent, rank_misses_last
from nnunet_liver_ext.evaluation.metric_entry import Metric
from nnunet_liver_ext.evaluation.options import Empty
from nnunet_liver_ext.evaluation.statistics.bootstrap import FEWEST_PATIENTS, confidence_interval
from nnunet_liver_ext.evaluation.statistics.comparable_metrics import (
    ROUNDING,
    comparable_metrics,
    compared_values,
    smallest_differences,
)
from nnunet_liver_ext.evaluation.statistics.models_table import (
    fill_in_patients,
    split_by_metric_and_object,
)
from nnunet_liver_ext.evaluation.statistics.ranks import (
    DIGITS,
    adjust_within_families,
    rank_biserial,
    signed_rank_p,
)

Unit = Literal["patient", "case"]
RESAMPLES = 10_000


def compare_paired(
    table: pd.DataFrame,
    baseline: str | None = None,
    *,
    metrics: Sequence[str] | None = None,
    smallest_difference: float | Mapping[str, float] | None = None,
    unit: Unit = "patient",
    resamples: int = RESAMPLES,
    seed: int = 0,
    alpha: float = 0.05,
    empty: Empty = "exclude",
) -> pd.DataFrame:
    """Compares models on the cases that they have in common.

    Differences are model B minus model A, in the metric's unit; whether more is better is said
    beside them.

    Args:
        table: tidy results with a column `model`; `patient` is optional, without it each case is a
            patient of its own.
        baseline: model A of every comparison; None compares all models with each other, the earlier
            one as A.
        metrics: names; None takes all of `comparable_metrics` that are there.
        smallest_difference: of interest; a number is for the Dice-like metrics, others by name.
            None: 0.005 for Dice, surface Dice and relative similarity, 0 (any difference) for all
            others.
        unit: what is tested, the means of patients or single cases.
        resamples: bootstrap samples for the interval.
        seed: of the bootstrap.
        alpha: level of the tests (false discovery rate), and 1 − confidence of the intervals.
        empty: "exclude" leaves cases out whose reference lacks the object (in measures of overlap
            and distance), "one" takes their conventions (two empty masks: Dice 1).

    Returns:
        A row for each modality, class, metric and two models, with the columns:
        modality, class, metric, unit, family; higher_is_better; model_a, model_b;
        cases, patients: finite for both models, which the means are over;
        missing: cases that only one model has; absent: left out because their reference lacks the
            object; false_positives_a, false_positives_b: cases without it in which it was
            predicted; not_finite: left out of the means because a value is infinite or nan,
            not_finite_a and not_finite_b whose; infinite_a, infinite_b: of these, cases in which
            the model has no mask: they rank last;
        mean_a, mean_b, mean_difference, median_difference: over the cases;
        low, high: confidence interval of mean_difference, patients resampled
            (`confidence_interval`);
        tested, differing: number of units tested (with or without masks), and how many of them
            differ at all; tested_unit: "patient" or "case";
        p_value: `signed_rank_p`; p_adjusted: within the family; rank_biserial: > 0 if B is better;
        better, tied, worse: number of cases in which B is, where no mask is worse than any;
        smallest_difference; confidence;
        verdict: see `verdict`. nan where there are too few (`FEWEST_PATIENTS`).

    Raises:
        InputError: a column is missing, a row is there twice, a case has two patients, fewer than
            two models, an unknown baseline or metric, or a number out of range.

    Example:
        >>> import pandas as pd
        >>> import nnunet_liver_ext as nle
        >>> table = pd.DataFrame(
        ...     [
        ...         (f"P{patient}", model, "T1", "liver", "dice", dice + patient / 100, "")
        ...         for model, dice in (("stock", 0.80), ("ours", 0.85))
        ...         for patient in range(8)
        ...     ],
        ...     columns=["case", "model", "modality", "class", "metric", "value", "unit"],
        ... )
        >>> row = nle.compare_paired(table, baseline="stock").iloc[0]
        >>> row.verdict, float(round(row.mean_difference, 3)), float(row.p_value)  # p = 2 / 2^8
        ('better', 0.05, 0.0078125)
    """
    _check_numbers(unit, resamples, alpha)
    rows = fill_in_patients(table)
    pairs = model_pairs(list(dict.fromkeys(rows["model"])), baseline)
    to_compare = comparable_metrics(rows["metric"], metrics)
    smallest = smallest_differences(smallest_difference, to_compare)
    predicted = predicted_where_absent(rows)
    compared = [
        {
            **names,
            "family": metric.family,
            "higher_is_better": metric.higher_is_better,
            "model_a": a,
            "model_b": b,
            **_count_incomparable(
                of_object,
                predicted[
                    (predicted["modality"] == names["modality"])
                    & (predicted["class"] == names["class"])
                ],
                (a, b),
                left_out=empty == "exclude" and metric.needs_reference,
            ),
            **_statistics(
                _both_values(of_object, a, b),
                metric,
                smallest[metric.name],
                unit,
                1 - alpha,
                resamples,
                seed,
            ),
        }
        for metric, names, of_object in split_by_metric_and_object(
            rank_misses_last(compared_values(rows, to_compare, empty=empty), rows), to_compare
        )
        for a, b in pairs
    ]
    comparison = pd.DataFrame(compared)
    comparison["p_adjusted"] = adjust_within_families(comparison["p_value"], comparison["family"])
    comparison["verdict"] = [verdict(row) for row in comparison.to_dict("records")]
    return comparison


def model_pairs(models: Sequence[str], baseline: str | None) -> list[tuple[str, str]]:
    """(A, B) of every comparison.

    Raises:
        InputError: fewer than two models, or the baseline is none of them.
    """
    if len(models) < 2:
        raise InputError(
            f"a comparison needs two or more models, found {', '.join(models) or 'none'}."
        )
    if baseline is None:
        return list(itertools.combinations(models, 2))
    if baseline not in models:
        raise InputError(f"baseline {baseline}: is none of the models {', '.join(models)}.")
    return [(baseline, model) for model in models if model != baseline]


def better_tied_worse(gains: np.ndarray, smallest_difference: float) -> dict[str, int]:
    """Number of cases in which a model gains, neither, or loses.

    A gain that equals the smallest difference counts, one of 0 never does.
    """
    counts = (np.abs(gains) >= smallest_difference - ROUNDING) & (np.abs(gains) > ROUNDING)
    return {
        "better": int((counts & (gains > 0)).sum()),
        "tied": int((~counts).sum()),
        "worse": int((counts & (gains < 0)).sum()),
    }


def verdict(row: Mapping[Any, Any]) -> str:
    """What a comparison shows of model B, in a word.

    "no pairs": no case has values of both. "too few": no test. "identical": no tested unit differs.
    "contradictory": one model has fewer masks and, where both have one, the better mean; or
    significant, but the ranks say the opposite of the misses or the mean. "equivalent": the whole
    interval is within the smallest difference of interest. "small": only the mean difference is,
    whatever p. "not significant": p_adjusted > alpha. "better", "worse": significant, and not below
    the smallest difference of interest. A model that misses more is never equivalent.
    """
    smallest, gain = (
        row["smallest_difference"],
        row["mean_difference"] * (1 if row["higher_is_better"] else -1),
    )
    fewer_misses = row["infinite_a"] - row["infinite_b"]
    if not row["tested"]:
        return "no pairs"
    if math.isnan(row["p_value"]):
        return "too few"
    if not row["differing"]:
        return "identical"
    is_small = abs(gain) < max(smallest - ROUNDING, ROUNDING)
    if fewer_misses * gain < 0 and not is_small:
        return "contradictory"
    if not fewer_misses and abs(gain) < smallest - ROUNDING:
        return "equivalent" if -smallest < row["low"] and row["high"] < smallest else "small"
    if row["p_adjusted"] > 1 - row["confidence"] + ROUNDING:
        return "not significant"
    says_better = fewer_misses or gain
    if not says_better * row["rank_biserial"] > 0:
        return "contradictory"
    return "better" if says_better > 0 else "worse"


def _check_numbers(unit: str, resamples: int, alpha: float) -> None:
    if unit not in get_args(Unit):
        raise InputError(f"the unit of the test is patient or case, not {unit!r}.")
    if resamples < 100:
        raise InputError(f"the bootstrap needs 100 or more resamples, found {resamples}.")
    if not 0 < alpha < 1:
        raise InputError(f"alpha must lie between 0 and 1, found {alpha}.")


def _count_incomparable(
    rows: pd.DataFrame, predicted: pd.DataFrame, models: tuple[str, str], *, left_out: bool
) -> dict[str, int]:
    """How many cases cannot be compared, and why.

    Args:
        rows: of one metric and object.
        predicted: as `predicted_where_absent`, of the same object.
        models: A and B.
        left_out: whether the cases without the object are.
    """
    invented_a, invented_b = (_by_case(predicted, name, "predicted") for name in models)
    absent = invented_a.index.intersection(invented_b.index)
    values_a, values_b = (_by_case(rows, name, "value") for name in models)
    both = values_a.index.intersection(values_b.index)
    missing = len(values_a.index.union(values_b.index)) - len(both)
    both = both.difference(absent) if left_out else both
    known = both[values_a[both].notna() & values_b[both].notna()]
    finite_a, finite_b = np.isfinite(values_a), np.isfinite(values_b)
    return {
        "missing": missing,
        "absent": len(absent) if left_out else 0,
        "false_positives_a": int(invented_a[absent].sum()),
        "false_positives_b": int(invented_b[absent].sum()),
        "not_finite": int((~(finite_a[both] & finite_b[both])).sum()),
        "not_finite_a": int((~finite_a[both]).sum()),
        "not_finite_b": int((~finite_b[both]).sum()),
        "infinite_a": int((~finite_a[known]).sum()),
        "infinite_b": int((~finite_b[known]).sum()),
    }


def _by_case(rows: pd.DataFrame, model: str, column: str) -> pd.Series:
    return rows[rows["model"] == model].set_index("case")[column]


def _both_values(rows: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """patient, a, b: a row for each case with a value of both models, sorted; it may be infinite.

    `difference` is b − a, 0 where neither has a mask.
    """
    wide = rows.pivot(index=["case", "patient"], columns="model", values="value").reindex(
        columns=[a, b]
    )
    known = wide.dropna().reset_index().sort_values("case")
    values = pd.DataFrame({"patient": known["patient"], "a": known[a], "b": known[b]})
    return values.assign(difference=(values.b - values.a).where(values.a != values.b, 0.0))


def _mean_of_patient(differences: pd.Series) -> float:
    """The mean; infinite if a model has fewer masks, and over the other cases if both miss some."""
    net = float(np.sign(differences[np.isinf(differences)]).sum())
    finite = differences[np.isfinite(differences)]
    return math.copysign(math.inf, net) if net else float(finite.mean()) if len(finite) else 0.0


def _statistics(
    values: pd.DataFrame,
    metric: Metric,
    smallest: float,
    unit: Unit,
    confidence: float,
    resamples: int,
    seed: int,
) -> dict[str, float | int | str]:
    with_misses, sign = values["difference"], 1 if metric.higher_is_better else -1
    tested = (
        with_misses.groupby(values["patient"]).agg(_mean_of_patient)
        if unit == "patient"
        else with_misses
    ).to_numpy(float)
    finite = np.isfinite(values[["a", "b"]].to_numpy()).all(axis=1)
    values = values.loc[finite]
    differences = values["difference"]
    low, high = confidence_interval(
        differences.to_numpy(float),
        values["patient"].to_numpy(),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )
    return {
        "cases": len(values),
        "patients": values["patient"].nunique(),
        "mean_a": float(values["a"].mean()),
        "mean_b": float(values["b"].mean()),
        "mean_difference": float(differences.mean()),
        "median_difference": float(differences.median()),
        "low": low,
        "high": high,
        "tested": len(tested),
        "tested_unit": unit,
        "differing": int(np.round(tested, DIGITS).astype(bool).sum()),
        "p_value": signed_rank_p(tested),
        "rank_biserial": rank_biserial(sign * tested)
        if len(tested) >= FEWEST_PATIENTS
        else math.nan,
        **better_tied_worse(sign * with_misses.to_numpy(float), smallest),
        "smallest_difference": smallest,
        "confidence": confidence,
    }
