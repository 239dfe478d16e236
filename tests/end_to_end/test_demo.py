"""The demo on somebody's own studies: every step runs, and a second run does nothing again."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from nnunet_liver_ext.benchmark.demo import (
    DemoSettings,
    hold_out_last_patients,
    run_demo,
    write_csv,
)
from nnunet_liver_ext.dataset_conversion.phantom import write_studies
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.study import Study
from nnunet_liver_ext.studies.study_layouts import read_studies


def test_own_studies_from_beginning_to_end(tmp_path: Path, monkeypatch):
    for kind in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{kind}", "")  # the demo sets its own; put back afterwards
    source = write_studies(tmp_path / "studies", pairs=5, seed=3, difficulty="demo")
    settings = DemoSettings(
        out=tmp_path / "out", source=source, hold_out=1, epochs=1, spacing=(9.0, 9.0, 12.0)
    )
    results = run_demo(settings, Console(file=io.StringIO()))
    assert set(results) == {
        "nnUNetTrainerSingleInput",
        "nnUNetTrainerDualOutputSpecialized",
        "nnUNetTrainerSimilarity",
    }
    for trainer, table in results.items():
        assert set(table["case"]) == {read_studies(source)[-1].name}
        assert set(table["modality"]) == {"T1", "T2", "T1-T2"}
        assert set(table["class"]) == {"liver"}
        report = (tmp_path / "out" / trainer / "evaluation" / "report.html").read_text()
        assert "esearch use only" in report

    trained = sorted((tmp_path / "out" / "nnUNet_results").rglob("checkpoint_final.pth"))
    assert len(trained) == 3
    before = [path.stat().st_mtime_ns for path in trained]
    again = run_demo(settings, Console(file=io.StringIO()))
    assert [path.stat().st_mtime_ns for path in trained] == before
    for trainer, table in results.items():
        pd.testing.assert_frame_equal(table, again[trainer])
    with pytest.raises(InputError, match="was begun with other settings"):
        run_demo(
            DemoSettings(out=tmp_path / "out", source=source, hold_out=1, epochs=2),
            Console(file=io.StringIO()),
        )


def test_held_out_are_the_last_patients():
    studies = [Study(patient, "1", {}, {}) for patient in ("b", "a", "d", "c", "d")]
    assert hold_out_last_patients(studies, 2) == ["c", "d"]
    with pytest.raises(InputError, match="4 patients are too few to hold out 3"):
        hold_out_last_patients(studies, 3)


def test_the_csv_is_read_back(tmp_path: Path):
    for name in ("t1", "t2", "mask"):
        (tmp_path / f"{name}.nii.gz").touch()
    study = Study(
        "p",
        "s",
        {"T1": tmp_path / "t1.nii.gz", "T2": tmp_path / "t2.nii.gz"},
        {"T2": tmp_path / "mask.nii.gz"},
    )
    write_csv([study], tmp_path / "csv" / "studies.csv")
    (found,) = read_studies(tmp_path / "csv" / "studies.csv")
    assert (found.patient, found.study) == ("p", "s")
    assert {name: path.resolve() for name, path in found.images.items()} == dict(study.images)
    assert {name: path.resolve() for name, path in found.masks.items()} == dict(study.masks)
