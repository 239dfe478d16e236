"""A prediction among several raters: is it as close to them as they are to one another?

Hänsch et al. 2022, "Segmentation performance" and "Detection performance". With the discrepancy ε =
1 − Dice, the uncertainty-aware score is φ = max(1 − α·ε̄(A, R) / ε̄(R), 0), where ε̄(A, R) is the
mean over the raters R of their discrepancy with the prediction A, and ε̄(R) is the mean over all two
raters. The paper takes φ and the
discrepancy from Moltz and α = 0.1, so that 0.9 is a prediction as far from the raters as they are
from one another. It does not say what holds where raters agree in every voxel (ε̄(R) = 0): here φ
is 1 if the prediction agrees with them too, else 0.

Masks are as in `metrics.dice`, whose value for two empty masks is 1: raters who all see nothing
agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy.typing as npt

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.lesions import (
    MIN_DICE,
    DetectionScores,
    detection_scores,
    match_lesions,
)
from nnunet_liver_ext.evaluation.metrics import dice

ALPHA = 0.1  # Hänsch et al. 2022, "Segmentation performance"


@dataclass(frozen=True)
class RaterScores:
    """Agreement of a prediction with its raters, and of these with one another."""

    dice: dict[str, float]
    """Dice of the prediction and each rater, by name."""
    mean_dice: float
    """Mean over the raters."""
    pairwise_dice: dict[tuple[str, str], float]
    """Dice of all two raters, once, by their names in the order given; empty for one rater."""
    mean_pairwise_dice: float
    """Mean over all two raters; nan for one rater."""
    phi: float
    """The uncertainty-aware score φ, 0..1; nan for one rater."""


def uncertainty_aware_score(
    pred: npt.ArrayLike, raters: Sequence[npt.ArrayLike], alpha: float = ALPHA
) -> float:
    """Uncertainty-aware score φ = max(1 − α·ε̄(A, R) / ε̄(R), 0) with ε = 1 − Dice.

    A score of 1 − α or more says that the prediction is as good as a rater.

    Args:
        pred: mask, bool or integer, any shape.
        raters: two or more masks of the same shape; their order does not matter.
        alpha: α, what is lost if the prediction is as far from the raters as they are from one
            another, 0..1.

    Returns:
        A number in 0..1. Raters that agree in every voxel: 1 if the prediction agrees too, else 0.
        Empty masks count with the Dice of `metrics.dice`: both empty 1, one empty 0.

    Raises:
        InputError: fewer than two raters, α outside 0..1, or an array is no mask or of another
            shape.

    Source:
        Hänsch et al. 2022, "Segmentation performance".

    Example:
        >>> import numpy as np
        >>> import nnunet_liver_ext as nle
        >>> anna, ben = np.array([1, 1, 1, 1, 0, 0]), np.array([0, 0, 1, 1, 1, 1])
        >>> round(nle.uncertainty_aware_score(np.array([0, 1, 1, 1, 0, 0]), [anna, ben]), 3)
        0.943
    """
    if len(raters) < 2:
        raise InputError(
            f"the uncertainty-aware score needs at least two raters, not {len(raters)}."
        )
    return rater_scores(pred, {str(n): rater for n, rater in enumerate(raters)}, alpha).phi


def rater_scores(
    pred: npt.ArrayLike, raters: Mapping[str, npt.ArrayLike], alpha: float = ALPHA
) -> RaterScores:
    """Dice with each rater and among the raters, their means, and φ.

    Args:
        pred: mask, bool or integer, any shape.
        raters: one or more masks of the same shape, by name.
        alpha: see `uncertainty_aware_score`.

    Returns:
        The scores. With one rater there is nothing to compare with: no Dice among raters, and nan
        for its mean and φ. Empty masks count as in `uncertainty_aware_score`.

    Raises:
        InputError: no rater, α outside 0..1, or an array is no mask or of another shape.

    Source:
        Hänsch et al. 2022, "Segmentation performance".
    """
    if not raters:
        raise InputError("rater_scores needs the mask of at least one rater, not an empty mapping.")
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha must lie in 0..1, not {alpha}.")
    with_each = {name: dice(pred, rater) for name, rater in raters.items()}
    among = {(a, b): dice(raters[a], raters[b]) for a, b in combinations(raters, 2)}
    mean, mean_among = fmean(with_each.values()), fmean(among.values()) if among else math.nan
    return RaterScores(with_each, mean, among, mean_among, _phi(1 - mean, 1 - mean_among, alpha))


def rater_detection(
    raters: Mapping[str, npt.ArrayLike], min_dice: float = MIN_DICE
) -> dict[tuple[str, str], DetectionScores]:
    """Lesion detection of each rater measured by each other one.

    One of the two is the reference, the other the prediction. Both directions have one matching, so
    recall of (a, b) is precision of (b, a), and F1 is the same.

    Args:
        raters: masks or lesion maps of one shape by name, as for `lesions.match_lesions`.
        min_dice: a correspondence with a higher Dice is a true positive, 0..1.

    Returns:
        Scores by the names (reference, prediction), in both directions; empty for fewer than two
        raters. Ratios without lesions are nan, see `lesions.detection_scores`.

    Raises:
        InputError: as `lesions.match_lesions`.

    Source:
        Hänsch et al. 2022, "Detection performance" and table 2.
    """
    scores: dict[tuple[str, str], DetectionScores] = {}
    for a, b in combinations(raters, 2):
        forth = detection_scores(match_lesions(raters[a], raters[b], min_dice))
        scores[a, b] = forth
        scores[b, a] = DetectionScores(
            forth.true_positives, forth.false_negatives, forth.false_positives
        )
    return scores


def _phi(discrepancy: float, among_raters: float, alpha: float) -> float:
    """φ from the mean discrepancies with the raters and among them; nan if either is."""
    if among_raters == 0:
        return 1.0 if discrepancy == 0 else 0.0
    phi = 1 - alpha * discrepancy / among_raters
    return phi if math.isnan(phi) else max(phi, 0.0)
