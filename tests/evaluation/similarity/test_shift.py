"""The best shift, against trying them all."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nnunet_liver_ext.evaluation.metrics import dice
from nnunet_liver_ext.evaluation.similarity import shift as similarity_shift
from nnunet_liver_ext.evaluation.similarity.shift import best_shift, shift_mask


def zero_filled(mask, shift, bound):
    """A window that wanders over a large field of zeros."""
    field = np.pad(mask, [(n, n) for n in bound])
    return field[
        tuple(
            slice(n - t, n - t + size) for n, t, size in zip(bound, shift, mask.shape, strict=True)
        )
    ]


def brute_force(mask_1, mask_2, bound):
    return max(
        dice(zero_filled(mask_1, step, bound), mask_2)
        for step in product(*(range(-n, n + 1) for n in bound))
    )


some_masks = array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape)).filter(
        lambda masks: all(mask.any() for mask in masks)
    )
)


@given(masks=some_masks, most=st.integers(0, 5))
def test_it_is_the_best_of_all(masks, most):
    bound = [min(most, n - 1) for n in masks[0].shape]
    shift = best_shift(*masks, bound, [1.0] * masks[0].ndim)
    assert all(abs(t) <= n for t, n in zip(shift, bound, strict=True))
    np.testing.assert_array_equal(shift_mask(masks[0], shift), zero_filled(masks[0], shift, bound))
    assert dice(shift_mask(masks[0], shift), masks[1]) == brute_force(*masks, bound)


@pytest.mark.parametrize("precision_limit", [0, 10**9])
@pytest.mark.parametrize(("shape", "bound"), [((21, 34), (9, 12)), ((9, 14, 11), (4, 5, 3))])
def test_blobs_at_the_edge(shape, bound, precision_limit, monkeypatch):
    monkeypatch.setattr(similarity_shift, "SINGLE_PRECISION_VOXELS", precision_limit)
    rng = np.random.default_rng(3)
    for _ in range(3):
        masks = [np.zeros(shape, bool) for _ in range(2)]
        for mask in masks:
            low = [rng.integers(0, n // 2) for n in shape]
            mask[tuple(slice(start, None) for start in low)] = True
            mask &= rng.random(shape) < 0.8
        shift = best_shift(*masks, bound, [1.0] * len(shape))
        assert dice(shift_mask(masks[0], shift), masks[1]) == brute_force(*masks, bound)


def test_among_equals_the_shortest_in_mm():
    square, row = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    square[4, 4] = True
    row[4, [2, 7]] = True
    assert best_shift(square, row, (4, 4), (1, 1)) == (0, -2)
    column_and_row = np.zeros((9, 9), bool)
    column_and_row[2, 4] = column_and_row[4, 6] = True
    assert best_shift(square, column_and_row, (4, 4), (3, 1)) == (0, 2)
    assert best_shift(square, column_and_row, (4, 4), (1, 3)) == (-2, 0)


def test_the_bound_holds():
    one, other = np.zeros((30, 30), bool), np.zeros((30, 30), bool)
    one[2:6, 2:6], other[2:6, 12:16] = True, True
    assert best_shift(one, other, (10, 10), (1, 1)) == (0, 10)
    assert best_shift(one, other, (7, 7), (1, 1)) == (0, 7)
