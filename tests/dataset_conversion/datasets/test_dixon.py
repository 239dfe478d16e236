"""Water and fat images become images of the fat fraction; masks keep a margin."""

from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.dataset_conversion.datasets.dixon import DATASET, parse_channels
from nnunet_liver_ext.dataset_conversion.mask_erosion import erode_in_plane
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.evaluation.fat_and_tumour_burden import check_percent, eroded, fat_fraction
from nnunet_liver_ext.evaluation.files.find_label_maps import find_images
from nnunet_liver_ext.space.images import Grid, array, image_like, read_image, write_image
from tests.dataset_conversion.datasets.conversion import GRID, convert
from tests.dataset_conversion.datasets.mr_conversion import case_of, dataset_json, voxels, written
from tests.dicom_files import write_series

SHAPE = GRID.size[::-1]
LARGE = Grid((14, 12, 3), (2.0, 1.5, 4.0), (-3.0, 8.0, 11.0), GRID.direction)


def magnitudes(seed: int, grid: Grid = GRID) -> np.ndarray:
    """0 in the corner voxel of both images."""
    values = np.random.default_rng(seed).integers(1, 900, grid.size[::-1]).astype(np.uint16)
    values[0, 0, 0] = 0
    return values


def block(grid: Grid = GRID, border: int = 1) -> np.ndarray:
    mask = np.zeros(grid.size[::-1], np.uint8)
    mask[:, border:-border, border:-border] = 1
    return mask


def write(
    folder: Path, name: str, seed: int, *, mask: np.ndarray | None = None, grid: Grid = GRID
) -> None:
    write_image(image_like(magnitudes(seed, grid), grid), folder / f"{name}_water.nii.gz")
    write_image(image_like(magnitudes(seed + 1, grid), grid), folder / f"{name}_fat.nii.gz")
    write_image(
        image_like(block(grid) if mask is None else mask, grid), folder / f"{name}_mask.nii.gz"
    )


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    for name, seed in (("anna", 10), ("ben", 20)):
        write(folder, name, seed)
    return folder


def percent(seed: int) -> np.ndarray:
    water, fat = magnitudes(seed).astype(float), magnitudes(seed + 1).astype(float)
    return np.where(water + fat > 0, 100 * fat / np.maximum(water + fat, 1), 0)


def test_the_channel_is_the_fat_fraction_in_percent(scans: Path, raw: Path):
    folder = convert("dixon", scans)
    content = dataset_json(folder)
    assert content["channel_names"] == {"0": "fat fraction"}
    for name, seed in (("anna", 10), ("ben", 20)):
        case = case_of(folder, name, name)
        np.testing.assert_allclose(voxels(folder, case, 0), percent(seed), rtol=1e-6)
        np.testing.assert_array_equal(voxels(folder, case), block())
        assert Grid.from_image(written(folder, case, 0)).matches(GRID)
        assert Grid.from_image(written(folder, case)).matches(GRID)
    assert voxels(folder, case, 0)[0, 0, 0] == 0


def test_evaluation_reads_the_channel_as_an_image_of_the_fat_fraction(scans: Path, raw: Path):
    folder = convert("dixon", scans)
    images = find_images(folder / "imagesTr", ())
    assert sorted(key.case for key in images) == ["P001_S1", "P002_S1"]
    values = array(read_image(images[next(iter(images))]))
    check_percent(values, block())
    measured = fat_fraction(values, block(), GRID.spacing_mm)
    assert measured.mean_percent == pytest.approx(percent(10)[block() > 0].mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("channel", "names"),
    [
        (("fat-fraction", "water"), ["fat fraction", "water"]),
        (("fat", "fat-fraction"), ["fat", "fat fraction"]),
        (("water", "fat"), ["water", "fat"]),
        (("fat",), ["fat"]),
    ],
)
def test_water_and_fat_as_channels(
    scans: Path, raw: Path, channel: tuple[str, ...], names: list[str]
):
    folder = convert("dixon", scans, channel=channel)
    assert list(dataset_json(folder)["channel_names"].values()) == names
    expected = {"fat fraction": percent(20), "water": magnitudes(20), "fat": magnitudes(21)}
    case = case_of(folder, "ben", "ben")
    for index, name in enumerate(names):
        np.testing.assert_allclose(voxels(folder, case, index), expected[name], rtol=1e-6)
    np.testing.assert_array_equal(voxels(folder, case), block())


def test_a_csv_and_dicom_folders(tmp_path: Path, raw: Path):
    lines = ["patient,study,water,fat,mask"]
    for name, seed in (("anna", 10), ("ben", 20)):
        folder = tmp_path / name
        for kind, values in (("W", magnitudes(seed)), ("F", magnitudes(seed + 1))):
            write_series(folder / kind, values)
        write_image(
            image_like(block(), Grid.from_image(read_image(folder / "W"))), folder / "liver.nrrd"
        )
        lines.append(f"{name},2024,{name}/W,{name}/F,{name}/liver.nrrd")
    csv = tmp_path / "scans.csv"
    csv.write_text("\n".join(lines) + "\n")
    folder = convert("dixon", csv)
    case = case_of(folder, "ben", "2024")
    np.testing.assert_allclose(voxels(folder, case, 0), percent(20), rtol=1e-6)
    assert Grid.from_image(written(folder, case)).matches(
        Grid.from_image(read_image(tmp_path / "ben" / "W"))
    )


