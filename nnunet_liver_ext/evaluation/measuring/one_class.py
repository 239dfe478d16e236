"""All that is measured of one class in one case, with what options, images and raters add."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunet_liver_ext.evaluation.fat_and_tumour_burden import fat_fraction, tumour_burden
from nnunet_liver_ext.evaluation.lesion_scores import sphere_diameter_mm
from nnunet_liver_ext.evaluation.lesions import (
    LesionMatch,
    detection_scores,
    match_lesions,
)
from nnunet_liver_ext.evaluation.measuring.surroundings import Surroundings
from nnunet_liver_ext.evaluation.metric_catalogue import measure
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.plausibility import left_share, outside_body_share, pieces
from nnunet_liver_ext.evaluation.raters import rater_scores
from nnunet_liver_ext.space.images import Grid

Values = dict[str, float]
"""By metric."""
Row = dict[str, Any]


Details = dict[str, list[Row]]
"""Rows of further tables by their names."""


@dataclass(frozen=True)
class ClassMasks:
    """The masks of one class in one case, bool (z, y, x)."""

    pred: np.ndarray
    references: Mapping[str, np.ndarray]
    """By rater."""
    organ: tuple[np.ndarray, Mapping[str, np.ndarray]] | None
    """The organ that lesions are in, of the prediction and by rater, if it is known."""


def measure_class(
    masks: ClassMasks, around: Surroundings, options: Options, *, is_lesion: bool
) -> tuple[Values, Details]:
    """All metrics of one class, and rows of further tables by their names.

    What depends on the reference is the mean over the raters. The tables are "raters", and for
    classes of lesions "detection" and "lesions".
    """
    spacing_mm = around.grid.spacing_mm
    by_rater = {
        rater: measure(masks.pred, ref, spacing_mm, options)
        for rater, ref in masks.references.items()
    }
    values = mean_over(by_rater.values())
    if options.wants("plausibility"):
        values |= _plausibility(masks.pred, around)
    if len(masks.references) > 1:
        agreement = rater_scores(masks.pred, masks.references)
        values |= {
            "rater_dice": agreement.mean_pairwise_dice,
            "uncertainty_aware_score": agreement.phi,
        }
    if around.fat_percent is not None:
        values |= _fat(masks, around.fat_percent, around.grid, options)
    details: Details = {"raters": rater_rows(masks, options, is_lesion=is_lesion)}
    if is_lesion:
        of_lesions, more = _lesions(masks, around.grid, options)
        values, details = values | of_lesions, details | more
    return values, details


def mean_over(values: Iterable[Values]) -> Values:
    """The mean of each metric over the raters for which it exists; inf if one of them is."""
    several = list(values)
    return {
        name: _mean([values_of_rater[name] for values_of_rater in several]) for name in several[0]
    }


def rater_rows(masks: ClassMasks, options: Options, *, is_lesion: bool) -> list[Row]:
    """A row for how the prediction and each rater, and each two raters, agree; none for one rater.

    `second` is the reference of the detection of lesions (true positives and so on), for classes of
    lesions.
    """
    if len(masks.references) < 2:
        return []
    scores = rater_scores(masks.pred, masks.references)
    rows: list[Row] = [
        {"first": "prediction", "second": rater, "dice": value}
        for rater, value in scores.dice.items()
    ]
    rows += [
        {"first": a, "second": b, "dice": value} for (a, b), value in scores.pairwise_dice.items()
    ]
    if is_lesion:
        everyone = {"prediction": masks.pred, **masks.references}
        for row in rows:
            match = match_lesions(
                everyone[row["second"]], everyone[row["first"]], options.min_lesion_dice
            )
            detection = detection_scores(match)
            row |= {
                **vars(detection),
                "recall": detection.recall,
                "precision": detection.precision,
                "f1": detection.f1,
            }
    return rows


def _mean(values: Sequence[float]) -> float:
    existing = [value for value in values if not math.isnan(value)]
    return float(np.mean(existing)) if existing else math.nan


def _plausibility(pred: np.ndarray, around: Surroundings) -> Values:
    of_mask = pieces(pred, around.grid.spacing_mm)
    values = {
        "pieces": float(of_mask.count),
        "share_outside_largest_piece": 100 * of_mask.share_outside_largest,
        "share_on_the_left": 100 * left_share(pred, around.grid, midline_mm=around.midline_mm),
    }
    if around.body is not None:
        values["share_outside_the_body"] = 100 * outside_body_share(pred, around.body)
    return values


def _fat(masks: ClassMasks, fat_percent: np.ndarray, grid: Grid, options: Options) -> Values:
    def measure_fat(mask: np.ndarray) -> Values:
        fat = fat_fraction(fat_percent, mask, grid.spacing_mm, margin_mm=options.fat_margin_mm)
        return {"mean": fat.mean_percent, "median": fat.median_percent}

    pred = measure_fat(masks.pred)
    ref = mean_over([measure_fat(mask) for mask in masks.references.values()])
    values = {}
    for name in pred:
        values[f"fat_{name}_prediction"] = pred[name]
        values[f"fat_{name}_reference"] = ref[name]
        values[f"fat_{name}_difference"] = pred[name] - ref[name]
    return values


def _lesions(masks: ClassMasks, grid: Grid, options: Options) -> tuple[Values, Details]:
    by_rater: list[Values] = []
    details: Details = {"detection": [], "lesions": []}
    for rater, ref in masks.references.items():
        match = match_lesions(ref, masks.pred, options.min_lesion_dice, spacing_mm=grid.spacing_mm)
        scores = detection_scores(match)
        by_rater.append(
            {
                "lesions_prediction": float(len(match.prediction_voxels)),
                "lesions_reference": float(len(match.reference_voxels)),
                "lesion_true_positives": float(scores.true_positives),
                "lesion_false_positives": float(scores.false_positives),
                "lesion_false_negatives": float(scores.false_negatives),
                "lesion_recall": scores.recall,
                "lesion_precision": scores.precision,
                "lesion_f1": scores.f1,
            }
        )
        details["detection"].append(
            {"rater": rater, **vars(scores), "matched_exactly": match.exact}
        )
        details["lesions"] += [{"rater": rater, **row} for row in lesion_rows(match)]
    return mean_over(by_rater) | _burden(masks), details


def _burden(masks: ClassMasks) -> Values:
    if masks.organ is None:
        return {}
    predicted_organ, organ_by_rater = masks.organ
    pred = tumour_burden(masks.pred, predicted_organ)
    ref = _mean(
        [tumour_burden(mask, organ_by_rater[rater]) for rater, mask in masks.references.items()]
    )
    return {"burden_prediction": pred, "burden_reference": ref, "burden_difference": pred - ref}


def lesion_rows(match: LesionMatch) -> list[Row]:
    """A row for each correspondence, and for each lesion that is in none.

    Columns: found, reference, prediction (lesion numbers), dice, reference_mm, prediction_mm.
    `found` is "hit" or "poor" (Dice too low: a miss and a false lesion) for correspondences,
    "missed" or "false" for lesions without counterpart. Diameters are those of the spheres of the
    same volume.
    """

    def diameter(volume_ml: float | None) -> float:
        return sphere_diameter_mm(volume_ml) if volume_ml else math.nan

    rows = [
        {
            "found": "hit" if matched.hit else "poor",
            "reference": " ".join(map(str, matched.reference)),
            "prediction": " ".join(map(str, matched.prediction)),
            "dice": matched.dice,
            "reference_mm": diameter(matched.reference_ml),
            "prediction_mm": diameter(matched.prediction_ml),
        }
        for matched in match.correspondences
    ]
    missed, false = match.reference_ml or {}, match.prediction_ml or {}
    rows += [
        {
            "found": "missed",
            "reference": str(n),
            "prediction": "",
            "dice": 0.0,
            "reference_mm": diameter(missed.get(n)),
            "prediction_mm": math.nan,
        }
        for n in match.unmatched_reference
    ]
    rows += [
        {
            "found": "false",
            "reference": "",
            "prediction": str(n),
            "dice": 0.0,
            "reference_mm": math.nan,
            "prediction_mm": diameter(false.get(n)),
        }
        for n in match.unmatched_prediction
    ]
    return rows
