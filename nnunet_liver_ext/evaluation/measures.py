"""What is measured of one object in one case: the metrics of the tables, with titles, units and number formats."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nnunet_liver_ext.evaluation.metrics import dice, surface_distances, volume_ml

DEFAULT_TOLERANCE_MM = 2.0


@dataclass(frozen=True)
class Metric:
    """One column of the results. `name` is what the tables say, `title` what the report says; unit "1" is a plain number."""

    name: str
    title: str
    unit: str
    decimals: int

    def format(self, value: float) -> str:
        """The value for a reader, without its unit."""
        if math.isnan(value):
            return "–"
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        return f"{value:.{self.decimals}f}".replace("-", "−")


METRICS = {
    metric.name: metric
    for metric in (
        Metric("dice", "Dice", "1", 3),
        Metric("surface_dice", "Surface Dice", "1", 3),
        Metric("hd", "HD", "mm", 1),
        Metric("hd95", "HD95", "mm", 1),
        Metric("asd", "ASD", "mm", 2),
        Metric("volume_prediction", "Volume, prediction", "ml", 0),
        Metric("volume_reference", "Volume, reference", "ml", 0),
        Metric("volume_difference", "Volume difference", "ml", 1),
    )
}


PAIR_METRICS = {
    metric.name: metric
    for metric in (
        Metric("relative_similarity_prediction", "Relative similarity, predictions", "1", 3),
        Metric("relative_similarity_reference", "Relative similarity, references", "1", 3),
        Metric("relative_similarity_gain", "Relative similarity, difference", "1", 3),
        Metric("pair_volume_difference_prediction", "Volume, first minus second image, predictions", "ml", 1),
        Metric("pair_volume_difference_reference", "Volume, first minus second image, references", "ml", 1),
    )
}
"""Of both masks of a pair, see `pairs`."""


def measure(
    pred: np.ndarray, ref: np.ndarray, spacing_mm: tuple[float, float, float], *, tolerance_mm: float
) -> dict[str, float]:
    """All metrics of one prediction and its reference, by name.

    Args:
        pred: mask, bool (z, y, x).
        ref: mask of the same shape.
        spacing_mm: (z, y, x).
        tolerance_mm: of the surface Dice.

    Returns:
        One value for each of `METRICS`; volume_difference is prediction minus reference. Empty masks as in `metrics`.
    """
    distances = surface_distances(pred, ref, spacing_mm)
    volumes = volume_ml(pred, spacing_mm), volume_ml(ref, spacing_mm)
    return {
        "dice": dice(pred, ref),
        "surface_dice": distances.surface_dice(tolerance_mm),
        "hd": distances.hausdorff_distance(),
        "hd95": distances.hausdorff_distance(percentile=95),
        "asd": distances.average_surface_distance(),
        "volume_prediction": volumes[0],
        "volume_reference": volumes[1],
        "volume_difference": volumes[0] - volumes[1],
    }
