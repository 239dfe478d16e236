"""The search for correspondences, against all partitions and greedy matches."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnunet_liver_ext.evaluation import lesion_partition as lesion_matching
from nnunet_liver_ext.evaluation.lesion_clusters import OverlapGraph
from nnunet_liver_ext.evaluation.lesion_partition import EXACT_CORE, best_partition
from nnunet_liver_ext.evaluation.lesions import match_lesions
from tests.evaluation.lesion_lines import counts


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
