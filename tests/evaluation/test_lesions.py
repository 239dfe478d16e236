"""Known correspondences and counts, the exact search against all partitions, invariants, bad
input."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation import lesion_matching
from nnunet_liver_ext.evaluation.lesion_matching import EXACT_CORE, OverlapGraph, best_partition
from nnunet_liver_ext.evaluation.lesions import (
    DetectionScores,
    detection_scores,
    find_lesions,
    match_lesions,
    pooled_scores,
    scores_by_size,
    sphere_diameter_mm,
)

SPACING_MM = (3.0, 1.5, 1.5)


def line(labels):
    """A volume of one row; "0110" is a mask with one lesion of two voxels, "1122" a map of two that
    touch."""
    return np.array([int(label) for label in labels])[None, None]


def pairs(match):
    return [(own.reference, own.prediction) for own in match.correspondences]


def counts(match):
    scores = detection_scores(match)
    return scores.true_positives, scores.false_positives, scores.false_negatives


def graph(overlaps, ref_rest=0, pred_rest=0):
    """A graph from the voxels that reference lesion i (row) and predicted lesion j share, and those
    that each has alone."""
    table = np.array(overlaps)
    n_ref, n_pred = table.shape
    volumes = [*(table.sum(1) + ref_rest).tolist(), *(table.sum(0) + pred_rest).tolist()]
    whole = np.zeros((n_ref + n_pred,) * 2, int)
    whole[:n_ref, n_ref:], whole[n_ref:, :n_ref] = table, table.T
    return OverlapGraph(
        volumes, [{b: count for b, count in enumerate(row) if count} for row in whole.tolist()]
    )


def dice_of(own, lesions):
    shared = sum(own.overlaps[a].get(b, 0) for a in lesions for b in lesions) // 2
    return 2 * shared / sum(own.volumes[n] for n in lesions)


def dice_sum(own, correspondences):
    return sum(dice_of(own, lesions) for lesions in correspondences)


def greedy_sum(own):
    """Of one-to-one pairs, best Dice first."""
    edges = [
        (-dice_of(own, (a, b)), a, b) for a, near in enumerate(own.overlaps) for b in near if a < b
    ]
    used, total = set(), 0.0
    for dice, a, b in sorted(edges):
        if not used & {a, b}:
            used |= {a, b}
            total -= dice
    return total


def best_of_all_partitions(own):
    """Largest sum of Dice, then most correspondences, then most lesions, over all set partitions,
    connected or not."""
    value = cache(lambda block: dice_of(own, block))

    def partitions(lesions):
        if not lesions:
            yield []
            return
        for smaller in partitions(lesions[1:]):
            yield [lesions[:1], *smaller]
            for n, block in enumerate(smaller):
                yield [*smaller[:n], lesions[:1] + block, *smaller[n + 1 :]]

    def rank(partition):
        found = [(value(block), len(block)) for block in partition if value(block) > 0]
        return round(sum(dice for dice, _ in found), 9), len(found), sum(size for _, size in found)

    return max(map(rank, partitions(tuple(range(len(own.volumes))))))


def random_graph(rng, n_ref, n_pred, density):
    table = rng.integers(1, 10, (n_ref, n_pred)) * (rng.random((n_ref, n_pred)) < density)
    return graph(table, rng.integers(1, 12, n_ref), rng.integers(1, 12, n_pred))


# find_lesions


@pytest.mark.parametrize(("connectivity", "expected"), [(26, 1), (18, 2), (6, 3)])
def test_lesions_hang_together_by_faces_edges_and_corners(connectivity, expected):
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 0] = mask[2, 2, 1] = True  # an edge, then a corner
    assert find_lesions(mask, connectivity=connectivity).max() == expected


@pytest.mark.parametrize("order", ["C", "F"])
def test_lesions_are_numbered_by_their_first_voxels(order):
    mask = np.random.default_rng(0).random((9, 10, 11)) < 0.05
    found = find_lesions(np.asarray(mask, order=order))
    ids, first = np.unique(found[found > 0], return_index=True)
    assert ids.tolist() == list(range(1, len(ids) + 1))
    assert (np.diff(first) > 0).all()
    assert ((found > 0) == mask).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_every_number_type_is_a_mask(dtype):
    assert find_lesions(line("0110100").astype(dtype)).tolist() == line("0110200").tolist()
    assert find_lesions(line("0110100") * 255).tolist() == line("0110200").tolist()


def test_2d_lesions_are_those_of_one_slice():
    mask = np.eye(3, dtype=bool)
    assert find_lesions(mask).tolist() == np.eye(3).tolist()
    assert find_lesions(mask, connectivity=18).max() == 1
    assert find_lesions(mask, connectivity=6).max() == 3


def test_an_empty_mask_has_no_lesions():
    assert not find_lesions(np.zeros((3, 4, 5), bool)).any()
    assert find_lesions(np.zeros((0, 4, 5), bool)).shape == (0, 4, 5)


@pytest.mark.parametrize(
    "shape", [(1, 1, 5), (1, 3, 7), (3, 3, 3), (5, 1, 9), (9, 9, 9), (2, 4, 6)]
)
def test_single_voxels_fill_small_volumes(shape):
    mask = np.zeros(shape, bool)
    mask[::2, ::2, ::2] = True
    assert find_lesions(mask).max() == np.count_nonzero(mask)


# correspondences


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


def test_a_ring_falls_into_its_strong_pairs():
    ring = graph([[3, 1, 0], [0, 3, 1], [1, 0, 3]])
    assert sorted(best_partition(ring).correspondences) == [(0, 3), (1, 4), (2, 5)]


def test_equal_sums_go_to_more_correspondences():
    """All four of 2 x 2 share one voxel: whole 2·4/8 = 1, two pairs 2·(2·1/4) = 1."""
    assert sorted(best_partition(graph([[1, 1], [1, 1]])).correspondences) == [(0, 2), (1, 3)]


def test_two_by_three_can_be_best_as_one():
    """Each of the six overlaps is one voxel: whole 12/12; as 1:2 and 1:1 it is 4/7 + 2/5 =
    0.971."""
    assert best_partition(graph([[1, 1, 1], [1, 1, 1]])).correspondences == [(0, 1, 2, 3, 4)]


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


# the search


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("n_ref", "n_pred", "density"),
    [(4, 4, 0.9), (4, 4, 0.5), (3, 5, 0.6), (2, 6, 0.5), (1, 7, 0.9)],
)
def test_no_partition_is_better(n_ref, n_pred, density, seed):
    own = random_graph(np.random.default_rng(seed), n_ref, n_pred, density)
    found = best_partition(own)
    total, correspondences, lesions = best_of_all_partitions(own)
    assert found.exact
    assert dice_sum(own, found.correspondences) == pytest.approx(total, abs=1e-9)
    assert (len(found.correspondences), sum(map(len, found.correspondences))) == (
        correspondences,
        lesions,
    )


@pytest.mark.parametrize("seed", range(10))
def test_lesion_maps_are_matched_as_well_as_by_all_partitions(seed):
    rng = np.random.default_rng(seed)
    ref, pred = (rng.integers(1, 5, (2, 3, 4)).repeat(2, axis=2) for _ in range(2))
    pred = np.roll(pred, 1, axis=2)
    table = [[np.count_nonzero((ref == i) & (pred == j)) for j in range(1, 5)] for i in range(1, 5)]
    assert match_lesions(ref, pred).dice_sum == pytest.approx(
        best_of_all_partitions(graph(table))[0], abs=1e-9
    )


def test_many_pieces_of_one_lesion_are_exact():
    """40 pieces of 10 voxels, of which k % 11 are covered: those with the largest share join, as
    sorting them shows."""
    covered = [k % 11 for k in range(1, 41) if k % 11]
    own = graph([covered], 100, [10 - k for k in covered])
    found = best_partition(own)
    assert found.exact
    best = max(
        2 * sum(part) / (own.volumes[0] + 10 * len(part))
        for part in prefixes(sorted(covered, reverse=True))
    )
    assert dice_sum(own, found.correspondences) == pytest.approx(best)


def prefixes(values):
    return [values[:n] for n in range(1, len(values) + 1)]


@pytest.mark.parametrize("seed", range(5))
def test_large_clusters_are_never_worse_than_greedy_pairs(seed):
    rng = np.random.default_rng(seed)
    own = random_graph(rng, 30, 25, 0.15)
    found = best_partition(own)
    lesions = [n for members in found.correspondences for n in members]
    assert not found.exact
    assert len(lesions) == len(set(lesions))
    assert dice_sum(own, found.correspondences) > greedy_sum(own)


@pytest.mark.parametrize("seed", range(8))
def test_the_windows_reach_nearly_the_exact_sum(seed, monkeypatch):
    own = random_graph(np.random.default_rng(seed), 7, 7, 0.4)
    exact = dice_sum(own, best_partition(own).correspondences)
    monkeypatch.setattr(lesion_matching, "EXACT_CORE", 0)
    found = best_partition(own)
    assert not found.exact
    assert (
        max(greedy_sum(own), 0.95 * exact) <= dice_sum(own, found.correspondences) <= exact + 1e-9
    )


def test_the_bound_counts_lesions_that_overlap_two_or_more():
    """A chain has two leaves; pieces that hang on it do not count."""
    chain = np.eye(8, dtype=int) * 3 + np.eye(8, k=1, dtype=int)
    assert EXACT_CORE == 14
    assert best_partition(graph(chain)).exact
    assert best_partition(graph(np.hstack([chain, np.eye(8, dtype=int)])[:7])).exact
    longer = np.eye(9, dtype=int) * 3 + np.eye(9, k=1, dtype=int)
    found = best_partition(graph(longer))
    assert not found.exact
    assert sorted(found.correspondences) == [(n, n + 9) for n in range(9)]


def test_ten_thousand_lesions():
    ref = np.zeros((44, 44, 44), bool)
    ref[::2, ::2, ::2] = True
    pred = ref.copy()
    pred[:22] = False
    match = match_lesions(ref, pred)
    assert counts(match) == (22**3 // 2, 0, 22**3 // 2)
    assert len(match.reference_voxels) == 10_648


def test_ten_thousand_lesions_in_one_large_one():
    ref = np.zeros((44, 44, 44), bool)
    ref[::2, ::2, ::2] = True
    match = match_lesions(ref, np.ones_like(ref))
    assert match.exact
    assert [len(own.reference) for own in match.correspondences] == [10_648]


def test_noise_with_thousands_of_lesions():
    rng = np.random.default_rng(0)
    ref = rng.random((50, 50, 50)) < 0.1
    match = match_lesions(
        ref, np.where(rng.random(ref.shape) < 0.5, ref, rng.random(ref.shape) < 0.1)
    )
    seen = [n for own in match.correspondences for n in own.reference] + list(
        match.unmatched_reference
    )
    assert sorted(seen) == list(range(1, len(match.reference_voxels) + 1))
    assert len(seen) > 1000


maps = st.integers(1, 3).flatmap(
    lambda depth: arrays(np.uint8, (2, depth, 6, 6), elements=st.integers(0, 3))
)


@settings(max_examples=60)
@given(maps)
def test_exchanging_reference_and_prediction_exchanges_the_errors(both):
    match, back = match_lesions(*both), match_lesions(*both[::-1])
    assert match.dice_sum == pytest.approx(back.dice_sum)
    assert len(match.correspondences) == len(back.correspondences)
    seen = [n for own in match.correspondences for n in own.prediction] + list(
        match.unmatched_prediction
    )
    assert sorted(seen) == sorted(match.prediction_voxels)


@settings(max_examples=60)
@given(maps, st.permutations([1, 2, 3]), st.permutations([4, 5, 60]))
def test_names_and_axes_do_not_matter(both, ref_names, pred_names):
    renamed = [
        np.array([0, *names])[own].swapaxes(0, 2)
        for own, names in zip(both, (ref_names, pred_names), strict=True)
    ]
    match, other = match_lesions(*both), match_lesions(*renamed)
    assert match.dice_sum == pytest.approx(other.dice_sum)
    assert len(match.correspondences) == len(other.correspondences)


# scores


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


# bad input


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


def test_find_lesions_refuses_what_is_no_mask():
    with pytest.raises(InputError, match=r"mask holds several labels \(0..2\): choose one"):
        find_lesions(line("0122"))
    with pytest.raises(InputError, match="mask holds fractions"):
        find_lesions(np.full((3, 3), 0.5))
    with pytest.raises(InputError, match="connectivity must be one of 6, 18, 26, not 8"):
        find_lesions(line("01"), connectivity=8)


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
