"""TotalSegmentator MRI: most images show no liver; an empty mask says so, a missing one says
nothing."""

from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.dataset_conversion.datasets.totalsegmentator_mri import (
    DATASET,
    totalsegmentator_mri_studies,
)
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import array
from tests.dataset_conversion.datasets.conversion import (
    GRID,
    Written,
    convert,
    intensities_of,
    junk,
    labels_of,
    write,
)


@pytest.fixture
def totalsegmentator(tmp_path: Path) -> Path:
    """Livers in 1, 2 and 5; an empty mask in 3, a spleen alone in 4."""
    root = tmp_path / "TotalsegmentatorMRI_dataset_v200"
    for number in range(1, 6):
        folder = root / f"s{number:04d}"
        write(intensities_of(number), folder / "mri.nii.gz")
        write(labels_of(number, count=1), folder / "segmentations" / "spleen.nii.gz")
        if number != 4:
            values = (
                np.zeros(GRID.size[::-1], np.uint8)
                if number == 3
                else labels_of(10 + number, count=1)
            )
            write(values, folder / "segmentations" / "liver.nii.gz")
    junk(root / "s0001" / "._mri.nii.gz")
    (root / "meta.csv").write_text("image_id;split\n")
    return root


def names(root: Path, **options: bool) -> list[str]:
    return [study.patient for study in DATASET.find(root, options)]


def test_images_with_some_liver(totalsegmentator: Path, raw: Path):
    written = Written(convert("totalsegmentator-mri", totalsegmentator))
    assert list(written.cases) == ["s0001", "s0002", "s0005"]
    for number in (1, 2, 5):
        written.check(f"s{number:04d}", intensities_of(number), labels_of(10 + number, count=1))


def test_liver_free_images_on_request_but_none_that_nobody_looked_at(
    totalsegmentator: Path, raw: Path
):
    assert names(totalsegmentator, liver_free=True) == ["s0001", "s0002", "s0003", "s0005"]
    written = Written(
        convert("totalsegmentator-mri", totalsegmentator, liver_free=True, allow_empty=True)
    )
    assert not array(written.label("s0003")).any()


def test_images_without_a_mask_on_request(totalsegmentator: Path):
    assert names(totalsegmentator, test_images=True) == ["s0001", "s0002", "s0004", "s0005"]
    study = next(
        study
        for study in DATASET.find(totalsegmentator, {"test_images": True})
        if study.patient == "s0004"
    )
    assert not study.masks


def test_what_is_not_there_is_said(totalsegmentator: Path, tmp_path: Path):
    with pytest.raises(InputError, match="none of 1 images of TotalSegmentator MRI shows a liver"):
        totalsegmentator_mri_studies(totalsegmentator / "s0003")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match=r"holds no TotalSegmentator MRI data; expected sNNNN/mri\.nii\.gz"
    ):
        totalsegmentator_mri_studies(tmp_path / "empty")
    write(intensities_of(1), totalsegmentator / "copy" / "s0001" / "mri.nii.gz")
    with pytest.raises(InputError, match="subject s0001 is there twice"):
        totalsegmentator_mri_studies(totalsegmentator)
