"""CHAOS CT with its quirks: masks numbered by the rank of file names, z falling with the name, a
wrong SliceThickness."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunet_liver_ext.dataset_conversion.datasets.chaos_ct import ChaosCtReader, chaos_ct_studies
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.space.grid import Grid
from tests.dataset_conversion.conftest import AXIAL, ball
from tests.dataset_conversion.datasets.conversion import Written, convert, junk
from tests.dicom_files import write_series

GRID = Grid((20, 16, 12), (3.0, 4.0, 2.0), (-30.0, -32.0, 100.0), AXIAL)
LIVER_MM = (-6.0, -8.0, 107.0)
NAMES = {"1": "i{:04d},0000b.dcm", "2": "IMG-0002-{:05d}.dcm", "10": "i{:04d},0000b.dcm"}
"""File names by examination; those of 2 count from 1."""


def liver(seed: int) -> np.ndarray:
    """A ball with random voxels missing, so that any shift or flip shows."""
    mask = ball(GRID, LIVER_MM, 14)
    return mask & (np.random.default_rng(seed).random(mask.shape) > 0.2)


def hounsfield(seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(-600, 300, GRID.size[::-1])
    inside = ball(GRID, LIVER_MM, 14)
    values[inside] = np.random.default_rng(seed).normal(100, 15, inside.sum())
    return values.round().clip(-1024, 3000).astype(np.int16)


def write_examination(folder: Path, seed: int, *, masks: bool = True) -> None:
    """Files whose z falls as their names rise; DICOM files hold HU + 1024."""
    count, first = GRID.size[2], int(folder.name == "2")
    names = [NAMES[folder.name].format(first + count - 1 - z) for z in range(count)]
    write_series(
        folder / "DICOM_anon",
        (hounsfield(seed) + 1024).astype(np.uint16),
        names=names,
        spacing=GRID.spacing[:2],
        step=GRID.spacing[2],
        origin=GRID.origin,
        echo_time=None,
        uid_per_file=True,
        SliceThickness=3.2,
        RescaleSlope=1,
        RescaleIntercept=-1024,
    )
    if masks:
        (folder / "Ground").mkdir()
        for rank, plane in enumerate(liver(seed)[::-1]):
            Image.fromarray(plane).save(folder / "Ground" / f"liver_GT_{rank:03d}.png")


@pytest.fixture(scope="module")
def written_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("written") / "CHAOS"
    for seed, number in enumerate(NAMES):
        write_examination(root / "Train_Sets" / "CT" / number, seed)
    junk(root / "Train_Sets" / "CT" / "1" / "Ground" / "._liver_GT_000.png")
    (root / "Train_Sets" / "MR" / "1" / "T2SPIR" / "DICOM_anon").mkdir(parents=True)
    return root


@pytest.fixture
def chaos(written_once: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(written_once, tmp_path / written_once.name))


def test_masks_have_one_bit(chaos: Path):
    with Image.open(chaos / "Train_Sets" / "CT" / "1" / "Ground" / "liver_GT_004.png") as png:
        assert png.mode == "1"


def test_masks_lie_on_their_slices_and_positions_give_the_spacing(chaos: Path, raw: Path):
    written = Written(convert("chaos-ct", chaos))
    assert set(written.cases) == {"1", "2", "10"}
    assert written.content["licence"] == "CC BY-NC-SA 4.0"
    for seed, number in enumerate(NAMES):
        written.check(number, hounsfield(seed), liver(seed), GRID)


def test_examinations_without_masks_on_request_and_those_of_mr_never(chaos: Path):
    write_examination(chaos / "Test_Sets" / "CT" / "2", 5, masks=False)
    assert [study.patient for study in chaos_ct_studies(chaos / "Train_Sets")] == ["1", "2", "10"]
    with pytest.raises(InputError, match="holds no CHAOS CT data"):
        chaos_ct_studies(chaos / "Test_Sets")
    (study,) = chaos_ct_studies(chaos / "Test_Sets", test_images=True)
    assert (study.patient, dict(study.masks)) == ("2", {})
    with pytest.raises(InputError, match="holds no CHAOS CT data"):
        chaos_ct_studies(chaos / "Train_Sets" / "MR")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ground: (ground / "liver_GT_011.png").unlink(), "holds 11 masks .* 12 slices"),
        (
            lambda ground: (ground / "liver_GT_003.png").rename(ground / "liver_GT_012.png"),
            r"has no liver_GT_003\.png",
        ),
        (
            lambda ground: save(
                ground, np.zeros((16, 20), np.uint8) + np.arange(20, dtype=np.uint8)
            ),
            "several grey values",
        ),
        (lambda ground: save(ground, np.zeros((16, 19), np.uint8)), "is not a grey image .* 20x16"),
        (
            lambda ground: (ground / "liver_GT_005.png").write_bytes(b"nothing"),
            r"liver_GT_005\.png: cannot be read",
        ),
    ],
)
def test_unusable_masks_are_named_and_fail_their_case_alone(
    chaos: Path, raw: Path, change, message: str
):
    change(chaos / "Train_Sets" / "CT" / "10" / "Ground")
    with pytest.raises(SomeCasesFailed, match=rf"1 of 3 .*\n  10: .*{message}"):
        convert("chaos-ct", chaos)


def save(ground: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(ground / "liver_GT_005.png")


def test_masks_in_the_other_order_are_noticed(chaos: Path):
    folder = chaos / "Train_Sets" / "CT" / "1"
    for rank, plane in enumerate(liver(0)):
        Image.fromarray(plane).save(folder / "Ground" / f"liver_GT_{rank:03d}.png")
    image = ChaosCtReader().read_image(folder / "DICOM_anon")
    with pytest.raises(
        InputError, match=r"seem to be flipped along z: .* deviation of \d{3} HU, and of \d\d? HU"
    ):
        ChaosCtReader().read_mask(folder / "Ground", image, folder / "DICOM_anon")


def test_one_bit_is_read_as_0_and_above(tmp_path: Path):
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "a.png")
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.png")))
    np.testing.assert_array_equal(values > 0, np.eye(4, dtype=bool))
