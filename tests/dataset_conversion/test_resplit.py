"""Other splits of a dataset that is there, by patient."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nnunet_liver_ext import cli
from nnunet_liver_ext.dataset_conversion.resplit import (
    SplitRequest,
    resplit_dataset,
    split_by_patient,
)
from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
from nnunet_liver_ext.errors import InputError

GROUPS = {
    f"P{patient:03d}_S{study}": f"P{patient:03d}"
    for patient in range(1, 13)
    for study in range(1, 3 if patient % 3 == 0 else 2)
}
"""Twelve patients; every third has two cases: sixteen cases."""


def patients(cases: list[str]) -> set[str]:
    return {GROUPS[case] for case in cases}


def test_a_fixed_validation_set():
    (fold,), held_out = split_by_patient(GROUPS, SplitRequest(validation=["P001", "P003"]))
    assert fold["val"] == ["P001_S1", "P003_S1", "P003_S2"]
    assert sorted(fold["train"] + fold["val"]) == sorted(GROUPS)
    assert held_out == []


def test_a_test_set_is_in_no_fold():
    request = SplitRequest(folds=3, repeats=2, hold_out=0.25, seed=4)
    splits, held_out = split_by_patient(GROUPS, request)
    assert len(held_out) == 3
    assert len(splits) == 6
    for fold in splits:
        sides = patients(fold["train"]), patients(fold["val"])
        assert not sides[0] & sides[1]
        assert sides[0] | sides[1] == set(GROUPS.values()) - set(held_out)
    splits, held_out = split_by_patient(GROUPS, SplitRequest(hold_out=["P002", "P012"], folds=2))
    assert held_out == ["P002", "P012"]


def test_training_subsets_are_nested_and_by_patient():
    subsets = {}
    for wanted in (4, 8, 11):
        request = SplitRequest(folds=4, train_cases=wanted, seed=1)
        subsets[wanted], _ = split_by_patient(GROUPS, request)
        for fold, whole in zip(
            subsets[wanted], split_by_patient(GROUPS, SplitRequest(folds=4, seed=1))[0], strict=True
        ):
            assert wanted - 1 <= len(fold["train"]) <= wanted
            assert fold["val"] == whole["val"]
            assert not patients(fold["train"]) & patients(
                [case for case in GROUPS if case not in fold["train"]]
            )
    for small, large in ((4, 8), (8, 11)):
        for fold, larger in zip(subsets[small], subsets[large], strict=True):
            assert set(fold["train"]) < set(larger["train"])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (SplitRequest(validation=["P001", "anna"]), "--validation: anna are no patients"),
        (SplitRequest(validation=sorted(set(GROUPS.values()))), "none is left to train on"),
        (SplitRequest(validation=["P001"], hold_out=["P001"]), "--hold-out: P001 are no patients"),
        (SplitRequest(validation=["P001"], hold_out=11), "all 11 patients are held out"),
        (SplitRequest(train_cases=16), "a fold has 1[234] training cases, so 16 cannot be taken"),
        (SplitRequest(folds=13), "12 patients cannot be split into 13 folds"),
    ],
)
def test_splits_that_cannot_be(request_: SplitRequest, message: str):
    with pytest.raises(InputError, match=message):
        split_by_patient(GROUPS, request_)


@pytest.fixture
def dataset(raw: Path, make_study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four patients, the first with two studies, and a preprocessed folder."""
    studies = [make_study("anna", "1"), make_study("anna", "2", seed=1)]
    studies += [make_study(name, seed=seed) for seed, name in enumerate(("ben", "carl", "dora"), 2)]
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    (tmp_path / "preprocessed" / "Dataset501_Liver").mkdir(parents=True)
    return convert(studies)


def convert(studies: list, **options) -> Path:
    options = {"folds": 2, "processes": 1, **options}
    return write_dataset(studies, dataset_id=501, name="Liver", **options)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(
        cli.app, ["splits", "-d", "501", *arguments], catch_exceptions=False, env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command(dataset: Path, tmp_path: Path):
    before = (dataset / "splits_final.json").read_text()
    with pytest.raises(InputError, match=r"splits_final\.json: holds other splits; --overwrite"):
        run("--validation", "anna,P003")
    assert (dataset / "splits_final.json").read_text() == before
    assert list((tmp_path / "preprocessed" / "Dataset501_Liver").iterdir()) == []
    output = run("--validation", "anna,P003", "--train-cases", "1", "--overwrite")
    expected = {"val": ["P001_S1", "P001_S2", "P003_S1"]}
    for folder in (dataset, tmp_path / "preprocessed" / dataset.name):
        (fold,) = json.loads((folder / "splits_final.json").read_text())
        assert fold["val"] == expected["val"]
        assert fold["train"] in (["P002_S1"], ["P004_S1"])
    assert (dataset / "splits_final.previous.json").read_text() == before
    assert "fold 0: 1 to train, 3 to validate" in output
    run("--validation", "anna,P003", "--train-cases", "1")  # the same again needs no --overwrite


def test_conversion_leaves_own_splits_alone_and_extends_plain_ones(dataset: Path, make_study):
    studies = [make_study("anna", "1"), make_study("anna", "2", seed=1)]
    studies += [make_study(name, seed=seed) for seed, name in enumerate(("ben", "carl", "dora"), 2)]
    run("--hold-out-patient", "dora", "--folds", "2", "--overwrite")
    own = (dataset / "splits_final.json").read_text()
    assert "P004" not in own
    convert(studies)
    convert([*studies, make_study("emil", seed=9)], add=True)
    assert (dataset / "splits_final.json").read_text() == own
    run("--folds", "3", "--seed", "5", "--overwrite")
    convert([make_study("fritz", seed=10)], add=True, folds=3, seed=5)
    splits = json.loads((dataset / "splits_final.json").read_text())
    assert len(splits) == 3
    for fold in splits:
        assert len(fold["train"] + fold["val"]) == 7


def test_a_dataset_of_others_needs_its_patients(raw: Path, tmp_path: Path):
    folder = raw / "Dataset007_Other"
    for name in ("a1", "a2", "b1", "c1"):
        path = folder / "labelsTr" / f"{name}.nrrd"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "dataset.json").write_text('{"file_ending": ".nrrd"}')
    with pytest.raises(InputError, match=r"has no pairs\.json, so whose cases .* --patients CSV"):
        resplit_dataset(7, SplitRequest(folds=2))
    table = tmp_path / "p.csv"
    table.write_text("case,patient\na1,a\na2,a\nb1,b\n")
    with pytest.raises(InputError, match=r"does not say whose case c1 is \(1 such cases\)"):
        resplit_dataset(7, SplitRequest(folds=2), patients=table)
    table.write_text("case,patient\na1,a\na2,a\nb1,b\nc1,c\n")
    written = resplit_dataset(7, SplitRequest(validation=["a"]), patients=table)
    assert written.splits == [{"train": ["b1", "c1"], "val": ["a1", "a2"]}]
    assert written.files == [folder / "splits_final.json"]


def test_options_that_exclude_each_other():
    for options in (("--validation", "a", "--folds", "3"), ("--validation", "a,,b")):
        result = CliRunner().invoke(cli.app, ["splits", "-d", "501", *options])
        assert result.exit_code == 2
