"""LiTS and the decathlon's copy: pairs by number, tumours within the liver, identity affines,
macOS's files."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from nnunet_liver_ext.dataset_conversion.datasets.lits import (
    DATASET,
    LitsReader,
    has_identity_affine,
    lits_studies,
)
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.grid import Grid
from nnunet_liver_ext.space.images import array, read_image
from tests.dataset_conversion.datasets.conversion import (
    GRID,
    Written,
    convert,
    intensities_of,
    junk,
    labels_of,
    write,
)

IDENTITY = Grid((6, 5, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0))
"""What ITK makes of a NIfTI file with an identity affine."""
NUMBERS = {0: "Training Batch 1", 28: "Training Batch 2", 130: "Training Batch 2"}


def grid_of_case(number: int) -> Grid:
    return IDENTITY if number == 28 else GRID


@pytest.fixture
def lits(tmp_path: Path) -> Path:
    root = tmp_path / "LiTS"
    for number, folder in NUMBERS.items():
        write(intensities_of(number), root / folder / f"volume-{number}.nii", grid_of_case(number))
        write(labels_of(number), root / folder / f"segmentation-{number}.nii", grid_of_case(number))
        junk(root / folder / f"._volume-{number}.nii")
    write(intensities_of(500), root / "test" / "test-volume-0.nii")
    return root


@pytest.fixture
def msd(tmp_path: Path) -> Path:
    root = tmp_path / "Task03_Liver"
    for number in NUMBERS:
        write(
            intensities_of(number),
            root / "imagesTr" / f"liver_{number}.nii.gz",
            grid_of_case(number),
        )
        write(labels_of(number), root / "labelsTr" / f"liver_{number}.nii.gz", grid_of_case(number))
        for folder in ("imagesTr", "labelsTr"):
            junk(root / folder / f"._liver_{number}.nii.gz")
    write(intensities_of(500), root / "imagesTs" / "liver_132.nii.gz")
    (root / "dataset.json").write_text(
        json.dumps({"labels": {"0": "background", "1": "liver", "2": "cancer"}})
    )
    return root


def test_the_liver_is_liver_and_tumours_voxel_by_voxel(lits: Path, raw: Path):
    written = Written(convert("lits", lits))
    assert written.content["channel_names"] == {"0": "CT"}
    assert written.content["labels"] == {"background": 0, "liver": 1}
    assert written.content["licence"] == "CC BY-NC-ND 4.0"
    assert set(written.cases) == {"volume-0", "volume-28", "volume-130"}
    for number in NUMBERS:
        written.check(
            f"volume-{number}", intensities_of(number), labels_of(number) > 0, grid_of_case(number)
        )


def test_tumours_are_segmented_within_the_liver(lits: Path, raw: Path):
    written = Written(convert("lits", lits, task="tumour"))
    assert written.content["labels"] == {"background": 0, "tumour": 1}
    assert written.content["organ_mask"] == {"name": "liver", "channel": 1}
    written.check("volume-0", intensities_of(0), labels_of(0) == 2)
    np.testing.assert_array_equal(array(written.image("volume-0", 1)), labels_of(0) > 0)


def test_liver_and_tumours_as_two_classes(lits: Path, raw: Path):
    written = Written(convert("lits", lits, task="liver-and-tumour"))
    assert written.content["labels"] == {"background": 0, "liver": 1, "tumour": 2}
    written.check("volume-130", intensities_of(130), labels_of(130))


def test_cases_of_unknown_voxel_size_are_marked_and_dataset_json_says_so(lits: Path, raw: Path):
    np.testing.assert_array_equal(
        nibabel.load(lits / NUMBERS[28] / "volume-28.nii").affine, np.eye(4)
    )
    written = Written(convert("lits", lits))
    assert {patient: case.study for patient, case in written.cases.items()} == {
        "volume-0": "volume-0",
        "volume-28": "unknown-voxel-size",
        "volume-130": "volume-130",
    }
    assert '"unknown-voxel-size" in pairs.json' in written.content["remark"]


def test_cases_of_unknown_voxel_size_can_be_left_out(lits: Path, raw: Path):
    written = Written(convert("lits", lits, identity_affine="leave-out"))
    assert set(written.cases) == {"volume-0", "volume-130"}
    assert "remark" not in written.content


def test_images_of_the_test_set_on_request(lits: Path):
    assert [study.patient for study in DATASET.find(lits)] == [
        "volume-0",
        "volume-28",
        "volume-130",
    ]
    last = DATASET.find(lits, {"test_images": True})[-1]
    assert (last.patient, dict(last.masks)) == ("test-volume-0", {})


def test_the_decathlon(msd: Path, raw: Path):
    written = Written(convert("msd-liver", msd, task="liver-and-tumour"))
    assert (written.content["name"], written.content["licence"]) == (
        "Medical Segmentation Decathlon, Task03 Liver",
        "CC BY-SA 4.0",
    )
    assert set(written.cases) == {"liver_0", "liver_28", "liver_130"}
    assert written.cases["liver_28"].study == "unknown-voxel-size"
    for number in NUMBERS:
        written.check(
            f"liver_{number}", intensities_of(number), labels_of(number), grid_of_case(number)
        )


def test_a_release_with_other_labels_is_refused(msd: Path):
    (msd / "dataset.json").write_text(
        json.dumps({"labels": {"0": "background", "1": "cancer", "2": "liver"}})
    )
    with pytest.raises(InputError, match=r"dataset\.json: liver is 2 there, expected 1"):
        convert("msd-liver", msd)


def test_a_mask_with_an_identity_affine_fits_its_image_and_a_shifted_one_does_not(tmp_path: Path):
    reader, path = LitsReader(), write(intensities_of(1), tmp_path / "volume-1.nii")
    image = read_image(path)
    mask = reader.read_mask(
        write(labels_of(1), tmp_path / "segmentation-1.nii", IDENTITY), image, path
    )
    np.testing.assert_array_equal(array(mask), labels_of(1))
    assert Grid.from_image(mask) == Grid.from_image(image)
    shifted = Grid(GRID.size, GRID.spacing, (0.0, 0.0, 0.0), GRID.direction)
    with pytest.raises(
        InputError, match=r"segmentation-2\.nii: is not on the grid of its image volume-1\.nii"
    ):
        reader.read_mask(write(labels_of(1), tmp_path / "segmentation-2.nii", shifted), image, path)
    smaller = Grid((6, 5, 3), IDENTITY.spacing, IDENTITY.origin, IDENTITY.direction)
    with pytest.raises(InputError, match="is not on the grid"):
        reader.read_mask(
            write(labels_of(1, smaller), tmp_path / "segmentation-3.nii", smaller), image, path
        )


def test_scans_of_1_mm_with_an_origin_are_no_identity():
    assert has_identity_affine(IDENTITY)
    assert not has_identity_affine(GRID)
    assert not has_identity_affine(
        Grid(IDENTITY.size, IDENTITY.spacing, (0.0, 0.0, -80.0), IDENTITY.direction)
    )


def test_a_damaged_volume_is_named(lits: Path):
    (lits / "Training Batch 1" / "volume-0.nii").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"volume-0\.nii: cannot be read"):
        lits_studies(lits)
