"""What is measured: the metrics of the tables, with titles and units, and those of one object in
one case."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nnunet_liver_ext.evaluation.metrics import (
    dice,
    relative_volume_difference,
    surface_distances,
    volume_ml,
)
from nnunet_liver_ext.evaluation.options import Options

Family = Literal[
    "overlap", "surface", "volume", "fat", "detection", "raters", "pair", "plausibility"
]
"""Kinds of measures; p values are corrected for the number of tests within one (Hänsch et al. 2022,
section 3.5)."""
Better = Literal["higher", "lower", "nearer zero"]


@dataclass(frozen=True)
class Metric:
    """One kind of value in the results. `name` is what the tables say, `title` what the report
    says."""

    name: str
    title: str
    unit: str
    """"1" is a plain number."""
    decimals: int
    family: Family
    better: Better | None = None
    """None: neither a higher nor a lower value is better."""

    def format(self, value: float) -> str:
        """The value for a reader, without its unit."""
        if math.isnan(value):
            return "–"
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        return f"{value:.{self.decimals}f}".replace("-", "−")


def _by_name(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


IMAGE_METRICS = _by_name(
    Metric("dice", "Dice", "1", 3, "overlap", "higher"),
    Metric("iou", "IoU", "1", 3, "overlap", "higher"),
    Metric("surface_dice", "Surface Dice", "1", 3, "surface", "higher"),
    Metric("hd", "HD", "mm", 1, "surface", "lower"),
    Metric("hd95", "HD95", "mm", 1, "surface", "lower"),
    Metric("asd", "ASD", "mm", 2, "surface", "lower"),
    Metric("masd", "MASD", "mm", 2, "surface", "lower"),
    Metric("volume_prediction", "Volume, prediction", "ml", 0, "volume"),
    Metric("volume_reference", "Volume, reference", "ml", 0, "volume"),
    Metric("volume_difference", "Volume difference", "ml", 1, "volume", "nearer zero"),
    Metric(
        "relative_volume_difference", "Relative volume difference", "%", 1, "volume", "nearer zero"
    ),
)
"""Of the mask of one class."""

CHAOS_METRICS = _by_name(
    Metric("chaos_dice", "DICE (CHAOS)", "1", 3, "overlap", "higher"),
    Metric("chaos_ravd", "RAVD (CHAOS)", "%", 2, "volume", "lower"),
    Metric("chaos_assd", "ASSD (CHAOS)", "mm", 2, "surface", "lower"),
    Metric("chaos_mssd", "MSSD (CHAOS)", "mm", 1, "surface", "lower"),
)
"""The values of the CHAOS challenge's evaluation (Kavur et al. 2021), with `convention="chaos"`."""

FAT_METRICS = _by_name(
    Metric("fat_mean_prediction", "Fat fraction, mean, prediction", "%", 1, "fat"),
    Metric("fat_mean_reference", "Fat fraction, mean, reference", "%", 1, "fat"),
    Metric("fat_mean_difference", "Fat fraction, mean, difference", "%", 2, "fat", "nearer zero"),
    Metric("fat_median_prediction", "Fat fraction, median, prediction", "%", 1, "fat"),
    Metric("fat_median_reference", "Fat fraction, median, reference", "%", 1, "fat"),
    Metric(
        "fat_median_difference", "Fat fraction, median, difference", "%", 2, "fat", "nearer zero"
    ),
)
"""Where there is an image of the fat fraction."""

LESION_METRICS = _by_name(
    Metric("lesions_prediction", "Lesions, prediction", "1", 0, "detection"),
    Metric("lesions_reference", "Lesions, reference", "1", 0, "detection"),
    Metric("lesion_true_positives", "Lesions found", "1", 0, "detection", "higher"),
    Metric("lesion_false_positives", "False lesions", "1", 0, "detection", "lower"),
    Metric("lesion_false_negatives", "Lesions missed", "1", 0, "detection", "lower"),
    Metric("lesion_recall", "Lesion recall", "1", 3, "detection", "higher"),
    Metric("lesion_precision", "Lesion precision", "1", 3, "detection", "higher"),
    Metric("lesion_f1", "Lesion F1", "1", 3, "detection", "higher"),
    Metric("burden_prediction", "Tumour burden, prediction", "%", 2, "volume"),
    Metric("burden_reference", "Tumour burden, reference", "%", 2, "volume"),
    Metric("burden_difference", "Tumour burden, difference", "%", 2, "volume", "nearer zero"),
)
"""Of the classes that are measured lesion by lesion."""

