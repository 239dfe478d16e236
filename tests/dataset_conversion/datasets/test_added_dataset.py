"""To add a dataset: one module that describes it, and one line that registers it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nnunet_liver_ext import cli
from nnunet_liver_ext.dataset_conversion.datasets import DATASETS, register_dataset
from tests.dataset_conversion.datasets.conversion import Written, intensities_of, labels_of, write

MODULE = """
from pathlib import Path

from nnunet_liver_ext.dataset_conversion.public_dataset import PublicDataset, SegmentationTask
from nnunet_liver_ext.studies.study import (Study)


def find_studies(root: Path) -> list[Study]:
    return [
        Study(scan.parent.name, "1", {"CT": scan}, {"CT": scan.with_name("liver.nrrd")})
        for scan in sorted(root.glob("*/scan.nrrd"))
    ]


DATASET = PublicDataset(
    key="nordic-ct",
    title="Nordic CT",
    content="3 CT volumes from the north",
    expects="NAME/scan.nrrd and NAME/liver.nrrd",
    licence="CC0",
    citation="Nobody, 2024",
    url="https://example.org/nordic",
    modalities=("CT",),
    tasks={"liver": SegmentationTask(labels={"liver": (1, 2)})},
    studies=find_studies,
)
"""


@pytest.fixture
def nordic_ct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "nordic_ct.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(DATASETS, "places", dict(DATASETS.places))
    register_dataset("nordic-ct", "nordic_ct")
    yield "nordic-ct"
    sys.modules.pop("nordic_ct", None)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, ["convert", *arguments], env={"COLUMNS": "250"})
    assert result.exit_code == 0, result.output
    return result.output


def test_an_added_dataset_is_listed_and_has_a_command(nordic_ct: str):
    assert "3 CT volumes from the north" in run("--list")
    assert "3 CT volumes from the north" in run("--help")
    assert "NAME/scan.nrrd" in run(nordic_ct, "--help")


def test_an_added_dataset_is_converted(nordic_ct: str, raw: Path, tmp_path: Path):
    for seed, name in enumerate(("bergen", "oulu", "umea")):
        write(intensities_of(seed), tmp_path / "source" / name / "scan.nrrd")
        write(labels_of(seed), tmp_path / "source" / name / "liver.nrrd")
    run(nordic_ct, str(tmp_path / "source"), "-d", "530", "--folds", "2", "--processes", "1")
    written = Written(raw / "Dataset530_NordicCT")
    assert written.content["numTraining"] == 3
    assert written.content["reference"] == "Nobody, 2024"
    for seed, name in enumerate(("bergen", "oulu", "umea")):
        written.check(name, intensities_of(seed), (labels_of(seed) > 0).astype(np.uint8))


def test_a_key_belongs_to_one_dataset(nordic_ct: str):
    register_dataset(nordic_ct, "nordic_ct")
    with pytest.raises(ValueError, match="there is a dataset 'lits' already"):
        register_dataset("lits", "nordic_ct")