def test_a_margin_is_taken_within_slices():
    mask = block(LARGE).astype(bool)  # 10 x 12 voxels of 1.5 x 2 mm (y, x), through all slices
    expected = np.zeros_like(mask)
    expected[:, 2:-2, 1:-1] = True  # less than a voxel along x
    np.testing.assert_array_equal(erode_in_plane(mask, LARGE.spacing_mm, 1.9), expected)
    expected[:, :, 1] = expected[:, :, -2] = False  # a voxel along both, and none along z
    for margin in (2.0, 2.9):
        np.testing.assert_array_equal(erode_in_plane(mask, LARGE.spacing_mm, margin), expected)
    np.testing.assert_array_equal(erode_in_plane(mask, LARGE.spacing_mm, 0), mask)


def test_the_margin_of_random_masks_is_that_of_evaluation_slice_by_slice():
    rng = np.random.default_rng(3)
    mask = rng.random((4, 20, 22)) < 0.97
    for margin in (0.5, 1.5, 2.0, 2.5, 3.1):
        np.testing.assert_array_equal(
            erode_in_plane(mask, (4.0, 1.5, 2.0), margin), eroded(mask, (1e6, 1.5, 2.0), margin)
        )


def test_masks_with_a_margin_in_the_dataset(tmp_path: Path, raw: Path):
    labels = block(LARGE)
    labels[:, :, 7:] *= 2  # the right half is another class; 9 belongs to none
    labels[0, 0, 0] = 9
    for name in ("anna", "ben"):
        write(tmp_path / "scans", name, 10, mask=labels, grid=LARGE)
    options = {"label": ("liver=1", "spleen=2"), "ignore_other_labels": True}
    folder = convert("dixon", tmp_path / "scans", margin=1.5, **options)
    found = voxels(folder, "P001_S1")
    for label in (1, 2):
        np.testing.assert_array_equal(
            found == label, erode_in_plane(labels == label, LARGE.spacing_mm, 1.5)
        )
    assert (found == 1).any()
    assert case_of(folder, "anna", "anna") == "P001_S1"
    assert (
        dataset_json(folder)["remark"]
        == "Masks keep a margin of 1.5 mm to the border, within slices."
    )


def test_another_margin_is_another_dataset(scans: Path, raw: Path):
    folder = convert("dixon", scans)
    assert Manifest.load(folder).settings["reading"] == {"margin": 0.0}
    assert "remark" not in dataset_json(folder)
    for add in (False, True):
        with pytest.raises(InputError, match="converted with another --margin; use the same"):
            convert("dixon", scans, margin=0.5, add=add)
    convert("dixon", scans, margin=0.0)


def test_a_margin_that_leaves_nothing_or_takes_nothing_is_refused(scans: Path, raw: Path):
    message = r"anna_mask\.nii\.gz: nothing is left of the mask after a margin of 5 mm"
    with pytest.raises(InputError, match=message):
        convert("dixon", scans, margin=5.0)
    message = (
        r"anna_mask\.nii\.gz: a margin of 0\.5 mm takes nothing off the mask, whose voxels are"
        r" \S+ mm apart in a slice; take a larger one"
    )
    with pytest.raises(InputError, match=message):
        convert("dixon", scans, margin=0.5)
    with pytest.raises(InputError, match="0 or more, not -1"):
        DATASET.adapt_to({"margin": -1.0})


def test_scans_that_do_not_fit_are_named(scans: Path, raw: Path):
    shifted = Grid(GRID.size, GRID.spacing, (0.0, 0.0, 0.0), GRID.direction)
    write_image(image_like(magnitudes(11), shifted), scans / "anna_fat.nii.gz")
    write_image(image_like(magnitudes(20), GRID), scans / "ben_fat.nii.gz")
    write(scans, "carl", 30)
    (scans / "carl_fat.nii.gz").unlink()
    write(scans, "dora", 40)
    write_image(image_like(-magnitudes(40).astype(np.int16), GRID), scans / "dora_water.nii.gz")
    for name, seed in (("emil", 50), ("fred", 60), ("gina", 70)):
        write(scans, name, seed)
    for kind in ("water", "fat"):
        write_image(image_like(np.zeros(SHAPE, np.uint16), GRID), scans / f"gina_{kind}.nii.gz")
    with pytest.raises(SomeCasesFailed) as caught:
        convert("dixon", scans)
    reasons = {failure.case: failure.reason for failure in caught.value.failures}
    assert sorted(reasons) == ["anna", "ben", "carl", "dora", "gina"]
    assert "anna_fat.nii.gz: is not on the grid of anna_water.nii.gz" in reasons["anna"]
    assert "is the same image as" in reasons["ben"]
    assert (
        "carl_water.nii.gz: has no fat image beside it; the fat fraction needs both"
        in reasons["carl"]
    )
    assert "dora_fat.nii.gz: water must be magnitudes, 0 or more" in reasons["dora"]
    assert "gina_fat.nii.gz: the water and the fat image are 0 everywhere" in reasons["gina"]


def test_a_changed_fat_image_is_noticed(scans: Path, raw: Path):
    convert("dixon", scans)
    write_image(image_like(magnitudes(99), GRID), scans / "ben_fat.nii.gz")
    with pytest.raises(InputError, match="study ben has changed"):
        convert("dixon", scans)


def test_channels_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="give two at most, the third follows from them"):
        parse_channels(("fat-fraction", "water", "fat"))
    for wrong in (("water", "water"), ("in-phase",)):
        with pytest.raises(InputError, match="choose from fat-fraction, water, fat, each once"):
            parse_channels(wrong)
