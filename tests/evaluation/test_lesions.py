"""Known correspondences and counts, invariants, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.lesion_maps import find_lesions
from nnunet_liver_ext.evaluation.lesions import DetectionScores, detection_scores, match_lesions
from tests.evaluation.lesion_lines import counts, line

SPACING_MM = (3.0, 1.5, 1.5)


def pairs(match):
    return [(own.reference, own.prediction) for own in match.correspondences]


def test_equal_lesions_correspond_one_to_one():
    match = match_lesions(line("0110111"), line("0110111"))
    assert pairs(match) == [((1,), (1,)), ((2,), (2,))]
    assert [own.dice for own in match.correspondences] == [1, 1]
    assert counts(match) == (2, 0, 0)
    assert match.exact


def test_a_lesion_predicted_in_two_pieces_is_one_hit():
    match = match_lesions(line("1111111111"), line("1111011110"))
    assert pairs(match) == [((1,), (1, 2))]
    assert match.correspondences[0].dice == pytest.approx(2 * 8 / (10 + 8))
    assert counts(match) == (1, 0, 0)


def test_two_lesions_predicted_as_one_are_one_hit():
    match = match_lesions(line("1111011110"), line("1111111111"))
    assert pairs(match) == [((1, 2), (1,))]
    assert counts(match) == (1, 0, 0)


def test_a_piece_stays_out_if_it_would_lower_the_dice():
    match = match_lesions(line("111111111100"), line("111111110111"))
    assert pairs(match) == [
        ((1,), (1,))
    ]  # 16/18; with the piece, of which one voxel in three is covered, 18/21
    assert match.unmatched_prediction == (2,)
    assert counts(match) == (1, 1, 0)


def test_a_piece_that_changes_nothing_joins():
    """Dice 2·3 / (9 + 3) = 1/2, and a quarter of the piece is covered: 2·4 / (9 + 7) = 1/2."""
    match = match_lesions(line("111111111000"), line("111000001111"))
    assert pairs(match) == [((1,), (1, 2))]
    assert match.correspondences[0].dice == 0.5


def test_a_chain_is_cut_at_its_weak_link():
    match = match_lesions(line("11222"), line("11122"))
    assert pairs(match) == [((1,), (1,)), ((2,), (2,))]
    assert [own.dice for own in match.correspondences] == pytest.approx([0.8, 0.8])


def test_a_chain_with_a_strong_middle_stays_whole():
    """Voxels shared along the chain: 1, 10, 1. Whole: Dice 1; the middle pair alone 20/22, the two
    outer pairs 2·2/12."""
    match = match_lesions(line("122222222222"), line("111111111112"))
    assert pairs(match) == [((1, 2), (1, 2))]
    assert match.dice_sum == 1
    assert counts(match) == (1, 0, 0)


def test_touching_lesions_stay_apart_as_labels_and_not_as_masks():
    ref, pred = line("0111222000"), line("0111222000")
    assert counts(match_lesions(ref, pred)) == (2, 0, 0)
    assert counts(match_lesions(ref != 0, pred != 0)) == (1, 0, 0)
    assert pairs(match_lesions(ref, pred != 0)) == [((1, 2), (1,))]


def test_a_label_in_pieces_is_one_lesion():
    match = match_lesions(line("770770550"), line("110110220"))
    assert pairs(match) == [((5,), (2,)), ((7,), (1,))]
    assert match.reference_voxels == {5: 2, 7: 4}


def test_lesions_that_only_touch_do_not_correspond():
    match = match_lesions(line("0110000"), line("0001100"))
    assert (match.correspondences, match.unmatched_reference, match.unmatched_prediction) == (
        (),
        (1,),
        (1,),
    )
    assert counts(match) == (0, 1, 1)


def test_a_dice_equal_to_the_threshold_is_no_hit():
    ref, pred = line("111111111"), line("000010000")
    match = match_lesions(ref, pred)
    assert match.correspondences[0].dice == 0.2
    assert not match.correspondences[0].hit
    assert counts(match) == (0, 1, 1)
    assert counts(match_lesions(ref, pred, 0.19)) == (1, 0, 0)
    assert counts(match_lesions(ref, ref, 1)) == (0, 1, 1)


def test_lesions_of_one_voxel():
    match = match_lesions(line("101010"), line("101001"))
    assert pairs(match) == [((1,), (1,)), ((2,), (2,))]
    assert counts(match) == (2, 1, 1)


def test_volumes_are_in_voxels_and_ml():
    match = match_lesions(line("1111011110"), line("1111111111"), spacing_mm=SPACING_MM)
    own = match.correspondences[0]
    assert (own.reference_voxels, own.prediction_voxels) == (8, 10)
    assert (own.reference_ml, own.prediction_ml) == pytest.approx((8 * 0.00675, 10 * 0.00675))
    assert match.reference_ml == pytest.approx({1: 4 * 0.00675, 2: 4 * 0.00675})
    assert match.prediction_ml == pytest.approx({1: 0.0675})
    without = match_lesions(line("1111011110"), line("1111111111"))
    assert (
        without.correspondences[0].reference_ml is without.reference_ml is without.voxel_ml is None
    )


def test_2d_gives_what_a_volume_of_one_slice_gives():
    ref, pred = (np.random.default_rng(seed).random((30, 30)) < 0.2 for seed in (0, 1))
    assert match_lesions(ref, pred) == match_lesions(ref[None], pred[None])
    assert len(match_lesions(ref, pred).correspondences) > 5


def test_maps_from_find_lesions_choose_another_connectivity():
    mask = np.kron(np.eye(3, dtype=bool), np.ones((2, 2), bool))[None]
    faces = find_lesions(mask, connectivity=6)
    assert counts(match_lesions(mask, mask)) == (1, 0, 0)
    assert counts(match_lesions(faces, faces)) == (3, 0, 0)


def test_input_is_left_as_it_was_and_memory_order_does_not_matter():
    rng = np.random.default_rng(0)
    ref, pred = (rng.integers(0, 4, (3, 4, 5)).astype(np.float64) for _ in range(2))
    ref.flags.writeable = pred.flags.writeable = False
    match = match_lesions(ref, pred)
    assert match == match_lesions(np.asfortranarray(ref.astype(np.uint8)), pred.astype(np.int32))


def test_no_lesions_have_defined_scores():
    empty, some = line("00000"), line("01101")
    neither, missed, invented = (
        match_lesions(*own) for own in ((empty, empty), (some, empty), (empty, some))
    )
    assert detection_scores(neither) == DetectionScores(0, 0, 0)
    assert ratios(neither) == pytest.approx((math.nan, math.nan, math.nan), nan_ok=True)
    assert (counts(missed), missed.unmatched_reference) == ((0, 0, 2), (1, 2))
    assert ratios(missed) == pytest.approx((0, math.nan, 0), nan_ok=True)
    assert counts(invented) == (0, 2, 0)
    assert ratios(invented) == pytest.approx((math.nan, 0, 0), nan_ok=True)
    assert (neither.dice_sum, missed.exact) == (0, True)


def ratios(match):
    scores = detection_scores(match)
    return scores.recall, scores.precision, scores.f1


def test_ratios_follow_from_the_counts():
    scores = DetectionScores(true_positives=6, false_positives=2, false_negatives=4)
    assert (scores.recall, scores.precision, scores.f1) == pytest.approx((0.6, 0.75, 12 / 18))


def test_a_weak_correspondence_is_one_miss_and_one_invention_whatever_its_size():
    """Two reference lesions of five voxels under one prediction that covers a voxel of each: Dice
    2·2 / (10 + 11) < 0.2."""
    ref = np.zeros((1, 9, 7), bool)
    ref[0, :5, 0] = ref[0, :5, 6] = True
    pred = np.zeros_like(ref)
    pred[0, 4] = True
    pred[0, 4:, 3] = True
    match = match_lesions(ref, pred)
    assert pairs(match) == [((1, 2), (1,))]
    assert match.correspondences[0].dice == pytest.approx(4 / 21)
    assert counts(match) == (0, 1, 1)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full((1, 1, 5), 0.5), "pred holds fractions such as 0.5"),
        (np.full((1, 1, 5), np.nan), "pred holds fractions such as nan"),
        (np.full((1, 1, 5), np.inf), "pred holds fractions such as inf"),
        (np.full((1, 1, 5), -2), "pred holds negative labels such as -2"),
        (np.full((1, 1, 5), "liver"), "pred must be a bool or integer array"),
        (np.ones(5), r"pred must be \(z, y, x\) or \(y, x\), not of shape \(5,\)"),
        (np.ones((1, 1, 1, 5)), r"not of shape \(1, 1, 1, 5\)"),
        (np.ones((1, 1, 6)), r"differ in shape: \(1, 1, 5\) and \(1, 1, 6\)"),
    ],
)
def test_what_is_no_lesion_map_is_refused(bad, message):
    with pytest.raises(InputError, match=message):
        match_lesions(line("01100"), bad)


@pytest.mark.parametrize("min_dice", [-0.1, 1.1, math.nan])
def test_the_threshold_must_be_a_dice(min_dice):
    with pytest.raises(InputError, match=r"min_dice must lie in 0\.\.1, not "):
        match_lesions(line("01"), line("01"), min_dice)


@pytest.mark.parametrize(
    "spacing_mm", [(1, 1), (1, 0, 1), (1, -1, 1), (1, math.nan, 1), (math.inf, 1, 1), 1.0, "abc"]
)
def test_spacing_must_be_three_positive_numbers(spacing_mm):
    with pytest.raises(InputError, match="spacing_mm must be three positive numbers"):
        match_lesions(line("01"), line("01"), spacing_mm=spacing_mm)


def test_volumes_need_3d():
    with pytest.raises(InputError, match="need 3D masks"):
        match_lesions(np.eye(3), np.eye(3), spacing_mm=(1, 1))
