"""SLIVER07 with its quirks: MetaImage in two files, masks with another geometry and any value, test
scans named alike."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.datasets.sliver07 import sliver07_studies
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.space.grid import Grid
from nnunet_liver_ext.space.images import image_like
from tests.dataset_conversion.datasets.conversion import (
    GRID,
    Written,
    convert,
    intensities_of,
    labels_of,
)

ELSEWHERE = Grid(GRID.size, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
"""Geometry in the headers of the masks."""


def write_mhd(values: np.ndarray, path: Path, grid: Grid) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image_like(values, grid), str(path))


@pytest.fixture
def sliver(tmp_path: Path) -> Path:
    """Scans and masks of 1 to 3; below, a test set with a scan 1 of its own."""
    root = tmp_path / "SLIVER07"
    for number in (1, 2, 3):
        folder = root / "training-part1"
        write_mhd(intensities_of(number), folder / f"liver-orig{number:03d}.mhd", GRID)
        write_mhd(
            100 * labels_of(number, count=2), folder / f"liver-seg{number:03d}.mhd", ELSEWHERE
        )
    write_mhd(intensities_of(9), root / "test" / "liver-orig001.mhd", GRID)
    assert (root / "test" / "liver-orig001.raw").is_file()
    return root


def test_the_scan_gives_the_masks_their_place_and_every_value_is_liver(sliver: Path, raw: Path):
    written = Written(convert("sliver07", sliver))
    assert set(written.cases) == {f"liver-orig00{number}" for number in (1, 2, 3)}
    for number in (1, 2, 3):
        written.check(
            f"liver-orig{number:03d}", intensities_of(number), labels_of(number, count=2) > 0
        )


def test_test_scans_of_the_same_name_on_request(sliver: Path):
    studies = sliver07_studies(sliver, test_images=True)
    assert [(study.patient, bool(study.masks)) for study in studies][-2:] == [
        ("liver-orig003", True),
        ("test-liver-orig001", False),
    ]
    assert len(sliver07_studies(sliver)) == 3


def test_a_mask_of_another_size_is_refused(sliver: Path, raw: Path):
    smaller = Grid((6, 5, 3), GRID.spacing, GRID.origin, GRID.direction)
    write_mhd(labels_of(2, smaller), sliver / "training-part1" / "liver-seg002.mhd", smaller)
    with pytest.raises(
        SomeCasesFailed,
        match=r"liver-seg002\.mhd: has 6x5x3 voxels, its scan liver-orig002\.mhd 6x5x4",
    ):
        convert("sliver07", sliver)


def test_changed_voxels_beside_a_header_are_noticed(sliver: Path, raw: Path):
    folder = convert("sliver07", sliver)
    for kind, values in (("orig", intensities_of(7)), ("seg", labels_of(7))):
        write_mhd(
            values,
            sliver / "training-part1" / f"liver-{kind}002.mhd",
            {"orig": GRID, "seg": ELSEWHERE}[kind],
        )
        with pytest.raises(
            InputError, match="study liver-orig002 has changed since this dataset was converted"
        ):
            convert("sliver07", sliver)
        convert("sliver07", sliver, add=True)
        convert("sliver07", sliver)
    Written(folder).check("liver-orig002", intensities_of(7), labels_of(7) > 0)


def test_a_missing_raw_file_is_an_error_of_its_scan(sliver: Path, raw: Path):
    (sliver / "training-part1" / "liver-orig003.raw").unlink()
    with pytest.raises(
        SomeCasesFailed, match=r"1 of 3 .*\n  liver-orig003: .*liver-orig003\.mhd: cannot be read"
    ):
        convert("sliver07", sliver)
