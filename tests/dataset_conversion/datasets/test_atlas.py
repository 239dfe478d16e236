"""ATLAS 2023: liver and tumours exclude each other, so the liver is their union."""

import json
from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.space.images import array
from tests.dataset_conversion.datasets.conversion import (
    Written,
    convert,
    intensities_of,
    junk,
    labels_of,
    write,
)


@pytest.fixture
def atlas(tmp_path: Path) -> Path:
    root = tmp_path / "atlas-train-dataset-1.0.1"
    for number in (0, 1, 10):
        write(intensities_of(number), root / "train" / "imagesTr" / f"im{number}.nii.gz")
        write(labels_of(number), root / "train" / "labelsTr" / f"lb{number}.nii.gz")
    junk(root / "train" / "imagesTr" / "._im0.nii.gz")
    (root / "train" / "dataset.json").write_text(
        json.dumps({"labels": {"0": "background", "1": "liver", "2": "tumor"}})
    )
    return root


def test_the_liver_is_the_union(atlas: Path, raw: Path):
    written = Written(convert("atlas", atlas))
    assert written.content["channel_names"] == {"0": "MR"}
    assert list(written.cases) == ["im0", "im1", "im10"]
    for number in (0, 1, 10):
        written.check(f"im{number}", intensities_of(number), labels_of(number) > 0)


def test_tumours_within_the_liver(atlas: Path, raw: Path):
    written = Written(convert("atlas", atlas, task="tumour"))
    assert written.content["channel_names"] == {"0": "MR", "1": "noNorm"}
    for number in (0, 1, 10):
        written.check(f"im{number}", intensities_of(number), labels_of(number) == 2)
        np.testing.assert_array_equal(array(written.image(f"im{number}", 1)), labels_of(number) > 0)


def test_a_case_without_tumour_is_none_to_refuse(atlas: Path, raw: Path):
    write((labels_of(1) > 0).astype(np.uint8), atlas / "train" / "labelsTr" / "lb1.nii.gz")
    written = Written(convert("atlas", atlas, task="tumour"))
    assert not array(written.label("im1")).any()
    assert array(written.image("im1", 1)).any()


def test_a_third_label_and_other_numbers_are_refused(atlas: Path, raw: Path):
    write(labels_of(1, count=3), atlas / "train" / "labelsTr" / "lb1.nii.gz")
    with pytest.raises(
        SomeCasesFailed, match=r"1 of 3 .*\n  im1: .*lb1\.nii\.gz: holds the unknown label 3"
    ):
        convert("atlas", atlas)
    (atlas / "train" / "dataset.json").write_text(
        json.dumps({"labels": {"1": "tumor", "2": "liver"}})
    )
    with pytest.raises(InputError, match=r"dataset\.json: liver is 2 there, expected 1"):
        convert("atlas", atlas)
