"""3D-IRCADb-01 with its quirks: DICOM masks by structure, nested folders, several tumours, files
without endings."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.dataset_conversion.datasets.ircadb import find_tumour_folders, ircadb_studies
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.space.grid import Grid
from nnunet_liver_ext.space.images import array
from tests.dataset_conversion.conftest import AXIAL, ball
from tests.dataset_conversion.datasets.conversion import Written, convert, junk
from tests.dicom_files import write_series

GRID = Grid((16, 14, 12), (4.0, 3.0, 1.6), (-30.0, -20.0, 50.0), AXIAL)
CENTRE = (-8.0, -4.0, 56.0)
STRUCTURES = {
    1: {"liver": 0, "livertumor01": 1, "livertumor02": 2, "livertumors": 3, "leftkidney": 9},
    2: {"liver": 0, "tumor": 5, "leftsurretumor": 6},
    19: {"liver": 0, "livertumor": 4, "skin": 7},
}
"""Folders of each patient, with a number for the place of each structure. Patient 2 has tumours
elsewhere alone."""


def structure(patient: int, place: int) -> np.ndarray:
    """The liver (place 0) or a random part of it."""
    liver = ball(GRID, CENTRE, 13)
    if place == 0:
        return liver
    return liver & (np.random.default_rng(100 * patient + place).random(liver.shape) < 0.1)


def hounsfield(patient: int) -> np.ndarray:
    values = np.random.default_rng(patient).normal(-500, 300, GRID.size[::-1])
    values[ball(GRID, CENTRE, 13)] = 90
    return values.round().clip(-1024, 3000).astype(np.int16)


def tumours(patient: int) -> np.ndarray:
    masks = [
        structure(patient, place)
        for name, place in STRUCTURES[patient].items()
        if name.startswith("livertumor")
    ]
    return np.logical_or.reduce([np.zeros(GRID.size[::-1], bool), *masks])


def write_slices(
    folder: Path, values: np.ndarray, *, origin: tuple[float, ...] = GRID.origin, **attributes: int
) -> None:
    """image_0, image_1, ... from the top down."""
    count = len(values)
    write_series(
        folder,
        values,
        names=[f"image_{count - 1 - z}" for z in range(count)],
        spacing=GRID.spacing[:2],
        step=GRID.spacing[2],
        origin=origin,
        echo_time=None,
        **attributes,
    )


@pytest.fixture(scope="module")
def written_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patient 1 has nested folders; the masks of patient 19 say that they lie elsewhere."""
    root = tmp_path_factory.mktemp("written") / "3Dircadb1"
    for patient, structures in STRUCTURES.items():
        folder, nested = root / f"3Dircadb1.{patient}", patient == 1
        scan, masks = folder / "PATIENT_DICOM", folder / "MASKS_DICOM"
        scan, masks = (scan / "PATIENT_DICOM", masks / "MASKS_DICOM") if nested else (scan, masks)
        write_slices(
            scan,
            (hounsfield(patient) + 1024).astype(np.uint16),
            RescaleSlope=1,
            RescaleIntercept=-1024,
        )
        for name, place in structures.items():
            origin = (0.0, 0.0, 0.0) if patient == 19 else GRID.origin
            write_slices(
                masks / name, (255 * structure(patient, place)).astype(np.uint8), origin=origin
            )
        junk(masks / "liver" / "._image_0")
        (folder / "LABELLED_DICOM.zip").touch()
    return root


@pytest.fixture
def ircadb(written_once: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(written_once, tmp_path / written_once.name))


def test_patients_are_found_in_nested_folders(ircadb: Path):
    junk(ircadb / "__MACOSX" / "3Dircadb1.1" / "PATIENT_DICOM" / "image_0")
    studies = ircadb_studies(ircadb)
    assert [study.patient for study in studies] == ["3Dircadb1.1", "3Dircadb1.2", "3Dircadb1.19"]
    assert studies[0].masks["CT"].parent.name == "MASKS_DICOM"
    assert [len(find_tumour_folders(study.masks["CT"])) for study in studies] == [3, 0, 1]
    assert [study.patient for study in ircadb_studies(ircadb / "3Dircadb1.2")] == ["3Dircadb1.2"]


