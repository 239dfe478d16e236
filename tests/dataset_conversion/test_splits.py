import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_liver_ext.dataset_conversion.splits import choose_hold_out, extend_splits, make_splits
from nnunet_liver_ext.errors import InputError

GROUPS = {
    f"P{patient:03d}_S{study}": f"P{patient:03d}"
    for patient in range(1, 11)
    for study in range(1, 1 + patient % 3 + 1)
}


def sides(fold: dict, groups: dict) -> tuple[set, set]:
    return {groups[case] for case in fold["train"]}, {groups[case] for case in fold["val"]}


@settings(max_examples=60, deadline=None)
@given(
    studies=st.lists(st.integers(1, 4), min_size=2, max_size=12),
    folds=st.integers(2, 5),
    repeats=st.integers(1, 3),
    seed=st.integers(0, 1000),
    added=st.lists(st.integers(0, 14), max_size=6),
)
def test_no_patient_is_on_both_sides(studies, folds, repeats, seed, added):
    groups = {
        f"P{patient:03d}_S{n}": f"P{patient:03d}"
        for patient, count in enumerate(studies)
        for n in range(count)
    }
    folds = min(folds, len(studies))
    splits = make_splits(groups, folds=folds, repeats=repeats, seed=seed)
    more = groups | {
        f"P{patient:03d}_S{90 + n}": f"P{patient:03d}" for n, patient in enumerate(added)
    }
    for found, known in ((splits, groups), (extend_splits(splits, more, folds=folds), more)):
        assert len(found) == folds * repeats
        for fold in found:
            training, validation = sides(fold, known)
            assert not training & validation
            assert sorted(fold["train"] + fold["val"]) == sorted(known)
        for start in range(0, len(found), folds):
            validated = [case for fold in found[start : start + folds] for case in fold["val"]]
            assert sorted(validated) == sorted(known)


def test_splits_are_a_function_of_the_seed_and_repeats_differ():
    splits = make_splits(GROUPS, folds=5, repeats=2, seed=3)
    assert splits == make_splits(GROUPS, folds=5, repeats=2, seed=3)
    assert splits != make_splits(GROUPS, folds=5, repeats=2, seed=4)
    assert {tuple(fold["val"]) for fold in splits[:5]} != {
        tuple(fold["val"]) for fold in splits[5:]
    }


def test_no_case_changes_its_fold_when_cases_are_added_or_go():
    before = make_splits(GROUPS, folds=3, repeats=2, seed=0)
    groups = GROUPS | {"P001_S9": "P001", "P077_S1": "P077"}
    del groups["P002_S1"]
    after = extend_splits(before, groups, folds=3)
    for old, new in zip(before, after, strict=True):
        assert set(old["val"]) - {"P002_S1"} <= set(new["val"])
        assert set(new["val"]) - set(old["val"]) <= {"P001_S9", "P077_S1"}


def test_impossible_splits_are_refused():
    with pytest.raises(InputError, match="10 patients cannot be split into 11 folds"):
        make_splits(GROUPS, folds=11)
    with pytest.raises(InputError, match="2 or more folds"):
        make_splits(GROUPS, folds=1)


def test_hold_out_by_name_number_and_share():
    patients = [f"p{n}" for n in range(10)]
    assert choose_hold_out(patients, ["p3", "p7"]) == {"p3", "p7"}
    assert len(choose_hold_out(patients, 3, seed=1)) == 3
    assert choose_hold_out(patients, 3, seed=1) == choose_hold_out(
        list(reversed(patients)), 3, seed=1
    )
    assert len(choose_hold_out(patients, 0.2)) == 2
    assert choose_hold_out(patients, 0) == set()
    with pytest.raises(InputError, match="nobody are no patients"):
        choose_hold_out(patients, ["nobody"])
    with pytest.raises(InputError, match="all 10 patients are held out"):
        choose_hold_out(patients, 10)


def test_a_share_is_at_least_one_patient_and_a_number_is_whole():
    patients = [f"p{i}" for i in range(9)]
    assert len(choose_hold_out(patients, 0.05)) == 1
    with pytest.raises(
        InputError, match=r"whole number of patients or a share below 1, found 2\.7"
    ):
        choose_hold_out(patients, 2.7)


def test_all_new_patients_may_be_held_out_if_there_are_others_to_train_on():
    assert choose_hold_out(["new"], 1, others=True) == {"new"}
    with pytest.raises(InputError, match="none is left"):
        choose_hold_out(["new"], 1)


def test_patients_with_many_cases_are_spread_over_the_folds():
    groups = {
        f"p{patient}_{case}": f"p{patient}"
        for patient in range(6)
        for case in range(8 if patient < 3 else 1)
    }
    for seed in range(5):
        sizes = [len(fold["val"]) for fold in make_splits(groups, folds=3, seed=seed)]
        assert sizes == [9, 9, 9]
