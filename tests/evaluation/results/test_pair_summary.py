"""How alike the masks of pairs are, over all pairs, with values known by hand."""

import math

import numpy as np
import pytest

from nnunet_liver_ext.evaluation.results.pair_summary import pair_cells, summarise_pairs
from nnunet_liver_ext.evaluation.statistics.ranks import signed_rank_p
from tests.evaluation.conftest import table

GAINS = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06])


def pairs(gains: np.ndarray):
    return table(
        modality="T1-T2",
        relative_similarity_prediction=0.9 + gains,
        relative_similarity_reference=np.full(len(gains), 0.9),
        relative_similarity_gain=gains,
    )


@pytest.mark.parametrize(("patients", "p_value"), [(3, math.nan), (5, math.nan), (6, 2 / 2**6)])
def test_p_of_few_patients_is_that_of_a_comparison_of_models(patients: int, p_value: float):
    (row,) = summarise_pairs(pairs(GAINS[:patients]))
    assert row["p_value"] == pytest.approx(p_value, nan_ok=True)
    assert row["p_value"] == pytest.approx(signed_rank_p(GAINS[:patients]), nan_ok=True)


def test_six_patients_without_a_difference_have_a_p_of_1():
    (row,) = summarise_pairs(pairs(np.zeros(6)))
    assert row["p_value"] == 1


def test_cases_of_one_patient_count_once():
    rows = pairs(GAINS).assign(
        patient=lambda own: "P" + (own.case.str[1:].astype(int) // 2).astype(str)
    )
    (row,) = summarise_pairs(rows)
    assert (row["pairs"], row["excluded"]) == (6, 0)
    assert math.isnan(row["p_value"])


def test_excluded_pairs_are_in_no_mean_and_in_no_test():
    rows = pairs(np.append(GAINS, np.nan))
    (row,) = summarise_pairs(rows)
    assert (row["pairs"], row["excluded"]) == (7, 1)
    assert row["gain"] == pytest.approx(0.035)
    assert row["p_value"] == pytest.approx(2 / 2**6)
    assert pair_cells(row) == ["7", "1", "0.935", "0.900", "0.035", "0.031"]
