"""Detection of lesions by their size, and in a whole dataset."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.lesions import DetectionScores, LesionMatch, detection_scores
from nnunet_liver_ext.evaluation.metrics import ML_PER_MM3


@dataclass(frozen=True)
class PooledScores:
    """Detection in a dataset."""

    scores: DetectionScores
    """From the summed counts of all cases: every lesion weighs the same."""
    cases: int
    false_positives_per_case_median: float
    """The median over the cases, as in Hänsch et al. 2022, table 2; nan without cases."""
    false_positives_per_case_mean: float
    """The mean over the cases; nan without cases."""


def scores_by_size(
    match: LesionMatch, edges_mm: Sequence[float] = (10, 20)
) -> dict[tuple[float, float], DetectionScores]:
    """Detection scores in classes of the lesions' size.

    The size is the diameter of the sphere with the same volume, d = (6·V / π)^(1/3). True positives
    and false negatives count in the class of their reference volume (a correspondence's reference
    lesions together), false positives in the class of their predicted volume. So recall is that of
    reference lesions of a size, and the counts of all classes add up to those of
    `detection_scores`.

    Args:
        match: with volumes in ml, that is from `match_lesions` with spacing_mm.
        edges_mm: the limits between the classes, positive, finite and ascending.

    Returns:
        Scores by (lower, upper) with lower ≤ d < upper, from 0 to inf in mm; nan where a class has
        nothing to count, so everywhere if both masks are empty.

    Raises:
        InputError: the match has no volumes in ml, or the edges are not as above.
    """
    edges = [float(edge) for edge in edges_mm]
    if not all(low < high < math.inf for low, high in zip([0.0, *edges], edges, strict=False)):
        raise InputError(f"edges_mm must be positive, finite and ascending, not {edges_mm!r}.")
    if match.voxel_ml is None:
        raise InputError("sizes in mm need volumes in ml: give spacing_mm to match_lesions.")
    hits = [both for both in match.correspondences if both.hit]
    weak = [both for both in match.correspondences if not both.hit]
    invented = [match.prediction_voxels[n] for n in match.unmatched_prediction]
    missed = [match.reference_voxels[n] for n in match.unmatched_reference]
    groups = (
        [hit.reference_voxels for hit in hits],
        [miss.prediction_voxels for miss in weak] + invented,
        [miss.reference_voxels for miss in weak] + missed,
    )
    counts = [
        _count_by_diameter([voxels * match.voxel_ml for voxels in group], edges) for group in groups
    ]
    bounds = zip([0.0, *edges], [*edges, math.inf], strict=True)
    return {
        bound: DetectionScores(*of_class) for bound, *of_class in zip(bounds, *counts, strict=True)
    }


def pooled_scores(matches: Iterable[LesionMatch | DetectionScores]) -> PooledScores:
    """Detection in a dataset: scores from the summed counts, and the false positives per case.

    Hänsch et al. 2022, table 2, instead average each case's recall, precision and F1, where a case
    with one lesion weighs as much as one with thirty; their false positives per case (FPC) are the
    median.

    Args:
        matches: one for each case, or its scores.

    Returns:
        The scores; without cases, or without lesions in them, the counts are 0 and the ratios nan.
    """
    scores = [
        case if isinstance(case, DetectionScores) else detection_scores(case) for case in matches
    ]
    false_positives = [case.false_positives for case in scores]
    return PooledScores(
        DetectionScores(
            sum(case.true_positives for case in scores),
            sum(false_positives),
            sum(case.false_negatives for case in scores),
        ),
        len(scores),
        float(median(false_positives)) if scores else math.nan,
        fmean(false_positives) if scores else math.nan,
    )


def sphere_diameter_mm(volume_ml: float) -> float:
    """Diameter in mm of the sphere with this volume, (6·V / π)^(1/3)."""
    return math.cbrt(6 * volume_ml / ML_PER_MM3 / math.pi)


def _count_by_diameter(volumes_ml: Sequence[float], edges_mm: Sequence[float]) -> list[int]:
    """How many lesions have a diameter in each class."""
    classes = np.digitize([sphere_diameter_mm(volume) for volume in volumes_ml], edges_mm)
    counts: list[int] = np.bincount(classes.astype(np.int64), minlength=len(edges_mm) + 1).tolist()
    return counts