def test_the_liver_and_the_union_of_its_tumours(ircadb: Path, raw: Path):
    written = Written(convert("ircadb", ircadb, task="liver-and-tumour"))
    for patient in STRUCTURES:
        expected = np.where(tumours(patient), 2, structure(patient, 0))
        written.check(f"3Dircadb1.{patient}", hounsfield(patient), expected, GRID)
    assert set(np.unique(array(written.label("3Dircadb1.1")))) == {0, 1, 2}


def test_tumours_within_the_liver_and_patients_without(ircadb: Path, raw: Path):
    written = Written(convert("ircadb", ircadb, task="tumour"))
    for patient in STRUCTURES:
        written.check(f"3Dircadb1.{patient}", hounsfield(patient), tumours(patient), GRID)
        np.testing.assert_array_equal(
            array(written.image(f"3Dircadb1.{patient}", 1)), structure(patient, 0)
        )
    assert not array(written.label("3Dircadb1.2")).any()


def test_slices_belong_together_by_name(ircadb: Path, raw: Path):
    liver = ircadb / "3Dircadb1.2" / "MASKS_DICOM" / "liver"
    (liver / "image_3").unlink()
    with pytest.raises(
        SomeCasesFailed,
        match=r"1 of 3 .*\n  3Dircadb1.2: .*not named as those of .*liver has no image_3 of ",
    ):
        convert("ircadb", ircadb)
    write_slices(liver, np.zeros((len(hounsfield(2)), 14, 15), np.uint8))
    with pytest.raises(SomeCasesFailed, match=r"image_\d+: has 15x14 pixels, its slice 16x14"):
        convert("ircadb", ircadb)


def test_masks_with_negative_values_are_refused(ircadb: Path, raw: Path):
    liver = ircadb / "3Dircadb1.2" / "MASKS_DICOM" / "liver"
    write_slices(
        liver, np.zeros(GRID.size[::-1], np.uint16), RescaleSlope=1, RescaleIntercept=-1024
    )
    with pytest.raises(SomeCasesFailed, match="holds the value -1024; a mask has none below 0"):
        convert("ircadb", ircadb)


def test_masks_in_the_other_order_are_noticed(ircadb: Path, raw: Path):
    write_slices(
        ircadb / "3Dircadb1.2" / "MASKS_DICOM" / "liver",
        (255 * structure(2, 0)[::-1]).astype(np.uint8),
    )
    with pytest.raises(SomeCasesFailed, match="seem to be flipped along z"):
        convert("ircadb", ircadb)


def test_what_was_not_unpacked_is_said(ircadb: Path, tmp_path: Path):
    (ircadb / "3Dircadb1.3" / "PATIENT_DICOM").mkdir(parents=True)
    (ircadb / "3Dircadb1.3" / "MASKS_DICOM.zip").touch()
    with pytest.raises(
        InputError,
        match=r"3Dircadb1\.3: has 0 folders PATIENT_DICOM .* were all its zip files unpacked",
    ):
        ircadb_studies(ircadb)
    write_slices(ircadb / "3Dircadb1.3" / "PATIENT_DICOM", (hounsfield(3) + 1024).astype(np.uint16))
    with pytest.raises(
        InputError, match=r"3Dircadb1\.3: has 0 folders MASKS_DICOM with a folder liver"
    ):
        ircadb_studies(ircadb)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no 3D-IRCADb-01 data"):
        ircadb_studies(tmp_path / "empty")


def test_a_patient_that_is_there_twice_is_refused(ircadb: Path):
    write_slices(
        ircadb / "copy" / "3Dircadb1.2" / "PATIENT_DICOM", (hounsfield(2) + 1024).astype(np.uint16)
    )
    with pytest.raises(InputError, match=r"patient 3Dircadb1\.2 is there twice"):
        ircadb_studies(ircadb)