RATER_METRICS = _by_name(
    Metric("rater_dice", "Dice between raters", "1", 3, "raters"),
    Metric("uncertainty_aware_score", "φ", "1", 3, "raters", "higher"),
)
"""Where there are several references."""

PLAUSIBILITY_METRICS = _by_name(
    Metric("pieces", "Pieces", "1", 0, "plausibility"),
    Metric(
        "share_outside_largest_piece", "Outside the largest piece", "%", 1, "plausibility", "lower"
    ),
    Metric("share_on_the_left", "On the patient's left", "%", 1, "plausibility"),
    Metric("share_outside_the_body", "Outside the body", "%", 1, "plausibility", "lower"),
)
"""Of the prediction alone."""

PAIR_METRICS = _by_name(
    Metric(
        "relative_similarity_prediction",
        "Relative similarity, predictions",
        "1",
        3,
        "pair",
        "higher",
    ),
    Metric("relative_similarity_reference", "Relative similarity, references", "1", 3, "pair"),
    Metric("relative_similarity_gain", "Relative similarity, difference", "1", 3, "pair", "higher"),
    Metric(
        "pair_volume_difference_prediction",
        "Volume, first minus second image, predictions",
        "ml",
        1,
        "pair",
        "nearer zero",
    ),
    Metric(
        "pair_volume_difference_reference",
        "Volume, first minus second image, references",
        "ml",
        1,
        "pair",
    ),
)
"""Of both masks of a pair, see `pairs`."""

METRICS = (
    IMAGE_METRICS
    | CHAOS_METRICS
    | FAT_METRICS
    | LESION_METRICS
    | RATER_METRICS
    | PLAUSIBILITY_METRICS
    | PAIR_METRICS
)


def measure(
    pred: np.ndarray,
    ref: np.ndarray,
    spacing_mm: tuple[float, float, float],
    options: Options = Options(),
) -> dict[str, float]:
    """All metrics of one prediction and its reference, by name.

    Args:
        pred: mask, bool (z, y, x).
        ref: mask of the same shape.
        spacing_mm: (z, y, x).
        options: tolerance, convention, and what is measured.

    Returns:
        One value for each of `IMAGE_METRICS` that the options want, and with the convention "chaos"
        of `CHAOS_METRICS`. Differences are prediction minus reference. Empty masks as in `metrics`.
    """
    overlap = dice(pred, ref)
    values = {"dice": overlap, "iou": overlap / (2 - overlap)}
    if options.wants("surface"):
        distances = surface_distances(pred, ref, spacing_mm, convention=options.convention)
        values |= {
            "surface_dice": distances.surface_dice(options.tolerance_mm),
            "hd": distances.hausdorff_distance(),
            "hd95": distances.hausdorff_distance(percentile=95),
            "asd": distances.average_surface_distance(),
            "masd": distances.mean_average_surface_distance(),
        }
    if options.wants("volume"):
        volumes = volume_ml(pred, spacing_mm), volume_ml(ref, spacing_mm)
        values |= {
            "volume_prediction": volumes[0],
            "volume_reference": volumes[1],
            "volume_difference": volumes[0] - volumes[1],
            "relative_volume_difference": relative_volume_difference(pred, ref),
        }
    return values | (_as_chaos_calls_them(values) if options.convention == "chaos" else {})


CHAOS_NAMES = {
    "chaos_dice": "dice",
    "chaos_ravd": "relative_volume_difference",
    "chaos_assd": "asd",
    "chaos_mssd": "hd",
}


def _as_chaos_calls_them(values: dict[str, float]) -> dict[str, float]:
    return {name: abs(values[own]) for name, own in CHAOS_NAMES.items() if own in values}
