"""AMOS22: CT and MR in the same folders, told apart by their numbers, not by dataset.json."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.dataset_conversion.datasets.amos import DATASET, amos_studies
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.grid import Grid
from nnunet_liver_ext.space.images import array, read_image, read_mask
from tests.dataset_conversion.datasets.conversion import (
    Written,
    convert,
    intensities_of,
    junk,
    labels_of,
    write,
)

FOLDERS = {1: "Tr", 499: "Va", 500: "Tr", 540: "Tr", 578: "Va"}


@pytest.fixture
def amos(tmp_path: Path) -> Path:
    root = tmp_path / "amos22"
    for number, part in FOLDERS.items():
        write(intensities_of(number), root / f"images{part}" / f"amos_{number:04d}.nii.gz")
        write(labels_of(number, count=15), root / f"labels{part}" / f"amos_{number:04d}.nii.gz")
    for number in (400, 600):
        write(intensities_of(number), root / "imagesTs" / f"amos_{number:04d}.nii.gz")
    junk(root / "imagesTr" / "._amos_0540.nii.gz")
    (root / "dataset.json").write_text(
        json.dumps(
            {"modality": {"0": "CT"}, "labels": {"0": "background", "5": "esophagus", "6": "liver"}}
        )
    )
    return root


def test_mr_begins_at_500_and_the_liver_is_6(amos: Path, raw: Path):
    written = Written(convert("amos", amos))
    assert written.content["channel_names"] == {"0": "MR"}
    assert list(written.cases) == ["amos_0500", "amos_0540", "amos_0578"]
    for number in (500, 540, 578):
        written.check(
            f"amos_{number:04d}", intensities_of(number), labels_of(number, count=15) == 6
        )


def test_ct(amos: Path, raw: Path):
    written = Written(convert("amos", amos, modality="ct"))
    assert written.content["channel_names"] == {"0": "CT"}
    assert list(written.cases) == ["amos_0001", "amos_0499"]


def test_ct_and_mr_together_are_not_scaled_as_ct(amos: Path, raw: Path):
    written = Written(convert("amos", amos, modality="both", task="organs"))
    assert written.content["channel_names"] == {"0": "image"}
    assert written.content["labels"]["liver"] == 6
    assert len(written.content["labels"]) == 16
    written.check("amos_0499", intensities_of(499), labels_of(499, count=15))


def test_the_test_set_on_request_and_with_masks_if_there_are_any(amos: Path):
    both = [study.patient for study in DATASET.find(amos, {"test_images": True})]
    assert both == ["amos_0500", "amos_0540", "amos_0578", "test-amos_0600"]
    write(labels_of(600, count=15), amos / "labelsTs" / "amos_0600.nii.gz")
    last = DATASET.find(amos)[-1]
    assert (last.patient, last.masks["MR"].parent.name) == ("test-amos_0600", "labelsTs")


def test_a_folder_of_ct_alone_is_no_mr(amos: Path):
    for number in (500, 540):
        (amos / "imagesTr" / f"amos_{number:04d}.nii.gz").unlink()
        (amos / "labelsTr" / f"amos_{number:04d}.nii.gz").unlink()
    for folder in ("imagesVa", "labelsVa"):
        (amos / folder / "amos_0578.nii.gz").unlink()
    with pytest.raises(
        InputError,
        match=r"holds no MR \(numbers from 500 on\) of AMOS; choose another with --modality",
    ):
        amos_studies(amos)
    assert len(amos_studies(amos, modality="ct")) == 2


def test_another_number_of_the_liver_is_refused(amos: Path):
    (amos / "dataset.json").write_text(json.dumps({"labels": {"1": "liver"}}))
    with pytest.raises(InputError, match="liver is 1 there, expected 6"):
        amos_studies(amos)


def test_a_real_image(tmp_path: Path, raw: Path):
    data = os.environ.get("NNUNET_LIVER_REAL_DATA")
    if not data:
        pytest.skip("NNUNET_LIVER_REAL_DATA is not set")
    image, mask = (
        Path(data) / "mr_2mm_amos0540.nii.gz",
        Path(data) / "mr_2mm_amos0540_labels.nii.gz",
    )
    for number in (540, 541):
        for folder, source in (("imagesTr", image), ("labelsTr", mask)):
            (tmp_path / "amos22" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "amos22" / folder / f"amos_{number:04d}.nii.gz").symlink_to(
                source.resolve()
            )
    written = Written(convert("amos", tmp_path / "amos22"))
    label, reference = written.label("amos_0540"), array(read_mask(mask))
    np.testing.assert_array_equal(array(label), reference == 6)
    assert Grid.from_image(label).matches(Grid.from_image(read_image(image)), tolerance=0.001)
    assert array(label).sum() * np.prod(label.GetSpacing()) / 1000 == pytest.approx(1311, abs=1)
    np.testing.assert_allclose(
        array(written.image("amos_0540")), array(read_image(image)), rtol=1e-6
    )
