"""Which cases results.json and the report mark."""

import math

import numpy as np
import pandas as pd
import pytest

from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.files.find_label_maps import NO_MODALITY, ImageKey
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.flags import cases_to_look_at, find_flags, parse_key
from tests.evaluation.conftest import table as values_of
from tests.evaluation.report.report_pages import livers, object_values, results

USUAL = {f"P{n:02d}": (0.95 + n / 1000,) for n in range(10)}


def shorts(table, failures=(), options=Options()):
    return {(flag.key.case, flag.short) for flag in find_flags(table, failures, options)}


def one(**more):
    return results(
        {("A", "T1", "liver"): object_values(0.9, **more), ("B", "T1", "liver"): object_values(0.9)}
    )


def test_usual_cases_have_no_flags():
    assert shorts(livers(USUAL)) == set()


def test_a_dice_far_below_the_others_is_an_outlier_and_one_far_above_is_not():
    dices = {name: (dice[0] - 0.1,) for name, dice in USUAL.items()}
    assert shorts(livers({**dices, "low": (0.5,), "high": (0.999,)})) == {
        ("low", "Dice outlier"),
        ("low", "HD95 outlier"),
    }


def test_few_cases_have_no_outliers():
    assert shorts(livers({"A": (0.9,), "B": (0.91,), "C": (0.92,), "D": (0.1,)})) == set()


def test_an_empty_mask_is_named_by_its_side_and_its_infinite_distance_is_no_second_flag():
    table = livers({**USUAL, "X": (0.0,)})
    flags = [flag for flag in find_flags(table, (), Options()) if flag.key.case == "X"]
    assert [flag.short for flag in flags if flag.severe] == ["empty prediction"]
    assert not any("HD95" in flag.short for flag in flags)
    empty = one(volume_reference=0.0)
    assert shorts(empty) == {("A", "empty reference")}
    both = one(volume_reference=0.0, volume_prediction=0.0)
    assert shorts(both) == {("A", "both empty")}


def test_a_case_without_lesions_is_no_reason_to_look():
    table = results(
        {
            ("A", "T1", "liver"): object_values(0.9),
            ("A", "T1", "lesion"): object_values(
                1.0, volume_reference=0.0, volume_prediction=0.0, pieces=0.0
            ),
        }
    )
    assert shorts(table, options=Options(lesions=("lesion",))) == set()
    assert shorts(table) == {("A", "both empty")}


@pytest.mark.parametrize(
    ("values", "short"),
    [
        ({"pieces": 3.0, "share_outside_largest_piece": 2.5}, "3 pieces"),
        ({"share_on_the_left": 80.0}, "on the left"),
        ({"share_outside_the_body": 4.0}, "outside the body"),
    ],
)
def test_what_cannot_be_a_liver(values, short):
    assert shorts(one(**values)) == {("A", short)}


def test_harmless_values_are_not_flagged():
    assert shorts(one(share_on_the_left=45.0, share_outside_the_body=0.5, pieces=1.0)) == set()
    assert (
        shorts(one(share_on_the_left=np.nan, share_outside_largest_piece=np.nan, pieces=0.0))
        == set()
    )


def test_lesions_may_lie_anywhere_in_many_pieces():
    table = results(
        {
            ("A", "T1", "Liver"): object_values(0.9, pieces=2.0),
            ("A", "T1", "lesion"): object_values(0.8, pieces=7.0, share_on_the_left=90.0),
        }
    )
    assert shorts(table) == {("A", "2 pieces")}


def test_the_only_class_is_taken_for_the_organ():
    table = results({("A", "T1", "1"): object_values(0.9, pieces=2.0)})
    assert shorts(table) == {("A", "2 pieces")}


def test_failures_are_flags_of_their_image():
    failures = [
        CaseFailure("P 1 T2", "the reference has no prediction."),
        CaseFailure("Q T1", "P.nii.gz: cannot be read."),
    ]
    flags = find_flags(livers(USUAL), failures, Options())
    assert [(flag.key, flag.short, flag.severe) for flag in flags] == [
        (ImageKey("P 1", "T2"), "no prediction", True),
        (ImageKey("Q", "T1"), "not evaluated", True),
    ]


def test_names_are_taken_apart_as_keys_are_written():
    for key in (
        ImageKey("P001", "T1"),
        ImageKey("A T2", "T1"),
        ImageKey("P001", "T1-T2"),
        ImageKey("P001", NO_MODALITY),
    ):
        assert parse_key(str(key), ["T1", "T1-T2"]) == key


# ---------------------------------------------------------------------- in results.json


def test_outliers_are_on_the_bad_side_and_need_some_cases():
    dice = [0.95, 0.96, 0.94, 0.95, 0.80, 0.95]
    (found,) = cases_to_look_at(values_of(dice=dice), Options())
    assert (found["case"], found["modality"], found["class"]) == ("P4", "T1", "liver")
    assert found["reason"].startswith("Dice 0.800 is far from the other cases (robust z −")
    assert cases_to_look_at(values_of(dice=dice[3:]), Options()) == []
    (distance,) = cases_to_look_at(values_of(hd95=[3, 4, 3, 4, 3, math.inf]), Options())
    assert distance["reason"] == "HD95 ∞ mm is far from the other cases"


def test_what_can_hardly_be_a_liver():
    own = values_of(
        pieces=[1, 3],
        share_outside_largest_piece=[0, 7.5],
        share_on_the_left=[12, 97],
        share_outside_the_body=[0.2, 30],
    )
    assert [found["reason"] for found in cases_to_look_at(own, Options())] == [
        "the prediction has 3 pieces, 7.5 % of it outside the largest",
        "97 % of the prediction lie on the patient's left",
        "30.0 % of the prediction lie outside the body",
    ]
    assert {found["case"] for found in cases_to_look_at(own, Options())} == {"P1"}


def test_tumours_may_have_pieces_anywhere():
    own = pd.concat(
        [values_of(pieces=[1]), values_of(name="tumour", pieces=[7], share_on_the_left=[80])]
    )
    assert cases_to_look_at(own, Options()) == []
    assert len(cases_to_look_at(values_of(name="7", pieces=[2]), Options())) == 1  # the only class
