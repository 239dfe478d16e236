import math

import numpy as np
import pandas as pd
import pytest

from nnunet_liver_ext.evaluation.measures import METRICS
from nnunet_liver_ext.evaluation.summaries import agreements, to_look_at
from nnunet_liver_ext.evaluation.tables import COLUMNS


def table(modality="T1", name="liver", **values):
    """One column of values for each metric, a case for each value."""
    rows = [
        (f"P{n}", f"P{n}", modality, name, metric, float(value), METRICS[metric].unit)
        for metric, own in values.items()
        for n, value in enumerate(own)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def test_volumes_agree_as_bland_and_altman_say():
    measured, reference = [1480, 1530, 1215, 1990, 1710], [1500, 1500, 1300, 2000, 1700]
    (row,) = agreements(table(volume_prediction=measured, volume_reference=reference))
    errors = np.subtract(measured, reference)
    assert (row["modality"], row["class"], row["quantity"], row["unit"]) == ("T1", "liver", "volume", "ml")
    assert row["mean_error"] == pytest.approx(errors.mean())
    assert row["mean_absolute_error"] == pytest.approx(np.abs(errors).mean())
    assert row["limits"]["upper"] == pytest.approx(errors.mean() + 1.96 * errors.std(ddof=1))
    assert row["share_within"] == pytest.approx(4 / 5)
    assert "fatty" not in row


def test_fat_fractions_are_counted_at_the_threshold():
    measured, reference = [8, 8, 5.56, 3, 2], [7, 5.56, 9, 2, 1]
    (row,) = agreements(table(fat_mean_prediction=measured, fat_mean_reference=reference))
    assert row["quantity"] == "fat_mean"
    counts = [row["fatty"][f"{name}s"] for name in ("true_positive", "false_positive", "false_negative", "true_negative")]
    assert counts == [1, 1, 1, 2]
    assert row["fatty"]["kappa"] == pytest.approx((0.6 - 0.52) / (1 - 0.52))


def test_both_volumes_of_a_pair_have_limits():
    differences = [10.0, -20.0, 30.0]
    own = table("T1-T2", pair_volume_difference_prediction=differences, pair_volume_difference_reference=[0, 0, 3.0])
    prediction, reference = agreements(own)
    assert (prediction["side"], reference["side"]) == ("prediction", "reference")
    assert prediction["limits"]["mean"] == pytest.approx(np.mean(differences))
    assert reference["limits"]["std"] == pytest.approx(np.std([0, 0, 3], ddof=1))


def test_quantities_that_were_not_measured_have_no_row():
    assert agreements(table(dice=[0.9, 0.8], volume_prediction=[1, 2])) == []


def test_outliers_are_on_the_bad_side_and_need_some_cases():
    dice = [0.95, 0.96, 0.94, 0.95, 0.80, 0.95]
    (found,) = to_look_at(table(dice=dice))
    assert (found["case"], found["modality"], found["class"]) == ("P4", "T1", "liver")
    assert found["reason"] == "Dice 0.800 is far from the others"
    assert to_look_at(table(dice=dice[3:])) == []
    (distance,) = to_look_at(table(hd95=[3, 4, 3, 4, 3, math.inf]))
    assert distance["reason"] == "HD95 ∞ mm is far from the others"


def test_what_can_hardly_be_a_liver():
    own = table(pieces=[1, 3], share_on_the_left=[12, 97], share_outside_the_body=[0.2, 30])
    assert [found["reason"] for found in to_look_at(own)] == [
        "the prediction has 3 pieces",
        "97 % of the prediction is on the patient's left",
        "30 % of the prediction is outside the body",
    ]
    assert {found["case"] for found in to_look_at(own)} == {"P1"}


def test_tumours_may_have_pieces_anywhere():
    own = pd.concat([table(pieces=[1]), table(name="tumour", pieces=[7], share_on_the_left=[80])])
    assert to_look_at(own) == []
    assert len(to_look_at(table(name="7", pieces=[2]))) == 1  # the only class
