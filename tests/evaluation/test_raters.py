"""Known values of φ and of the raters' agreement, edge cases, invariants, bad input."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.lesions import DetectionScores
from nnunet_liver_ext.evaluation.raters import (
    rater_detection,
    rater_scores,
    uncertainty_aware_score,
)


def line(labels):
    """A volume of one row; "0110" is a mask with one lesion of two voxels."""
    return np.array([int(label) for label in labels])[None, None]


# Each pair of these shares two of four voxels: Dice 1/2.
FIRST, SECOND, THIRD = line("11110000"), line("11001100"), line("11000011")
EMPTY = np.zeros_like(FIRST)


def test_as_far_from_the_raters_as_they_are_from_one_another_is_one_minus_alpha():
    assert uncertainty_aware_score(THIRD, [FIRST, SECOND]) == pytest.approx(0.9)
    assert uncertainty_aware_score(THIRD, [FIRST, SECOND], alpha=0.3) == pytest.approx(0.7)


def test_scores_by_hand():
    """Dice 1, 1/2, 1/2 with the raters and 1/2 between all of them: φ = 1 - 0.1 · (1/3) / (1/2)."""
    scores = rater_scores(FIRST, {"R1": FIRST, "R2": SECOND, "R3": THIRD})
    assert scores.dice == {"R1": 1, "R2": 0.5, "R3": 0.5}
    assert scores.mean_dice == pytest.approx(2 / 3)
    assert scores.pairwise_dice == {("R1", "R2"): 0.5, ("R1", "R3"): 0.5, ("R2", "R3"): 0.5}
    assert scores.mean_pairwise_dice == 0.5
    assert scores.phi == pytest.approx(1 - 0.1 * (1 / 3) / (1 / 2))


def test_a_prediction_equal_to_one_of_two_raters_loses_half_of_alpha():
    """No prediction equals two raters who disagree, so φ stays below 1."""
    assert uncertainty_aware_score(FIRST, [FIRST, SECOND]) == pytest.approx(0.95)


def test_raters_of_different_agreement():
    """Pairs 1/2, 0 and 0: mean ε 5/6. The prediction shares 0, 1 and 1 of its two voxels with the
    raters: mean ε 13/18."""
    scores = rater_scores(line("00000110"), {"a": FIRST, "b": SECOND, "c": line("00000011")})
    assert scores.dice == pytest.approx({"a": 0, "b": 2 / 6, "c": 2 / 4})
    assert scores.pairwise_dice == pytest.approx({("a", "b"): 1 / 2, ("a", "c"): 0, ("b", "c"): 0})
    assert scores.phi == pytest.approx(1 - 0.1 * (13 / 18) / (5 / 6))


def test_raters_who_agree_in_every_voxel_want_the_same():
    assert uncertainty_aware_score(FIRST, [FIRST, FIRST, FIRST]) == 1
    assert uncertainty_aware_score(line("11100000"), [FIRST, FIRST]) == 0


def test_phi_is_not_negative():
    """Raters of 8 and 7 voxels, and a prediction beside them: 1 - 0.1 · 1 / (1/15) < 0."""
    nearly = [line("111111110"), line("111111100")]
    assert uncertainty_aware_score(line("000000001"), nearly) == 0
    assert uncertainty_aware_score(line("000000001"), nearly, alpha=0.01) == pytest.approx(
        1 - 0.01 * 15
    )


def test_alpha_zero_forgives_everything_where_raters_differ():
    assert uncertainty_aware_score(EMPTY, [FIRST, SECOND], alpha=0) == 1


def test_one_rater_has_no_one_to_compare_with():
    scores = rater_scores(THIRD, {"R1": FIRST})
    assert (scores.dice, scores.mean_dice, scores.pairwise_dice) == ({"R1": 0.5}, 0.5, {})
    assert math.isnan(scores.mean_pairwise_dice)
    assert math.isnan(scores.phi)


def test_empty_masks_have_defined_scores():
    assert uncertainty_aware_score(EMPTY, [EMPTY, EMPTY]) == 1
    assert uncertainty_aware_score(FIRST, [EMPTY, EMPTY]) == 0
    assert uncertainty_aware_score(EMPTY, [FIRST, FIRST]) == 0
    assert uncertainty_aware_score(EMPTY, [FIRST, EMPTY]) == pytest.approx(
        0.95
    )  # Dice 0 and 1; between the raters 0
    assert uncertainty_aware_score(EMPTY, [FIRST, SECOND]) == pytest.approx(0.8)


masks = arrays(bool, (2, 3, 4))


@given(masks, st.lists(masks, min_size=3, max_size=3))
def test_the_order_of_the_raters_does_not_matter(pred, raters):
    assert len({uncertainty_aware_score(pred, order) for order in permutations(raters)}) == 1


@given(masks, st.lists(masks, min_size=2, max_size=4), st.floats(0, 1))
def test_phi_is_a_share_and_follows_the_formula(pred, raters, alpha):
    scores = rater_scores(pred, {str(n): rater for n, rater in enumerate(raters)}, alpha)
    assert 0 <= scores.phi <= 1
    assert uncertainty_aware_score(pred, raters, alpha) == scores.phi
    if scores.mean_pairwise_dice < 1:
        expected = 1 - alpha * (1 - scores.mean_dice) / (1 - scores.mean_pairwise_dice)
        assert scores.phi == pytest.approx(max(expected, 0))


def test_rater_detection_in_both_directions():
    raters = {"a": line("1101100110"), "b": line("1100000111"), "c": line("0001100000")}
    scores = rater_detection(raters)
    assert scores["a", "b"] == DetectionScores(2, 0, 1)
    assert scores["b", "a"] == DetectionScores(2, 1, 0)
    assert scores["a", "c"] == DetectionScores(1, 0, 2)
    assert scores["c", "b"] == DetectionScores(0, 2, 1)
    assert set(scores) == {(a, b) for a in "abc" for b in "abc" if a != b}
    assert scores["a", "b"].recall == scores["b", "a"].precision == pytest.approx(2 / 3)


def test_rater_detection_has_a_threshold():
    raters = {"a": line("111111111"), "b": line("000010000")}
    assert rater_detection(raters)["a", "b"] == DetectionScores(0, 1, 1)
    assert rater_detection(raters, 0.1)["a", "b"] == DetectionScores(1, 0, 0)


def test_rater_detection_of_one_or_no_lesion_or_rater():
    assert rater_detection({"a": FIRST}) == rater_detection({}) == {}
    scores = rater_detection({"a": EMPTY, "b": EMPTY})
    assert scores["a", "b"] == DetectionScores(0, 0, 0)
    assert math.isnan(scores["a", "b"].f1)


@pytest.mark.parametrize("raters", [[], [FIRST]])
def test_phi_needs_two_raters(raters):
    with pytest.raises(InputError, match=f"needs at least two raters, not {len(raters)}"):
        uncertainty_aware_score(FIRST, raters)


def test_scores_need_a_rater():
    with pytest.raises(InputError, match="at least one rater"):
        rater_scores(FIRST, {})


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_alpha_is_a_share(alpha):
    with pytest.raises(InputError, match=r"alpha must lie in 0\.\.1, not "):
        uncertainty_aware_score(FIRST, [FIRST, SECOND], alpha)
    with pytest.raises(InputError, match=r"alpha must lie in 0\.\.1, not "):
        rater_scores(FIRST, {"a": FIRST}, alpha)


def test_masks_of_other_shapes_or_kinds_are_refused():
    with pytest.raises(InputError, match="differ in shape"):
        uncertainty_aware_score(FIRST, [FIRST, FIRST[..., :4]])
    with pytest.raises(InputError, match="holds several labels"):
        uncertainty_aware_score(line("0123"), [line("0110"), line("0110")])
    with pytest.raises(InputError, match="differ in shape"):
        rater_detection({"a": FIRST, "b": FIRST[..., :4]})
