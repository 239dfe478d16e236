"""Paired comparisons, rankings and run-to-run differences against values known by hand or from
SciPy."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.statistics.bootstrap import bootstrap_means, confidence_interval
from nnunet_liver_ext.evaluation.statistics.comparable_metrics import (
    all_comparable_metrics,
    comparable_metrics,
    smallest_differences,
)
from nnunet_liver_ext.evaluation.statistics.paired_comparison import (
    better_tied_worse,
    compare_paired,
    model_pairs,
)
from nnunet_liver_ext.evaluation.statistics.ranks import (
    adjust_within_families,
    rank_biserial,
    signed_rank_p,
)
from nnunet_liver_ext.evaluation.statistics.sentences import comparison_sentence, format_p
from nnunet_liver_ext.evaluation.statistics.stability import (
    mean_kendall_tau,
    ranking_stability,
    run_to_run,
)


def tidy(models, metric="dice", patients=None, modality="T1"):
    """{"A": [value of case 0, ...]} as the table of results; None is a case that the model does not
    have."""
    rows = [
        (model, f"C{index:03d}", modality, "liver", metric, value, METRICS[metric].unit)
        for model, values in models.items()
        for index, value in enumerate(values)
        if value is not None
    ]
    table = pd.DataFrame(
        rows, columns=["model", "case", "modality", "class", "metric", "value", "unit"]
    )
    if patients is not None:
        table["patient"] = table["case"].map(
            {f"C{index:03d}": patient for index, patient in enumerate(patients)}
        )
    return table


def one(models, metric="dice", patients=None, **options):
    """The only row of a comparison of two models."""
    compared = compare_paired(
        tidy(models, metric, patients), metrics=[metric], resamples=500, **options
    )
    assert len(compared) == 1
    return compared.iloc[0].to_dict()


BASE = [0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.90, 0.91]
GAINS = [0.01, 0.02, -0.004, 0.03, 0.005, 0.0, -0.02, 0.04]


def shifted(base=BASE, gains=GAINS):
    return [value + gain for value, gain in zip(base, gains, strict=True)]


# --- differences and counts


def test_means_and_differences_by_hand():
    row = one({"A": BASE, "B": shifted()})
    assert row["mean_a"] == pytest.approx(0.92)
    assert row["mean_difference"] == pytest.approx(0.081 / 8)
    assert row["median_difference"] == pytest.approx((0.005 + 0.01) / 2)
    assert (row["cases"], row["patients"], row["tested"], row["differing"]) == (8, 8, 8, 7)
    assert (row["model_a"], row["model_b"], row["family"]) == ("A", "B", "overlap")


def test_a_difference_at_the_threshold_counts_and_one_below_is_a_tie():
    row = one({"A": BASE, "B": shifted()})  # 0.945 - 0.94 is 0.00499... in floating point
    assert (row["better"], row["tied"], row["worse"]) == (5, 2, 1)
    assert better_tied_worse(np.array([0.945 - 0.94, 0.94 - 0.945, 0.004]), 0.005) == {
        "better": 1,
        "tied": 1,
        "worse": 1,
    }


def test_without_a_smallest_difference_any_counts_but_none():
    assert better_tied_worse(np.array([1e-6, -1e-6, 0.0]), 0) == {
        "better": 1,
        "tied": 1,
        "worse": 1,
    }


def test_less_is_better_for_distances():
    row = one({"A": [5.0] * 8, "B": [4, 4, 4, 4, 4, 4, 6, 5]}, "hd95")
    assert row["mean_difference"] == pytest.approx(-5 / 8)
    assert (row["better"], row["tied"], row["worse"]) == (6, 1, 1)
    assert row["rank_biserial"] == pytest.approx((6 - 1) / 7)
    assert not row["higher_is_better"]


def test_volume_differences_are_compared_by_their_absolute_value():
    row = one(
        {"A": [-10.0, 10, -10, 10, -10, 10], "B": [4.0, -4, 4, -4, 4, -14]}, "volume_difference"
    )
    assert (row["mean_a"], row["mean_difference"]) == (
        pytest.approx(10),
        pytest.approx((5 * -6 + 4) / 6),
    )
    assert (row["better"], row["worse"], row["family"]) == (5, 1, "volume")


def test_infinite_and_missing_values_are_left_out_and_counted():
    row = one(
        {
            "A": [5.0, math.inf, 5, 5, 5, 5, 5, None, 5],
            "B": [4, 4, math.inf, math.nan, 4, 4, 4, 4, 4],
        },
        "hd",
    )
    assert (
        row["cases"],
        row["not_finite"],
        row["not_finite_a"],
        row["not_finite_b"],
        row["missing"],
    ) == (5, 3, 1, 2, 1)
    assert row["mean_difference"] == pytest.approx(-1)
    both = one({"A": [math.inf, 5.0], "B": [math.inf, 4.0]}, "hd")
    assert (both["cases"], both["not_finite"], both["not_finite_a"], both["not_finite_b"]) == (
        1,
        1,
        1,
        1,
    )


def test_no_common_case_is_a_row_and_no_exception():
    row = one({"A": [0.9, None], "B": [None, 0.9]})
    assert (row["cases"], row["missing"], row["verdict"]) == (0, 2, "no pairs")
    assert (
        "no case can be compared. Left out of the means: 2 cases that only one of them has."
        in comparison_sentence(row)
    )


# --- misses


MISSED = [9.0] * 17 + [math.inf] * 3


def test_a_model_that_misses_is_not_better_for_short_distances_elsewhere():
    """17 livers are 1 mm better, 3 are missed."""
    row = one({"A": [10.0] * 20, "B": MISSED}, "hd")
    assert (row["mean_a"], row["mean_b"], row["mean_difference"]) == (10, 9, -1)
    assert (row["better"], row["tied"], row["worse"]) == (17, 0, 3)
    assert (row["infinite_a"], row["infinite_b"], row["not_finite"]) == (0, 3, 3)
    assert row["verdict"] == "contradictory"
    assert (
        "But B has no mask in 3 cases more than A: misses and distances say opposite things."
        in comparison_sentence(row)
    )
    turned = one({"A": MISSED, "B": [10.0] * 20}, "hd")
    assert turned["verdict"] == "contradictory"
    assert "But A has no mask in 3 cases more than B" in comparison_sentence(turned)


def test_infinite_distances_have_the_last_ranks():
    gains = np.array([1.0, 2, 3, 4, 5, 6, 7])
    row = one({"A": np.r_[10 + gains, 10], "B": np.r_[[10.0] * 7, math.inf]}, "hd")
    expected = stats.wilcoxon(np.r_[gains, -8])  # any number beyond 7
    assert (row["tested"], row["differing"], row["cases"]) == (8, 8, 7)
    assert row["p_value"] == pytest.approx(expected.pvalue)
    assert row["rank_biserial"] == pytest.approx((28 - 8) / 36)


def test_misses_alone_make_a_model_worse():
    row = one({"A": [10.0] * 20, "B": [10.0] * 10 + [math.inf] * 10}, "hd")
    assert row["p_value"] == pytest.approx(stats.wilcoxon([1.0] * 10 + [0.0] * 10).pvalue)
    assert (row["verdict"], row["rank_biserial"]) == ("worse", -1)
    nothing = one({"A": [10.0] * 8, "B": [math.inf] * 8}, "hd")
    assert (nothing["cases"], nothing["verdict"], nothing["worse"]) == (0, "worse", 8)
    assert "no case has masks of both B and A" in comparison_sentence(nothing)
    assert one({"A": [math.inf] * 8, "B": [math.inf] * 8}, "hd")["verdict"] == "identical"


def test_more_misses_are_not_equivalent():
    base = np.linspace(5, 6, 20)
    models = {"A": base, "B": np.r_[base[:18] + 0.001, math.inf, math.inf]}
    row = one(models, "hd", smallest_difference={"hd": 1.0})
    assert row["verdict"] == "worse"


def test_the_misses_of_a_patient_count_before_the_mean_of_the_others():
    patients = [f"P{n // 2}" for n in range(16)]
    values = [9.0, math.inf] + [9.0] * 14
    row = one({"A": [10.0] * 16, "B": values}, "hd", patients)
    assert (row["tested"], row["rank_biserial"]) == (8, pytest.approx((28 - 8) / 36))
    twice = one(
        {"A": [10.0, math.inf] + [10.0] * 14, "B": [math.inf, 9.0] + [9.0] * 14}, "hd", patients
    )
    assert (twice["differing"], twice["rank_biserial"]) == (7, 1)  # of P0 nothing is left
    assert (twice["infinite_a"], twice["infinite_b"]) == (1, 1)


def test_a_similarity_that_does_not_exist_for_want_of_a_mask_is_a_loss():
    models = {"A": [0.95] * 8, "B": [0.96] * 6 + [math.nan] * 2}
    pair = "relative_similarity_prediction"
    table = pd.concat(
        [
            tidy(models, pair),
            tidy(
                {"A": [0.95] * 8, "B": [0.95] * 7 + [math.nan]},
                pair.replace("prediction", "reference"),
            ),
        ]
    )
    row = compare_paired(table, metrics=[pair], resamples=500).iloc[0].to_dict()
    assert (row["cases"], row["better"], row["worse"]) == (6, 6, 1)
    assert (row["not_finite_b"], row["infinite_b"]) == (2, 1)  # of P7 the reference has none either
    assert row["verdict"] == "contradictory"


def test_a_fat_fraction_of_no_mask_is_a_loss():
    fat = tidy({"A": [1.0] * 8, "B": [0.5] * 7 + [math.nan]}, "fat_mean_difference")
    volumes = [
        tidy({"A": [1500.0] * 8, "B": [1500.0] * 7 + [last]}, name)
        for name, last in (("volume_prediction", 0.0), ("volume_reference", 1500.0))
    ]
    row = compare_paired(
        pd.concat([fat, *volumes]), metrics=["fat_mean_difference"], resamples=500
    ).iloc[0]
    assert (row.better, row.worse, row.infinite_b) == (7, 1, 1)
    assert compare_paired(fat, metrics=["fat_mean_difference"], resamples=500).iloc[0].worse == 0


# --- the test


@pytest.mark.parametrize(("n", "seed"), [(6, 0), (12, 1), (50, 2), (80, 3)])
def test_p_is_scipys(n, seed):
    differences = np.random.default_rng(seed).normal(0.3, 1, n)
    row = one({"A": [0.0] * n, "B": differences})
    assert row["p_value"] == pytest.approx(stats.wilcoxon(differences).pvalue)


def test_p_of_six_equal_signs_by_hand():
    assert signed_rank_p(np.arange(1.0, 7)) == pytest.approx(2 / 2**6)


def test_ties_and_zeros_as_scipy_treats_them():
    differences = np.array([0.0, 1, 1, -1, 2, 2, 3, -2, 4, 5, 5, 6, 7, 8, 9])
    expected = stats.wilcoxon(differences, zero_method="wilcox").pvalue
    assert signed_rank_p(differences) == pytest.approx(expected)
    assert signed_rank_p(differences / 10 + 0.7 - 0.7) == pytest.approx(
        expected
    )  # rounding does not break the ties


def test_fewer_than_six_patients_get_no_p_and_no_interval():
    row = one({"A": BASE[:5], "B": shifted()[:5]})
    assert all(
        math.isnan(row[name]) for name in ("p_value", "p_adjusted", "low", "high", "rank_biserial")
    )
    assert row["verdict"] == "too few"
    assert "Too few for a test, which needs 6 patients" in comparison_sentence(row)


def test_without_any_difference_p_is_one():
    row = one({"A": BASE, "B": BASE})
    assert (row["p_value"], row["p_adjusted"], row["rank_biserial"], row["low"], row["high"]) == (
        1,
        1,
        0,
        0,
        0,
    )
    assert row["verdict"] == "identical"
    assert comparison_sentence(row).startswith(
        "Dice of T1 liver: B and A do not differ in any of 8 patients, 8 cases."
    )


def test_the_unit_is_the_patient_by_default():
    patients = ["P1", "P1", "P2", "P2", "P3", "P4", "P5", "P6"]
    models = {"A": BASE, "B": shifted()}
    means = np.array([0.015, 0.013, 0.005, 0.0, -0.02, 0.04])
    row = one(models, patients=patients)
    assert (row["cases"], row["patients"], row["tested"], row["tested_unit"]) == (
        8,
        6,
        6,
        "patient",
    )
    assert row["p_value"] == pytest.approx(stats.wilcoxon(np.round(means, 12)).pvalue)
    assert row["mean_difference"] == pytest.approx(
        0.081 / 8
    )  # over the cases, as in the summary of evaluate
    by_case = one(models, patients=patients, unit="case")
    assert by_case["tested"] == 8
    assert by_case["p_value"] == pytest.approx(stats.wilcoxon(np.round(GAINS, 12)).pvalue)
    assert (by_case["low"], by_case["high"]) == (row["low"], row["high"])


def test_counting_cases_of_one_patient_makes_p_too_small():
    gains = np.repeat([0.02, 0.01, 0.03, -0.01, 0.04, -0.02], 5)
    models = {"A": np.zeros(30), "B": gains}
    patients = np.repeat([f"P{n}" for n in range(6)], 5)
    assert one(models, patients=patients)["p_value"] > 0.2
    assert one(models, patients=patients, unit="case")["p_value"] < 0.01


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([1, 2, 3], 1),
        ([-1, -2, -3], -1),
        ([1, 2, -3], 0),
        ([0, 0, 4, -1], 1 / 3),
        ([2, 2, -2], 1 / 3),
        ([0, 0], 0),
    ],
)
def test_rank_biserial_by_hand(differences, expected):
    assert rank_biserial(np.array(differences, float)) == pytest.approx(expected)


def test_p_values_are_adjusted_within_their_family_and_nan_is_no_test():
    p_values = pd.Series([0.01, 0.04, 0.03, 0.02, math.nan, 0.5])
    families = pd.Series(["overlap", "overlap", "overlap", "surface", "surface", "surface"])
    adjusted = adjust_within_families(p_values, families)
    assert list(adjusted[:3]) == pytest.approx(
        list(stats.false_discovery_control([0.01, 0.04, 0.03]))
    )
    assert adjusted[3] == pytest.approx(0.04)  # the smallest of two tests
    assert math.isnan(adjusted[4])
    assert adjusted[5] == pytest.approx(0.5)


def test_two_modalities_and_two_metrics_make_two_families():
    parts = [
        tidy({"A": BASE, "B": shifted()}, metric, modality=modality)
        for metric in ("dice", "hd", "asd")
        for modality in ("T1", "T2")
    ]
    compared = compare_paired(pd.concat(parts), resamples=200)
    assert list(zip(compared["metric"], compared["modality"], strict=True))[:2] == [
        ("dice", "T1"),
        ("dice", "T2"),
    ]
    for _, own in compared.groupby("family"):
        assert list(own["p_adjusted"]) == pytest.approx(
            list(stats.false_discovery_control(own["p_value"]))
        )
    assert set(compared["family"]) == {"overlap", "surface"}


# --- the interval


def test_the_interval_is_the_analytic_one_in_a_large_sample():
    values = np.random.default_rng(0).normal(0.5, 2, 1000)
    low, high = confidence_interval(values, np.arange(1000), resamples=20_000)
    margin = stats.t.ppf(0.975, 999) * values.std(ddof=1) / math.sqrt(1000)
    assert (low, high) == (
        pytest.approx(values.mean() - margin, abs=0.006),
        pytest.approx(values.mean() + margin, abs=0.006),
    )


def test_fully_correlated_cases_add_nothing():
    of_patients = np.random.default_rng(1).normal(0, 1, 300)
    patients = np.arange(300)
    alone = confidence_interval(of_patients, patients)
    five_each = confidence_interval(np.repeat(of_patients, 5), np.repeat(patients, 5))
    as_if_independent = confidence_interval(np.repeat(of_patients, 5), np.arange(1500))
    assert five_each == pytest.approx(alone)
    width = np.ptp(five_each) / np.ptp(as_if_independent)
    assert width == pytest.approx(math.sqrt(5), rel=0.05)


def test_patients_of_unequal_size_against_the_error_of_a_ratio():
    rng = np.random.default_rng(2)
    counts = rng.integers(1, 5, 600)
    values = np.repeat(rng.normal(0, 1, 600), counts) + rng.normal(0, 0.5, counts.sum())
    patients = np.repeat(np.arange(600), counts)
    means = bootstrap_means(values, patients, resamples=4000, seed=0)
    sums = np.bincount(patients, values)
    error = math.sqrt(((sums - values.mean() * counts) ** 2).sum()) / counts.sum()
    assert means.mean() == pytest.approx(values.mean(), abs=0.005)
    assert means.std() == pytest.approx(error, rel=0.05)


def test_few_patients_widen_it_to_the_t_interval():
    values = np.array([-3.0, -2, -1, 1, 2, 3])
    low, high = confidence_interval(values, np.arange(6), resamples=50_000)
    margin = stats.t.ppf(0.975, 5) * values.std(ddof=1) / math.sqrt(6)
    plain = stats.bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert high == pytest.approx(margin, rel=0.1)
    assert low < plain.low < plain.high < high


def test_the_interval_needs_the_seed_only():
    models = {"A": BASE, "B": shifted()}
    assert one(models) == one(models)
    first, other = one(models, seed=1), one(models, seed=2)
    assert (first["low"], first["high"]) != (other["low"], other["high"])
    shuffled = compare_paired(
        tidy(models).sample(frac=1, random_state=0).sort_values("model"), resamples=500
    ).iloc[0]
    assert shuffled["low"] == pytest.approx(one(models)["low"])


# --- what is compared


def test_models_in_pairs():
    assert model_pairs(["A", "B", "C"], None) == [("A", "B"), ("A", "C"), ("B", "C")]
    assert model_pairs(["A", "B", "C"], "B") == [("B", "A"), ("B", "C")]
    with pytest.raises(InputError, match="baseline D: is none of the models A, B"):
        model_pairs(["A", "B"], "D")
    with pytest.raises(InputError, match="two or more models, found A"):
        model_pairs(["A"], None)


def test_a_third_model_does_not_change_a_comparison():
    two = compare_paired(tidy({"A": BASE, "B": shifted()}), resamples=300)
    three = compare_paired(tidy({"A": BASE, "B": shifted(), "C": BASE}), resamples=300)
    same = ["p_value", "low", "high", "mean_difference", "rank_biserial"]
    assert three.loc[0, same].to_dict() == two.loc[0, same].to_dict()


def test_metrics_without_a_direction_are_not_compared():
    assert {"volume_prediction", "volume_reference", "relative_similarity_reference"}.isdisjoint(
        metric.name for metric in all_comparable_metrics()
    )
    assert [one.name for one in comparable_metrics(["volume_reference", "hd", "dice", "iou"])] == [
        "dice",
        "hd",
    ]
    assert [one.name for one in comparable_metrics(["dice", "iou"], ["iou"])] == ["iou"]
    assert {"dice", "hd", "volume_difference"}.isdisjoint(
        metric.name for metric in METRICS.values() if metric.same_as
    )
    with pytest.raises(
        InputError, match="volume_reference: has no better direction; compare some of dice"
    ):
        comparable_metrics(["dice", "volume_reference"], ["volume_reference"])
    with pytest.raises(InputError, match="hd: is no metric of these results"):
        comparable_metrics(["dice"], ["hd"])
    with pytest.raises(InputError, match="no metric of these results has a better direction"):
        comparable_metrics(["volume_reference"])


def test_smallest_differences_of_interest():
    metrics = comparable_metrics(["dice", "surface_dice", "hd95", "volume_difference"])
    assert smallest_differences(None, metrics) == {
        "dice": 0.005,
        "surface_dice": 0.005,
        "hd95": 0,
        "volume_difference": 0,
    }
    assert smallest_differences(0.01, metrics)["dice"] == 0.01
    assert smallest_differences(0.01, metrics)["hd95"] == 0
    assert smallest_differences({"hd95": 1}, metrics) == {
        "dice": 0.005,
        "surface_dice": 0.005,
        "hd95": 1,
        "volume_difference": 0,
    }
    with pytest.raises(InputError, match="smallest difference of size"):
        smallest_differences({"size": 1}, metrics)
    with pytest.raises(InputError, match="0 or more, not -1"):
        smallest_differences(-1, metrics)


def test_tables_that_cannot_be_compared_are_refused():
    table = tidy({"A": BASE, "B": BASE})
    with pytest.raises(InputError, match="A, C000, T1, liver, dice: is in the results twice"):
        compare_paired(pd.concat([table, table.head(1)]))
    with pytest.raises(InputError, match="has no column unit"):
        compare_paired(table.drop(columns="unit"))
    two = table.assign(patient=["P1" if model == "A" else "P2" for model in table["model"]])
    with pytest.raises(InputError, match="case C000: has the patients P1 and P2"):
        compare_paired(two)
    for options in ({"unit": "image"}, {"alpha": 0}, {"resamples": 1}):
        with pytest.raises(InputError):
            compare_paired(table, **options)


def test_a_patient_that_one_table_knows_counts_for_all():
    table = tidy({"A": BASE, "B": shifted()})
    known = table["model"] == "A"
    table["patient"] = np.where(
        known, "P" + (table.groupby("model").cumcount() // 2).astype(str), table["case"]
    )
    assert compare_paired(table, resamples=200).loc[0, "patients"] == 4
    table.loc[~known, "patient"] = None
    assert compare_paired(table, resamples=200).loc[0, "patients"] == 4


# --- verdicts and sentences


def test_the_sentence_of_a_clear_difference():
    row = one({"A": [0.9] * 12, "B": [0.92] * 10 + [0.91, 0.9]})
    text = comparison_sentence(row)
    assert row["p_value"] == pytest.approx(2 / 2**11)  # 11 differences of one sign
    assert row["verdict"] == "better"
    assert text.startswith("Dice of T1 liver: B is 0.018 higher than A on average (95 % CI 0.01")
    assert (
        "12 patients, 12 cases; p < 0.001 after Benjamini-Hochberg). B is better in 11, tied in 1"
        " and worse in 0" in text
    )


def test_the_sentence_of_a_distance_says_what_is_better():
    row = one({"A": [5.0] * 8, "B": [3.9, 4, 4.1, 3.8, 4.2, 4, 3.7, 4]}, "hd95")
    assert comparison_sentence(row).startswith(
        "HD95 of T1 liver (lower is better): B is 1.04 mm lower than A on average (95 % CI −1."
    )
    assert row["verdict"] == "better"


def test_small_equivalent_unclear_and_contradictory_differences():
    small = one({"A": [0.9] * 10, "B": [0.95, 0.85] * 5})
    assert (
        small["verdict"],
        "On average that is less than 0.005" in comparison_sentence(small),
    ) == (
        "small",
        True,
    )
    equivalent = one(
        {
            "A": [0.9] * 10,
            "B": [0.9021, 0.9012, 0.903, 0.9004, 0.9015, 0.9022, 0.901, 0.9, 0.9013, 0.9024],
        }
    )
    assert equivalent["p_adjusted"] < 0.05
    assert (equivalent["verdict"], "No relevant difference" in comparison_sentence(equivalent)) == (
        "equivalent",
        True,
    )
    for sign in (1, -1):  # a small mean whose interval leaves the band on one side only
        gains = sign * np.array([0.0, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.011])
        one_sided = one({"A": [0.9] * 8, "B": 0.9 + gains})
        assert sorted(abs(one_sided[name]) < 0.005 for name in ("low", "high")) == [False, True]
        assert one_sided["verdict"] == "small"
    unclear = one({"A": [0.9] * 8, "B": [0.95, 0.85, 0.96, 0.86, 0.94, 0.84, 0.97, 0.9]})
    assert (
        unclear["verdict"],
        "does not show that they are equal" in comparison_sentence(unclear),
    ) == (
        "not significant",
        True,
    )
    outlier = one({"A": [0.9] * 20, "B": np.r_[np.linspace(0.91, 0.92, 19), 0.0]})
    assert outlier["mean_difference"] < -0.005
    assert (
        outlier["verdict"],
        "The ranks favour the other model" in comparison_sentence(outlier),
    ) == (
        "contradictory",
        True,
    )
    favoured = one({"A": [0.9] * 20, "B": np.r_[np.linspace(0.93, 0.96, 19), 0.0]})
    assert (
        favoured["verdict"],
        "The ranks favour B significantly, but on average" in comparison_sentence(favoured),
    ) == ("small", True)


def test_left_out_and_optimistic_are_said():
    row = one({"A": [5.0] * 8, "B": [4.0] * 6 + [math.inf, None]}, "hd")
    assert (
        "Left out of the means: 1 case that only one of them has and 1 case whose value is infinite"
        in comparison_sentence(row)
    )
    assert "(A: 0, B: 1). No mask is a loss, the last of all ranks." in comparison_sentence(row)
    assert comparison_sentence(row | {"optimistic_a": False, "optimistic_b": True}).endswith(
        "Optimistic for B: the checkpoint was chosen on these cases."
    )


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(0.0004, "<0.001"), (0.0497, "0.0497"), (0.0034, "0.003"), (1.0, "1.000"), (math.nan, "–")],
)
def test_p_for_a_reader(p_value, text):
    assert format_p(p_value) == text


def test_the_worked_example_of_the_documentation():
    """docs/statistics.md"""
    single = [0.930, 0.941, 0.902, 0.955, 0.948, 0.950, 0.921, 0.936, 0.944, 0.880]
    dual = [0.951, 0.950, 0.925, 0.958, 0.959, 0.957, 0.913, 0.947, 0.962, 0.912]
    patients = ["anna", "anna", "ben", "carl", "dora", "dora", "emil", "fay", "gus", "hana"]
    table = tidy({"single": single, "dual": dual}, patients=patients, modality="T2")
    row = compare_paired(table).iloc[0].to_dict()
    assert (row["mean_difference"], row["median_difference"]) == (
        pytest.approx(0.0127),
        pytest.approx(0.011),
    )
    assert (row["p_value"], row["rank_biserial"]) == (
        pytest.approx(6 / 256),
        pytest.approx(32 / 36),
    )
    assert (row["low"], row["high"]) == (
        pytest.approx(0.004, abs=5e-4),
        pytest.approx(0.022, abs=5e-4),
    )
    assert (
        comparison_sentence(row)
        == "Dice of T2 liver: dual is 0.013 higher than single on average (95 % CI 0.004 to 0.022;"
        " 8 patients, 10 cases; p = 0.023 after Benjamini-Hochberg). dual is better in 8, tied"
        " in 1 and worse in 1 case."
    )
    assert compare_paired(table, unit="case").loc[0, "p_value"] == pytest.approx(0.0098, abs=5e-5)


# --- rankings


def test_a_clear_ranking_is_stable():
    rng = np.random.default_rng(0)
    base = rng.normal(0.9, 0.02, 20)
    ranking = ranking_stability(
        tidy({"worst": base - 0.1, "best": base + 0.05, "middle": base}), "dice", resamples=500
    )
    assert list(ranking["model"]) == ["best", "middle", "worst"]
    assert list(ranking["rank"]) == list(ranking["mean_rank"]) == [1, 2, 3]
    assert list(ranking["first"]) == [1, 0, 0]
    assert set(ranking["kendall_tau"]) == {1}


def test_tied_models_share_the_first_rank():
    ranking = ranking_stability(tidy({"A": BASE, "B": BASE}), "dice", resamples=500)
    assert list(ranking["rank"]) == list(ranking["mean_rank"]) == [1.5, 1.5]
    assert list(ranking["first"]) == [0.5, 0.5]
    assert ranking["kendall_tau"].isna().all()


def test_two_models_that_win_by_turns():
    up = np.array([1.0, -1] * 20)
    ranking = ranking_stability(
        tidy({"A": up * 0, "B": up + 0.01}), "dice", resamples=4000
    ).set_index("model")
    assert ranking.loc["B", "rank"] == 1
    assert ranking.loc["B", "first"] == pytest.approx(0.5, abs=0.08)
    assert ranking.loc["B", "kendall_tau"] == pytest.approx(
        2 * ranking.loc["B", "first"] - 1, abs=0.05
    )


def test_in_a_ranking_by_distance_a_missed_mask_is_worse_than_any_distance():
    models = {"A": [5.0] * 7, "B": [4.0] * 6 + [math.inf]}
    ranking = ranking_stability(tidy(models, "hd"), "hd", resamples=2000)
    assert list(ranking["model"]) == ["A", "B"]
    assert set(ranking["left_out"]) == {1}
    assert list(ranking["infinite"]) == [0, 1]
    assert list(ranking["mean"]) == [5, 4]
    # B comes first in the draws without its miss: (6/7)^7 of them
    assert ranking["first"].iloc[1] == pytest.approx((6 / 7) ** 7, abs=0.03)
    both = {"A": [5.0] * 6 + [math.inf], "B": [math.inf] + [4.0] * 6, "C": [9.0] * 7}
    ranking = ranking_stability(tidy(both, "hd"), "hd", resamples=100)
    assert list(ranking["model"]) == ["C", "B", "A"]
    few = ranking_stability(tidy({"A": [5.0] * 3, "B": [4.0] * 3}, "hd"), "hd", resamples=100)
    assert (list(few["rank"]), few["first"].isna().all()) == ([1, 2], True)


def test_kendalls_tau_is_scipys():
    rng = np.random.default_rng(0)
    drawn = rng.integers(1, 4, (50, 5)).astype(float)
    full = np.array([1.0, 2.5, 2.5, 4, 5])
    expected = np.nanmean([stats.kendalltau(row, full).statistic for row in drawn])
    assert mean_kendall_tau(drawn, full) == pytest.approx(expected)


# --- runs


def test_run_to_run_by_hand():
    runs = {
        "1": [0.90, 0.92, 0.80, 0.90],
        "2": [0.91, 0.93, 0.84, 0.90],
        "3": [0.93, 0.89, 0.80, 0.90],
    }
    tables = {name: tidy({name: values}).drop(columns="model") for name, values in runs.items()}
    folds = {"C000": 0, "C001": 0, "C002": 1, "C003": 1}
    table = run_to_run(tables, folds).set_index("fold")
    # means of fold 0: .91, .92, .91; of fold 1: .85, .87, .85
    assert table.loc["0", "difference"] == pytest.approx((0.01 + 0 + 0.01) / 3)
    assert table.loc["1", "difference"] == pytest.approx((0.02 + 0 + 0.02) / 3)
    assert table.loc["0", "case_difference"] == pytest.approx(
        (0.01 + 0.03 + 0.02 + 0.01 + 0.03 + 0.04) / 6
    )
    assert table.loc["all", "difference"] == pytest.approx(0.01)
    assert table.loc["all", "largest"] == pytest.approx(0.02)
    assert (table.loc["all", "cases"], table.loc["all", "runs"]) == (4, 3)
    whole = run_to_run(tables)
    assert whole["difference"].iloc[-1] == pytest.approx((0.015 + 0 + 0.015) / 3)


def test_runs_that_do_not_fit_are_refused():
    table = tidy({"A": BASE}).drop(columns="model")
    with pytest.raises(InputError, match="two or more runs, found 1"):
        run_to_run({"A": table})
    with pytest.raises(InputError, match="case C001: is in the validation set of no fold"):
        run_to_run({"A": table, "B": table}, {"C000": 0})
