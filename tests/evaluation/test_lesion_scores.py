"""Detection by the size of lesions, and in a whole dataset."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.lesion_scores import (
    pooled_scores,
    scores_by_size,
    sphere_diameter_mm,
)
from nnunet_liver_ext.evaluation.lesions import DetectionScores, detection_scores, match_lesions
from tests.evaluation.lesion_lines import line


def test_the_diameter_is_that_of_the_sphere():
    assert sphere_diameter_mm(4 / 3 * math.pi * 0.5**3) == pytest.approx(10)
    assert sphere_diameter_mm(0) == 0


def blocks(*sides):
    """Blocks of 2 x n x n voxels for these n, side by side, 0 for none."""
    mask = np.zeros((4, 40, 40 * len(sides)), bool)
    for n, side in enumerate(sides):
        mask[:2, :side, 40 * n : 40 * n + side] = True
    return mask


def test_scores_by_size():
    """The diameters for n = 10, 20, 38 are 7.3, 11.5, 17.7 mm."""
    ref, pred = blocks(10, 20, 38, 0, 0), blocks(0, 20, 0, 38, 10)
    match = match_lesions(ref, pred, spacing_mm=(1, 1, 1))
    assert scores_by_size(match, (8, 15)) == {
        (0, 8): DetectionScores(0, 1, 1),
        (8, 15): DetectionScores(1, 0, 0),
        (15, math.inf): DetectionScores(0, 1, 1),
    }
    assert list(scores_by_size(match)) == [(0, 10), (10, 20), (20, math.inf)]
    assert scores_by_size(match, ()) == {(0, math.inf): detection_scores(match)}


def test_hits_have_the_size_of_their_reference_and_false_positives_their_own():
    """Two blocks of 11.5 mm are 14.5 mm together; the predictions 29.0 and 23.0 mm."""
    together = match_lesions(blocks(20, 20), np.ones((4, 40, 80), bool), 0, spacing_mm=(1, 1, 1))
    assert scores_by_size(together, (14, 20))[14, 20] == DetectionScores(1, 0, 0)
    weak = match_lesions(blocks(10), np.ones((4, 40, 40), bool), spacing_mm=(1, 1, 1))
    assert scores_by_size(weak, (10,)) == {
        (0, 10): DetectionScores(0, 0, 1),
        (10, math.inf): DetectionScores(0, 1, 0),
    }


def test_a_size_at_an_edge_is_in_the_upper_class():
    ref = line("1")
    match = match_lesions(ref, ref, spacing_mm=(1, 1, 1))
    assert (
        scores_by_size(match, (sphere_diameter_mm(1e-3),))[
            sphere_diameter_mm(1e-3), math.inf
        ].true_positives
        == 1
    )


def test_size_follows_the_spacing():
    ref = blocks(20)
    for spacing_mm, expected in [
        ((1, 1, 1), (10, 20)),
        ((5, 2, 2), (20, math.inf)),
        ((0.5, 0.5, 0.5), (0, 10)),
    ]:
        scores = scores_by_size(match_lesions(ref, ref, spacing_mm=spacing_mm))
        assert [bounds for bounds, own in scores.items() if own.true_positives] == [expected]


def test_pooled_scores_sum_the_counts():
    cases = [DetectionScores(3, 0, 1), DetectionScores(1, 4, 1), DetectionScores(0, 5, 0)]
    pooled = pooled_scores(cases)
    assert pooled.scores == DetectionScores(4, 9, 2)
    assert (
        pooled.cases,
        pooled.false_positives_per_case_median,
        pooled.false_positives_per_case_mean,
    ) == (3, 4, 3)
    match = match_lesions(line("01101"), line("01100"))
    assert pooled_scores([match, match]).scores == DetectionScores(2, 0, 2)


def test_pooled_scores_of_nothing():
    for own in (pooled_scores([]), pooled_scores([DetectionScores(0, 0, 0)])):
        assert math.isnan(own.scores.recall)
    assert pooled_scores([]).cases == 0
    assert math.isnan(pooled_scores([]).false_positives_per_case_median)
    assert math.isnan(pooled_scores([]).false_positives_per_case_mean)


@pytest.mark.parametrize(
    "edges_mm", [(20, 10), (10, 10), (0, 10), (-1,), (math.nan,), (10, math.inf)]
)
def test_size_classes_must_ascend(edges_mm):
    match = match_lesions(line("01"), line("01"), spacing_mm=(1, 1, 1))
    with pytest.raises(InputError, match="edges_mm must be positive, finite and ascending"):
        scores_by_size(match, edges_mm)


def test_sizes_need_a_spacing():
    with pytest.raises(InputError, match="give spacing_mm to match_lesions"):
        scores_by_size(match_lesions(line("01"), line("01")))
