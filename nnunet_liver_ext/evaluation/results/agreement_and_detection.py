"""What results say beyond means: agreement of quantities, and detection in all cases together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pandas as pd

from nnunet_liver_ext.evaluation.agreement import (
    limits_of_agreement,
    summarise_errors,
    threshold_agreement,
)
from nnunet_liver_ext.evaluation.lesions import DetectionScores
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.tidy_table import group_rows

QUANTITIES = ("volume", "fat_mean", "fat_median", "burden")
"""Each has the metrics NAME_prediction and NAME_reference."""
SIZE_COLUMNS = ("reference_mm", "prediction_mm")
SIZES_MM = (10, 20)
"""Between the classes of lesion diameters."""


def agreements(table: pd.DataFrame) -> list[dict[str, Any]]:
    """How well measured quantities agree with those of the references.

    Returns:
        A row for each modality, class and quantity: modality, class, quantity, unit, the values of
        `agreement.ErrorSummary`, and for fat fractions `fatty` with those of
        `agreement.ThresholdAgreement`. Pairs have the quantity "pair_volume_difference": limits of
        agreement of image 1's volume minus image 2's, for predictions and references.
    """
    rows = []
    for (modality, name), of_object in group_rows(table, ["modality", "class"]):
        values = of_object.pivot(index="case", columns="metric", values="value")
        for quantity in QUANTITIES:
            sides = [f"{quantity}_{side}" for side in ("prediction", "reference")]
            if not set(sides) <= set(values.columns):
                continue
            measured, reference = (values[side].to_numpy(float) for side in sides)
            row = {
                "modality": modality,
                "class": name,
                "quantity": quantity,
                "unit": METRICS[sides[0]].unit,
            }
            rows.append({**row, **asdict(summarise_errors(measured, reference))})
            if quantity.startswith("fat"):
                rows[-1]["fatty"] = _threshold(measured, reference)
        rows += _of_pairs(modality, name, values)
    return rows


def detections(details: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """How many lesions were found in all cases together.

    Args:
        details: the tables "detection" (a row for each case) and "lesions" (a row for each
            correspondence and each lesion in none), if there are any.

    Returns:
        modality, class, rater, size ("all", or the diameter in mm: "0 to 10", "10 to 20", "20 and
            more"), the counts and
        ratios of `lesions.DetectionScores`, and for all sizes the number of cases and the median of
        their false positives. Hits and misses have the size of the reference, false lesions their
        own (as `lesion_scores.scores_by_size`).
    """
    if "detection" not in details:
        return []
    rows = []
    for (modality, name, rater), per_case in group_rows(
        details["detection"], ["modality", "class", "rater"]
    ):
        names = {"modality": modality, "class": name, "rater": rater}
        false_positives = per_case.false_positives
        counts = [
            int(per_case[count].sum())
            for count in ("true_positives", "false_positives", "false_negatives")
        ]
        median = {
            "cases": len(per_case),
            "false_positives_per_case_median": float(false_positives.median()),
        }
        rows.append({**names, "size": "all", **_scores(*counts), **median})
        lesions = details.get(
            "lesions", pd.DataFrame(columns=["modality", "class", "rater", "found", *SIZE_COLUMNS])
        )
        lesions = lesions[
            (lesions.modality == modality) & (lesions["class"] == name) & (lesions.rater == rater)
        ]
        for low, high in pairwise([0, *SIZES_MM, math.inf]):
            size = f"{low:g} and more" if high == math.inf else f"{low:g} to {high:g}"
            rows.append({**names, "size": size, **_counts(lesions, low, high)})
    return rows


def _counts(lesions: pd.DataFrame, low: float, high: float) -> dict[str, Any]:
    def within(sizes: pd.Series) -> pd.Series:
        return (sizes >= low) & (sizes < high)

    of_reference, of_prediction = within(lesions.reference_mm), within(lesions.prediction_mm)
    return _scores(
        int((of_reference & (lesions.found == "hit")).sum()),
        int((of_prediction & lesions.found.isin(["poor", "false"])).sum()),
        int((of_reference & lesions.found.isin(["poor", "missed"])).sum()),
    )


def _scores(true_positives: int, false_positives: int, false_negatives: int) -> dict[str, Any]:
    scores = DetectionScores(true_positives, false_positives, false_negatives)
    return {**vars(scores), "recall": scores.recall, "precision": scores.precision, "f1": scores.f1}


def _of_pairs(modality: str, name: str, values: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for side in ("prediction", "reference"):
        metric = f"pair_volume_difference_{side}"
        if metric in values.columns:
            limits = asdict(limits_of_agreement(values[metric].to_numpy(float)))
            row = {
                "modality": modality,
                "class": name,
                "quantity": "pair_volume_difference",
                "unit": "ml",
                "side": side,
            }
            rows.append({**row, "limits": limits})
    return rows


def _threshold(measured: Any, reference: Any) -> dict[str, Any]:
    agreement = threshold_agreement(measured, reference)
    ratios = {
        name: getattr(agreement, name)
        for name in ("sensitivity", "specificity", "accuracy", "kappa")
    }
    return {**asdict(agreement), **ratios}
