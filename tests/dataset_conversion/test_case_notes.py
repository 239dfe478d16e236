"""What is strange about cases is printed, and kept in pairs.json."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.studies.study import Study
from tests.dataset_conversion.conftest import COARSE
from tests.dataset_conversion.test_bad_input import no_scanner_coordinates


def convert(studies: list[Study]) -> Path:
    settings = ConversionSettings(spacing=COARSE)
    return write_dataset(
        studies, dataset_id=501, name="Test", settings=settings, folds=2, processes=1
    )


def notes_on(studies: list[Study], capsys: pytest.CaptureFixture[str]) -> list[str]:
    convert(studies)
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("note on ")]


def test_nothing_is_said_of_ordinary_studies(raw: Path, make_study, capsys):
    assert notes_on([make_study("anna"), make_study("ben", seed=1)], capsys) == []
    manifest = (raw / "Dataset501_Test" / "pairs.json").read_text()
    assert "notes" not in manifest


def test_a_lone_image_without_scanner_coordinates_is_noted_each_time(raw, make_study, capsys):
    lone = no_scanner_coordinates(make_study("ben", seed=1))
    ben = Study("ben", "2021", {"T2": lone.images["T2"]}, {})
    studies = [make_study("anna"), make_study("carl", seed=2), ben]
    expected = "note on ben_2021: the T2 image gives no scanner coordinates"
    for _ in range(2):  # the second run converts nothing
        (note,) = notes_on(studies, capsys)
        assert note.startswith(expected)
    (note,) = Manifest.load(raw / "Dataset501_Test").cases["P002_S1"].notes
    assert note.startswith("the T2 image gives no scanner coordinates")


def test_one_file_under_two_patients_is_noted(raw: Path, make_study, capsys):
    anna, ben = make_study("anna"), make_study("ben", seed=1)
    shutil.copy(anna.images["T1"], ben.images["T1"])
    again = Study("anna", "2022", anna.images, anna.masks)  # one patient may have it twice
    notes = notes_on([anna, ben, again, make_study("carl", seed=2)], capsys)
    assert notes == [
        f"note on {who}: the T1 image is the same file as one of {other}; if they are one patient,"
        " give them one name, or training and validation share images."
        for who, other in (("anna_2021, anna_2022", "ben"), ("ben_2021", "anna"))
    ]
