"""BTCV: img and label by number; the liver is 6."""

from pathlib import Path

import pytest

from nnunet_liver_ext.dataset_conversion.datasets.btcv import DATASET, btcv_studies
from nnunet_liver_ext.errors import InputError
from tests.dataset_conversion.datasets.conversion import (
    Written,
    convert,
    intensities_of,
    labels_of,
    write,
)


@pytest.fixture
def btcv(tmp_path: Path) -> Path:
    root = tmp_path / "Abdomen" / "RawData"
    for number in (1, 2, 40):
        write(intensities_of(number), root / "Training" / "img" / f"img{number:04d}.nii.gz")
        write(
            labels_of(number, count=13), root / "Training" / "label" / f"label{number:04d}.nii.gz"
        )
    write(intensities_of(61), root / "Testing" / "img" / "img0061.nii.gz")
    return root


def test_the_liver_alone(btcv: Path, raw: Path):
    written = Written(convert("btcv", btcv))
    assert written.content["channel_names"] == {"0": "CT"}
    assert list(written.cases) == ["img0001", "img0002", "img0040"]
    for number in (1, 2, 40):
        written.check(f"img{number:04d}", intensities_of(number), labels_of(number, count=13) == 6)


def test_all_organs_by_name(btcv: Path, raw: Path):
    written = Written(convert("btcv", btcv, task="organs"))
    assert [
        written.content["labels"][name] for name in ("spleen", "liver", "left adrenal gland")
    ] == [1, 6, 13]
    written.check("img0040", intensities_of(40), labels_of(40, count=13))


def test_the_test_set_on_request(btcv: Path):
    assert [study.patient for study in DATASET.find(btcv)] == ["img0001", "img0002", "img0040"]
    assert DATASET.find(btcv, {"test_images": True})[-1].patient == "test-img0061"


def test_a_mask_that_is_missing_is_named(btcv: Path):
    (btcv / "Training" / "label" / "label0002.nii.gz").unlink()
    with pytest.raises(InputError, match=r"img0002\.nii\.gz: has no mask of number 2"):
        btcv_studies(btcv)
