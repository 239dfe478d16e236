"""Two converted datasets as one, with patients of the second in training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nnunet_liver_ext import cli
from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.join_datasets import join_datasets
from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError
from tests.dataset_conversion.conftest import COARSE, StudyMaker, fingerprint


def convert(studies: list, number: int, name: str, spacing=COARSE, **notes: str) -> Path:
    return write_dataset(
        studies,
        dataset_id=number,
        name=name,
        settings=ConversionSettings(spacing=spacing),
        folds=2,
        processes=1,
        notes=notes,
    )


@pytest.fixture
def two(raw: Path, make_study: StudyMaker) -> tuple[Path, Path]:
    """A: ann, art; B: bea (two studies), ben without T1 mask, bob, and bud without masks."""
    first = [make_study("ann"), make_study("art", seed=1)]
    second = [make_study("bea", "1", seed=2), make_study("bea", "2", seed=3)]
    incomplete = make_study("ben", seed=4)
    second += [incomplete, make_study("bob", seed=5), make_study("bud", seed=6, masks=False)]
    del incomplete.masks["T1"]  # type: ignore[attr-defined]
    return convert(first, 501, "A", licence="CC BY"), convert(second, 502, "B", licence="CC0")


def join(move, number: int = 503, **options):
    options = {"folds": 2, **options}
    return join_datasets(501, 502, dataset_id=number, name="Joined", move=move, **options)


def test_all_files_are_on_their_sides(two: tuple[Path, Path]):
    first, second = two
    before = fingerprint(first), fingerprint(second)
    joined = join(["ben", "P003"])
    assert (fingerprint(first), fingerprint(second)) == before
    assert (joined.moved, joined.num_training, joined.num_test) == (["P002", "P003"], 4, 3)
    files = fingerprint(joined.folder)
    origin = {
        "P001_S1": (before[0], "P001_S1", "Tr", "Tr"),
        "P002_S1": (before[0], "P002_S1", "Tr", "Tr"),
        "P003_S1": (before[1], "P001_S1", "Tr", "Ts"),
        "P003_S2": (before[1], "P001_S2", "Tr", "Ts"),
        "P004_S1": (before[1], "P002_S1", "Tr", "Tr"),
        "P005_S1": (before[1], "P003_S1", "Tr", "Tr"),
        "P006_S1": (before[1], "P004_S1", "Ts", "Ts"),
    }
    expected = {}
    for new, (source, old, old_side, side) in origin.items():
        for channel in ("0000", "0001"):
            image = source[f"images{old_side}/{old}_{channel}.nii.gz"]
            expected[f"images{side}/{new}_{channel}.nii.gz"] = image
        if new != "P006_S1":
            expected[f"labels{side}/{new}.nii.gz"] = source[f"labels{old_side}/{old}.nii.gz"]
    images = {name: value for name, value in files.items() if name.endswith(".nii.gz")}
    assert images == expected
    content = json.loads((joined.folder / "dataset.json").read_text())
    assert content["numTraining"] == 4
    assert content["incomplete"] == {"P004_S1": {"images": ["T1", "T2"], "masks": ["T2"]}}
    assert content["licence"] == {"Dataset501_A": "CC BY", "Dataset502_B": "CC0"}
    manifest = Manifest.load(joined.folder)
    assert {name: (case.patient, case.folder) for name, case in manifest.cases.items()} == {
        "P001_S1": ("ann", "Tr"),
        "P002_S1": ("art", "Tr"),
        "P003_S1": ("bea", "Ts"),
        "P003_S2": ("bea", "Ts"),
        "P004_S1": ("ben", "Tr"),
        "P005_S1": ("bob", "Tr"),
        "P006_S1": ("bud", "Ts"),
    }
    splits = json.loads((joined.folder / "splits_final.json").read_text())
    assert sorted(case for fold in splits for case in fold["val"]) == sorted(
        manifest.training_groups()
    )


def test_patients_are_drawn_and_nested(two: tuple[Path, Path]):
    moved = [join(number, 600 + number, seed=3).moved for number in range(4)]
    assert [len(names) for names in moved] == [0, 1, 2, 3]
    assert set(moved[1]) < set(moved[2]) < set(moved[3])
    with pytest.raises(InputError, match="--move 4: Dataset502_B has 3 training patients"):
        join(4)


def test_what_is_not_alike_is_not_joined(two: tuple[Path, Path], make_study: StudyMaker):
    convert([make_study("cat", seed=7), make_study("cid", seed=8)], 504, "C", (5.0, 5.0, 6.0))
    with pytest.raises(InputError, match="Dataset504_C cannot be joined: they differ in spacing"):
        join_datasets(501, 504, dataset_id=505, name="Joined", move=1)
    with pytest.raises(InputError, match="bud are no training patients of Dataset502_B"):
        join(["bud"])


def test_a_patient_of_both_is_noticed(two: tuple[Path, Path], make_study: StudyMaker):
    convert([make_study("ann", "9", seed=7), make_study("dan", seed=8)], 504, "D")
    arguments = {"dataset_id": 505, "name": "Joined", "move": 1, "folds": 2}
    with pytest.raises(InputError, match=r"both have a patient ann \(1 such names\)"):
        join_datasets(501, 504, **arguments)  # type: ignore[arg-type]
    joined = join_datasets(501, 504, distinct_patients=True, **arguments)  # type: ignore[arg-type]
    names = {case.patient for case in Manifest.load(joined.folder).cases.values()}
    assert names == {"ann", "art", "Dataset504_D: ann", "dan"}
    copy = make_study("eva", seed=0)  # the same images as ann's
    convert([copy, make_study("fay", seed=9)], 506, "E")
    with pytest.raises(InputError, match=r"T1 image of P001_S1 is one of P001_S1 in Dataset501_A"):
        join_datasets(501, 506, dataset_id=507, name="Joined", move=1)


def test_the_command_replaces_only_if_asked(two: tuple[Path, Path], raw: Path):
    def run(*arguments: str):
        command = ["convert", "join", "501", "502", "-d", "503", "--folds", "2", *arguments]
        return CliRunner().invoke(cli.app, command, env={"COLUMNS": "200"})

    assert run().exit_code == 2
    result = run("--move", "1")
    assert result.exit_code == 0, result.output
    assert "Next: nnunet_liver plan -d 503" in result.output
    before = fingerprint(raw / "Dataset503_Joined")
    refused = run("--move-patient", "bob")
    assert "replace it with --overwrite" in str(refused.exception)
    assert fingerprint(raw / "Dataset503_Joined") == before
    result = run("--move-patient", "bob", "--overwrite")
    assert "3 cases to train, 4 to test" in result.output
    assert "Patients of the second that train: P003" in result.output
