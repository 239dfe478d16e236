"""Published numbers of Bland & Altman, numbers by hand, invariants, bad input."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import cohen_kappa_score

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.agreement import (
    limits_of_agreement,
    relative_errors,
    summarise_errors,
    threshold_agreement,
)

# Peak expiratory flow in l/min with two meters (Bland & Altman, Lancet 1986, table 1, first
# measurements).
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI_WRIGHT = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def with_moments(n, mean, std):
    values = np.arange(n, dtype=float)
    return mean + std * (values - values.mean()) / values.std(ddof=1)


def test_limits_of_bland_and_altman_1986():
    found = limits_of_agreement(np.subtract(WRIGHT, MINI_WRIGHT))
    assert (found.count, found.left_out) == (17, 0)
    assert found.mean == pytest.approx(-2.1, abs=0.05)
    assert found.std == pytest.approx(38.8, abs=0.05)
    assert found.mean_interval == pytest.approx((-22.0, 17.8), abs=0.1)
    # They take 2 for 1.96 and √(3/n) for the root: -79.7, 75.5; -114.3 to -45.1.
    assert (found.lower, found.upper) == pytest.approx(
        (-2.12 - 1.96 * 38.77, -2.12 + 1.96 * 38.77), abs=0.05
    )
    assert found.lower_interval == pytest.approx((-114.3, -45.1), abs=2.0)


def test_limits_of_bland_and_altman_1999():
    """Section 2: 85 differences of blood pressure in mmHg, of which the paper gives the mean and
    the standard deviation."""
    found = limits_of_agreement(with_moments(85, -16.29, 19.61))
    assert (found.lower, found.upper) == pytest.approx((-54.7, 22.1), abs=0.05)
    assert found.lower_interval == pytest.approx((-61.9, -47.5), abs=0.15)
    assert found.upper_interval == pytest.approx((14.9, 29.3), abs=0.15)  # from rounded limits


def test_limits_by_hand():
    """Mean 0, σ = 2, n = 3: t of two degrees of freedom is 4.3027."""
    found = limits_of_agreement([-2, 0, 2])
    assert (found.mean, found.std, found.lower, found.upper) == pytest.approx((0, 2, -3.92, 3.92))
    assert found.mean_interval.upper == pytest.approx(4.302653 * 2 / math.sqrt(3))
    assert found.upper_interval.upper == pytest.approx(
        3.92 + 4.302653 * 2 * math.sqrt(1 / 3 + 1.96**2 / 4)
    )


def test_what_is_not_finite_is_left_out_and_counted():
    found = limits_of_agreement([-2, math.nan, 0, math.inf, 2])
    assert (found.count, found.left_out) == (3, 2)
    assert found.upper == pytest.approx(3.92)


@pytest.mark.parametrize(("errors", "mean"), [([], math.nan), ([3.0], 3.0), ([math.nan, 3.0], 3.0)])
def test_limits_need_two_errors(errors, mean):
    found = limits_of_agreement(errors)
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert all(
        math.isnan(value) for value in (found.std, found.lower, found.upper, *found.mean_interval)
    )
    assert all(math.isnan(value) for value in (*found.lower_interval, *found.upper_interval))


def test_equal_errors_have_limits_of_no_width():
    found = limits_of_agreement([0.5, 0.5])
    assert (found.lower, found.upper, *found.upper_interval) == (0.5,) * 4


def test_relative_errors_in_percent():
    found = relative_errors([110, 90, 5, 0, -3], [100, 100, 0, 0, -2])
    assert found == pytest.approx([10, 10, math.nan, math.nan, 50], nan_ok=True)
    assert relative_errors([math.nan, 1, math.inf], [1, math.nan, 1]) == pytest.approx(
        [math.nan] * 3, nan_ok=True
    )


def test_summary_by_hand():
    found = summarise_errors([105, 190, 300, 404, 7], [100, 200, 300, 400, 0])
    assert (found.count, found.left_out, found.zero_references) == (5, 0, 1)
    assert found.mean_error == pytest.approx((5 - 10 + 0 + 4 + 7) / 5)
    assert found.mean_absolute_error == pytest.approx(26 / 5)
    assert found.mean_relative_percent == pytest.approx((5 + 5 + 0 + 1) / 4)
    assert found.median_relative_percent == pytest.approx(3)
    assert found.max_relative_percent == pytest.approx(5)
    assert (found.within_percent, found.share_within) == (5, 1)
    assert found.limits == limits_of_agreement([5, -10, 0, 4, 7])
    assert (
        summarise_errors([105, 190, 300, 404], [100, 200, 300, 400], within=4.9).share_within == 0.5
    )


def test_a_relative_error_that_equals_the_limit_up_to_rounding_is_within():
    assert relative_errors([1.05], [1.0])[0] > 5
    assert summarise_errors([1.05], [1.0]).share_within == 1


def test_correlations_of_bland_and_altman():
    found = summarise_errors(MINI_WRIGHT, WRIGHT)
    assert found.pearson_r == pytest.approx(0.94, abs=0.005)  # as in their paper
    assert found.concordance == pytest.approx(0.943, abs=0.005)


def test_concordance_sees_a_bias_and_pearson_does_not():
    """m = r + 2 with r = 1, 2, 3: s² = 2/3 (over n), so 2·(2/3) / (2/3 + 2/3 + 4) = 1/4."""
    found = summarise_errors([3, 4, 5], [1, 2, 3])
    assert found.pearson_r == pytest.approx(1)
    assert found.concordance == pytest.approx(0.25)
    assert summarise_errors([1, 2, 3], [1, 2, 3]).concordance == pytest.approx(1)
    assert summarise_errors([3, 2, 1], [1, 2, 3]).concordance == pytest.approx(-1)


def test_what_is_constant_has_no_correlation():
    constant = summarise_errors([2, 2, 2], [1, 2, 3])
    assert math.isnan(constant.pearson_r)
    assert constant.concordance == 0
    assert math.isnan(summarise_errors([2, 2, 2], [2, 2, 2]).concordance)


def test_few_cases_have_nan_instead_of_numbers():
    one = summarise_errors([11, math.nan], [10, 10])
    assert (one.count, one.left_out, one.mean_error, one.max_relative_percent) == pytest.approx(
        (1, 1, 1, 10)
    )
    assert all(math.isnan(value) for value in (one.pearson_r, one.concordance, one.limits.std))
    none = summarise_errors([], [])
    assert none.count == 0
    assert all(
        math.isnan(value)
        for value in (none.mean_error, none.mean_absolute_error, none.share_within)
    )
    assert math.isnan(summarise_errors([1], [0]).median_relative_percent)


def test_threshold_by_hand():
    """One case in each cell; 5.56 itself is not above."""
    measured = [8.0, 8.0, 5.56, 3.0, 2.0, math.nan]
    reference = [7.0, 5.56, 9.0, 2.0, 1.0, 9.0]
    found = threshold_agreement(measured, reference)
    assert (
        found.true_positives,
        found.false_positives,
        found.false_negatives,
        found.true_negatives,
    ) == (1, 1, 1, 2)
    assert (found.count, found.left_out, found.threshold) == (5, 1, 5.56)
    assert (found.sensitivity, found.specificity, found.accuracy) == pytest.approx(
        (1 / 2, 2 / 3, 3 / 5)
    )
    assert found.kappa == pytest.approx((3 / 5 - 13 / 25) / (1 - 13 / 25))


def test_undefined_rates_are_nan():
    lean = threshold_agreement([1, 2], [3, 4])
    assert math.isnan(lean.sensitivity)
    assert (lean.specificity, lean.accuracy) == (1, 1)
    assert math.isnan(lean.kappa)
    assert threshold_agreement([9, 9], [1, 1]).kappa == 0
    none = threshold_agreement([], [])
    assert all(
        math.isnan(value)
        for value in (none.sensitivity, none.specificity, none.accuracy, none.kappa)
    )


@pytest.mark.parametrize("values", [[1, "liver"], [[1, 2]], 3.0, "liver", [[1], [2, 3]]])
def test_what_is_no_list_of_numbers_is_refused(values):
    for call in (
        limits_of_agreement,
        lambda v: relative_errors(v, [1]),
        lambda v: threshold_agreement([1], v),
    ):
        with pytest.raises(InputError, match="must be a list of numbers"):
            call(values)


def test_other_bad_arguments_are_refused():
    for call in (relative_errors, summarise_errors, threshold_agreement):
        with pytest.raises(InputError, match="differ in length: 2 and 3"):
            call([1, 2], [1, 2, 3])
    for within in (-1, math.nan, math.inf):
        with pytest.raises(InputError, match="within must be"):
            summarise_errors([1], [1], within=within)
    with pytest.raises(InputError, match="threshold must be a finite number, not nan"):
        threshold_agreement([1], [1], math.nan)


numbers = st.integers(-1000, 1000).map(lambda n: n / 8)
lists = st.integers(2, 12).flatmap(
    lambda n: st.tuples(arrays(float, n, elements=numbers), arrays(float, n, elements=numbers))
)


@given(lists, numbers, st.sampled_from([0.25, 1.0, 4.0]))
def test_limits_follow_a_shift_and_a_scale(pair, shift, scale):
    before, after = limits_of_agreement(pair[0]), limits_of_agreement(scale * pair[0] + shift)
    assert after.std == pytest.approx(scale * before.std, abs=1e-9)
    for name in ("mean", "lower", "upper"):
        assert getattr(after, name) == pytest.approx(
            scale * getattr(before, name) + shift, abs=1e-9
        )
    assert (
        before.lower_interval.lower
        <= before.lower
        <= before.mean
        <= before.upper
        <= before.upper_interval.upper
    )


@given(lists)
def test_concordance_is_symmetric_and_never_more_than_pearson(pair):
    measured, reference = pair
    found = summarise_errors(measured, reference)
    assert found.concordance == pytest.approx(
        summarise_errors(reference, measured).concordance, nan_ok=True
    )
    if not math.isnan(found.pearson_r):
        assert abs(found.concordance) <= abs(found.pearson_r) + 1e-9
    assert abs(found.mean_error) <= found.mean_absolute_error + 1e-12


@given(lists, numbers)
def test_kappa_is_that_of_scikit_learn(pair, threshold):
    measured, reference = pair
    found = threshold_agreement(measured, reference, threshold)
    assert found.count == len(measured)
    if not math.isnan(found.kappa):
        assert found.kappa == pytest.approx(
            cohen_kappa_score(measured > threshold, reference > threshold)
        )
    else:
        assert found.accuracy == 1
