"""The Duke Liver Dataset with its quirks: doubled folders, file names that sort as numbers, two
keys, masks as DICOM."""

import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from nnunet_liver_ext.dataset_conversion.datasets.duke import (
    DATASET,
    contrast_names,
    duke_images,
    duke_pairs,
)
from nnunet_liver_ext.dataset_conversion.datasets.duke_masks import DukeReader, have_positions
from nnunet_liver_ext.dataset_conversion.datasets.duke_series import find_series, read_letters
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import decode_pair
from nnunet_liver_ext.space.dicom import read_series
from nnunet_liver_ext.space.images import Grid, array, read_image, read_mask
from tests.dataset_conversion.conftest import ball
from tests.dataset_conversion.datasets.conversion import convert
from tests.dataset_conversion.datasets.mr_conversion import case_of, dataset_json, voxels, written
from tests.dicom_files import write_series

TILTED = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
"""Rows run to +y and columns to -z: sagittal slices, ascending to -x."""
SHAPE = (11, 8, 9)
LIVER_AT = (4, 3, 2)
GRID = Grid(SHAPE[::-1], (3.0, 3.0, 3.0), (-12.0, -10.0, 100.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
LIVER = ball(GRID, tuple(np.array(GRID.origin) + 3.0 * np.array(LIVER_AT)[::-1]), 7.0)
KEY = "DLDS,Series,Label\n"


def intensities(seed: int) -> np.ndarray:
    """Even tissue in the liver, uneven around it, so that a flipped mask shows."""
    rng = np.random.default_rng(seed)
    return np.where(LIVER, 500 + rng.integers(0, 20, SHAPE), rng.integers(0, 400, SHAPE)).astype(
        np.uint16
    )


def write_images(folder: Path, seed: int) -> None:
    """Slices 1.dicom, 2.dicom, ..., 11.dicom, along z; an identifier of its own in every file."""
    write(folder, intensities(seed))


def write_masks(
    folder: Path, *, placed: bool, names: str = "{}.dicom", flipped: bool = False
) -> None:
    mask = np.flip(LIVER, 2) if flipped else LIVER
    write(folder, mask.astype(np.uint8) * 255, names)
    if not placed:
        for path in folder.iterdir():
            file = pydicom.dcmread(path)
            del file.ImagePositionPatient
            file.save_as(path)


def write(folder: Path, values: np.ndarray, names: str = "{}.dicom", **options) -> None:
    write_series(
        folder,
        values,
        names=[names.format(index + 1) for index in range(len(values))],
        spacing=GRID.spacing[:2],
        step=GRID.spacing[2],
        origin=GRID.origin,
        uid_per_file=True,
        **options,
    )


@pytest.fixture(scope="module")
def written_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patient 1 has series B twice, K and T2; patient 2 has B without mask, and K; patient 10 has G
    alone."""
    root = tmp_path_factory.mktemp("written") / "DLDS"
    segmentation, all_series = (
        root / "Segmentation" / "Segmentation",
        root / "All" / "Series_Classification",
    )
    for patient, series, placed in [
        ("0001", "9", True),
        ("0001", "10", False),
        ("0001", "21", True),
        ("0002", "7", False),
        ("0010", "4", True),
    ]:
        folder = segmentation / patient / series
        write_images(folder / "images", seed=int(patient) * 100 + int(series))
        write_masks(folder / "masks", placed=placed)
    for patient, series in [("0001", "2"), ("0001", "30"), ("0001", "9"), ("0002", "3")]:
        write_images(all_series / patient / series, seed=int(patient) * 100 + int(series))
    (root / "SegmentationKey.csv").write_text(
        f"\ufeff{KEY}1,9,B\n1,10,B\n1,21,K\n2,7,K\n10,4,G\n", encoding="utf-8"
    )
    (root / "SeriesClassificationKey.csv").write_text(f"{KEY}1,2,A\n1,30,A\n1,9,F\n2,3,B\n")
    junk = root / "__MACOSX" / "0001" / "9" / "images" / "1.dicom"
    junk.parent.mkdir(parents=True)
    junk.write_bytes(b"junk")
    (segmentation / "0001" / "9" / "masks" / "._1.dicom").write_bytes(b"junk")
    return root


@pytest.fixture
def root(written_once: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(written_once, tmp_path / written_once.name))


def test_series_are_found_with_what_they_show(root: Path):
    found = [
        (one.patient, one.name, one.letter, one.masks is not None) for one in find_series(root)
    ]
    assert found == [
        ("0001", "2", "A", False),
        ("0001", "9", "B", True),  # the key of the segmentations counts, and the series with masks
        ("0001", "10", "B", True),
        ("0001", "21", "K", True),
        ("0001", "30", "A", False),
        ("0002", "3", "B", False),
        ("0002", "7", "K", True),
        ("0010", "4", "G", True),
    ]
    # the keys lie beside the archives' folders
    assert read_letters(root / "Segmentation")["0002", "7"] == "K"


def test_pairs_of_two_contrasts(root: Path):
    studies = duke_pairs(root, "B", "K")
    assert [study.name for study in studies] == ["0001_9-21", "0001_10-21", "0002_3-7"]
    assert [set(study.masks) for study in studies] == [
        {"T1pre", "T1pv"},
        {"T1pre", "T1pv"},
        {"T1pv"},
    ]
    assert (
        studies[0].images["T1pre"]
        == root / "Segmentation" / "Segmentation" / "0001" / "9" / "images"
    )
    assert studies[2].images["T1pre"] == root / "All" / "Series_Classification" / "0002" / "3"


def test_t1_and_t2_of_which_the_nearest_in_number_is_taken(root: Path):
    studies = duke_pairs(root, "B", "A")
    assert [study.name for study in studies] == ["0001_9-2", "0001_10-2"]
    assert [set(study.images) for study in studies] == [{"T1", "T2"}] * 2
    assert [set(study.masks) for study in studies] == [{"T1"}] * 2
    assert [study.name for study in duke_pairs(root, "K", "A")] == ["0001_21-30", "0002_7"]


def test_converted_pairs(root: Path, raw: Path):
    folder = convert("duke", root)
    content = dataset_json(folder)
    assert content["channel_names"] == {"0": "T1pre", "1": "T1pv"}
    assert content["labels"]["T1pre liver and T1pv liver"] == 3
    incomplete = case_of(folder, "0002", "3-7")
    assert content["incomplete"] == {incomplete: {"images": ["T1pre", "T1pv"], "masks": ["T1pv"]}}
    first, second = decode_pair(voxels(folder, case_of(folder, "0001", "9-21")))
    grid = Grid.from_image(written(folder, case_of(folder, "0001", "9-21")))
    truth = ball(grid, tuple(np.array(GRID.origin) + 3.0 * np.array(LIVER_AT)[::-1]), 7.0)
    for mask in (first.astype(bool), second.astype(bool)):
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.8
    first, second = decode_pair(voxels(folder, incomplete))
    assert not first.any()
    assert second.any()


def test_converted_images_are_exact(root: Path, raw: Path):
    folder = convert("duke", root, layout="images")
    content = dataset_json(folder)
    assert (content["channel_names"], content["numTraining"]) == ({"0": "MR"}, 5)
    for patient, series in (("0001", "9"), ("0001", "10"), ("0010", "4")):
        case = case_of(folder, patient, series)
        np.testing.assert_array_equal(voxels(folder, case), LIVER)
        np.testing.assert_array_equal(
            voxels(folder, case, 0), intensities(int(patient) * 100 + int(series))
        )
        assert Grid.from_image(written(folder, case)).matches(GRID)
    # all series of a patient stay on one side of every split
    assert {case_of(folder, "0001", series)[:4] for series in ("9", "10", "21")} == {"P001"}


def test_images_of_some_sequences(root: Path):
    assert [study.name for study in duke_images(root, ("K", "G"))] == [
        "0001_21",
        "0002_7",
        "0010_4",
    ]
    with pytest.raises(InputError, match="no series H has a mask; those with masks are B, G, K"):
        duke_images(root, ("H",))


@pytest.mark.parametrize("names", ["{}.dicom", "mask{}.dicom", "{:04d}.dicom"])
@pytest.mark.parametrize("placed", [True, False])
def test_mask_slices_find_their_image_slices(tmp_path: Path, names: str, placed: bool):
    write_images(tmp_path / "images", seed=1)
    write_masks(tmp_path / "masks", placed=placed, names=names)
    assert have_positions(sorted((tmp_path / "masks").iterdir())) is placed
    image = DukeReader().read_image(tmp_path / "images")
    mask = DukeReader().read_mask(tmp_path / "masks", image, tmp_path / "images")
    np.testing.assert_array_equal(array(mask), LIVER)
    assert Grid.from_image(mask).matches(GRID)


def test_names_that_fall_with_z_follow_the_slices_as_well(tmp_path: Path):
    last = len(LIVER)
    depths = [GRID.spacing[2] * (last - 1 - index) for index in range(last)]
    write(tmp_path / "images", intensities(1)[::-1], depths=depths)
    write(tmp_path / "masks", LIVER[::-1].astype(np.uint8), "m{}.dicom")
    for path in (tmp_path / "masks").iterdir():
        file = pydicom.dcmread(path)
        file.ImagePositionPatient = [0, 0, 0]  # one place for all says nothing
        file.save_as(path)
    image = DukeReader().read_image(tmp_path / "images")
    np.testing.assert_array_equal(
        array(DukeReader().read_mask(tmp_path / "masks", image, tmp_path / "images")), LIVER
    )


def test_orientation_is_kept(tmp_path: Path):
    write(tmp_path / "images", intensities(1), orientation=TILTED)
    write(tmp_path / "masks", LIVER.astype(np.uint8), orientation=TILTED)
    image = DukeReader().read_image(tmp_path / "images")
    mask = DukeReader().read_mask(tmp_path / "masks", image, tmp_path / "images")
    assert Grid.from_image(mask).matches(
        Grid.from_image(read_series(tmp_path / "images", same_uid=False))
    )
    columns = np.array(image.GetDirection()).reshape(3, 3).T
    np.testing.assert_allclose(columns, [[0, 1, 0], [0, 0, -1], [-1, 0, 0]], atol=1e-6)
    np.testing.assert_array_equal(array(mask), LIVER)


@pytest.mark.skipif(
    "NNUNET_LIVER_REAL_DATA" not in os.environ,
    reason="needs real images: set NNUNET_LIVER_REAL_DATA",
)
def test_a_real_liver_without_places_is_taken_and_refused_if_flipped(tmp_path: Path):
    folder = Path(os.environ["NNUNET_LIVER_REAL_DATA"])
    values = array(read_image(folder / "mr_3mm.nii.gz")).astype(float)
    liver = (array(read_mask(folder / "mr_3mm_labels.nii.gz")) == 5).astype(np.uint8)
    write(
        tmp_path / "images",
        np.interp(values, (values.min(), values.max()), (0, 4000)).astype(np.uint16),
    )
    for name, mask in (("masks", liver), ("flipped", np.flip(liver, 0))):
        write(tmp_path / name, mask)
        for path in (tmp_path / name).iterdir():
            file = pydicom.dcmread(path)
            del file.ImagePositionPatient
            file.save_as(path)
    image = DukeReader().read_image(tmp_path / "images")
    np.testing.assert_array_equal(
        array(DukeReader().read_mask(tmp_path / "masks", image, tmp_path / "images")), liver
    )
    with pytest.raises(InputError, match="seem to be flipped along z"):
        DukeReader().read_mask(tmp_path / "flipped", image, tmp_path / "images")


def test_masks_that_do_not_fit_are_refused(tmp_path: Path):
    write_images(tmp_path / "images", seed=1)
    image = DukeReader().read_image(tmp_path / "images")

    def mask(name: str) -> None:
        DukeReader().read_mask(tmp_path / name, image, tmp_path / "images")

    write_masks(tmp_path / "flipped", placed=False, flipped=True)
    with pytest.raises(InputError, match="flipped: these masks seem to be flipped along"):
        mask("flipped")
    write(tmp_path / "few", LIVER[:-1].astype(np.uint8))
    with pytest.raises(InputError, match=r"few: holds 10 mask slices, .*images 11 slices"):
        mask("few")
    write(tmp_path / "small", LIVER[:, :-1].astype(np.uint8))
    with pytest.raises(InputError, match=r"small: is not on the grid of"):
        mask("small")
    for path in (tmp_path / "small").iterdir():
        file = pydicom.dcmread(path)
        del file.PixelSpacing
        file.save_as(path)
    with pytest.raises(InputError, match=r"1\.dicom: has 9x7 pixels, its slice 9x8"):
        mask("small")
    (tmp_path / "few" / "11.dicom").write_bytes(b"no DICOM")
    with pytest.raises(InputError, match=r"11\.dicom: cannot be read as DICOM"):
        mask("few")


def test_what_cannot_be_paired_is_said(root: Path, tmp_path: Path):
    with pytest.raises(
        InputError, match="no series H or C has a mask; those with masks are B, G, K"
    ):
        duke_pairs(root, "H", "C")
    for name in ("SegmentationKey.csv", "SeriesClassificationKey.csv"):
        (root / name).unlink()
    with pytest.raises(
        InputError, match=r"has no SegmentationKey\.csv, which says what each series shows"
    ):
        duke_pairs(root, "B", "K")
    assert len(duke_images(root)) == 5  # needs no key
    (root / "SegmentationKey.csv").write_text("Patient,Series,Label\n1,9,B\n")
    with pytest.raises(
        InputError, match="needs the columns DLDS, Series, Label, found Patient, Series, Label"
    ):
        duke_pairs(root, "B", "K")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no Duke Liver Dataset"):
        find_series(tmp_path / "empty")


def test_a_series_that_is_there_twice_is_refused(root: Path):
    copy = root / "old" / "0001" / "9"
    write_images(copy / "images", seed=1)
    write_masks(copy / "masks", placed=True)
    with pytest.raises(InputError, match="series 9 of patient 0001 is there twice"):
        find_series(root)


def test_names_and_options_of_pairs():
    assert contrast_names("B", "A") == ("T1", "T2")
    assert contrast_names("G", "K") == ("T1in", "T1pv")
    assert DATASET.adapt_to({"t1": "G", "t2": "A"}).modalities == ("T1", "T2")
    assert DATASET.adapt_to({"layout": "images"}).modalities == ("MR",)
    with pytest.raises(
        InputError, match=r"--t1 K --t2 K: give two different ones of A \(T2\), B \(T1pre\)"
    ):
        contrast_names("K", "K")
    with pytest.raises(InputError, match="--sequence goes with --layout images"):
        DATASET.adapt_to({"sequence": ("B",)})
