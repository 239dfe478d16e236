import numpy as np
import pytest

from nnunet_liver_ext.evaluation.results.agreement_and_detection import agreements
from tests.evaluation.conftest import table


def test_volumes_agree_as_bland_and_altman_say():
    measured, reference = [1480, 1530, 1215, 1990, 1710], [1500, 1500, 1300, 2000, 1700]
    (row,) = agreements(table(volume_prediction=measured, volume_reference=reference))
    errors = np.subtract(measured, reference)
    assert (row["modality"], row["class"], row["quantity"], row["unit"]) == (
        "T1",
        "liver",
        "volume",
        "ml",
    )
    assert row["mean_error"] == pytest.approx(errors.mean())
    assert row["mean_absolute_error"] == pytest.approx(np.abs(errors).mean())
    assert row["limits"]["upper"] == pytest.approx(errors.mean() + 1.96 * errors.std(ddof=1))
    assert row["share_within"] == pytest.approx(4 / 5)
    assert "fatty" not in row


def test_fat_fractions_are_counted_at_the_threshold():
    measured, reference = [8, 8, 5.56, 3, 2], [7, 5.56, 9, 2, 1]
    (row,) = agreements(table(fat_mean_prediction=measured, fat_mean_reference=reference))
    assert row["quantity"] == "fat_mean"
    counts = [
        row["fatty"][f"{name}s"]
        for name in ("true_positive", "false_positive", "false_negative", "true_negative")
    ]
    assert counts == [1, 1, 1, 2]
    assert row["fatty"]["kappa"] == pytest.approx((0.6 - 0.52) / (1 - 0.52))


def test_both_volumes_of_a_pair_have_limits():
    differences = [10.0, -20.0, 30.0]
    own = table(
        "T1-T2",
        pair_volume_difference_prediction=differences,
        pair_volume_difference_reference=[0, 0, 3.0],
    )
    prediction, reference = agreements(own)
    assert (prediction["side"], reference["side"]) == ("prediction", "reference")
    assert prediction["limits"]["mean"] == pytest.approx(np.mean(differences))
    assert reference["limits"]["std"] == pytest.approx(np.std([0, 0, 3], ddof=1))


def test_quantities_that_were_not_measured_have_no_row():
    assert agreements(table(dice=[0.9, 0.8], volume_prediction=[1, 2])) == []
