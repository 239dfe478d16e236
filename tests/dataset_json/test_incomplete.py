from __future__ import annotations

import pytest

from nnunet_liver_ext.dataset_json.incomplete import IncompleteCases
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import PairLabels

PAIR = PairLabels(("T1", "T2"), ("background", "liver", "spleen"))
CASES = IncompleteCases.from_dataset_json(
    {
        "incomplete": {
            "a": {"images": ["T1"], "masks": ["T1"]},
            "b": {"images": ["T1", "T2"], "masks": ["T2"]},
        }
    }
)


def test_which_cases_lack_something():
    assert CASES
    assert CASES.complete_cases(["c", "a", "d", "b"]) == ["c", "d"]
    assert CASES.availability(["a", "b", "c"], PAIR.modalities) == [
        [True, False, True],
        [False, True, True],
    ]
    assert CASES.availability(["c", "d"], PAIR.modalities) is None
    assert CASES.unmeasurable_classes(PAIR) == {
        "a": {"T2 liver", "T2 spleen"},
        "b": {"T1 liver", "T1 spleen"},
    }


def test_a_mask_of_no_image_is_none():
    cases = IncompleteCases.from_dataset_json(
        {"incomplete": {"a": {"images": ["T1"], "masks": ["T1", "T2"]}}}
    )
    assert not cases.has_mask("a", "T2")


def test_complete_datasets_have_no_entry():
    cases = IncompleteCases.from_dataset_json({})
    assert not cases
    assert cases.complete_cases(["a"]) == ["a"]
    assert cases.unmeasurable_classes(PAIR) == {}


@pytest.mark.parametrize("entry", [["a"], {"a": ["T1"]}, {"a": {"images": ["T1"]}}])
def test_a_damaged_entry_is_one_sentence(entry):
    with pytest.raises(
        InputError, match=r"dataset.json: `incomplete` must name the images and masks"
    ):
        IncompleteCases.from_dataset_json({"incomplete": entry})
