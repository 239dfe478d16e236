"""Thin lesions at the liver's border, on masks whose every voxel is known, and on folders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.postprocessing.border_lesions import (
    Kernels,
    postprocess_label_map,
    postprocess_lesions,
)
from nnunet_liver_ext.postprocessing.border_lesions_folder import postprocess_folder
from nnunet_liver_ext.space.images import Grid, array, image_like, read_mask, write_image

SHAPE = (3, 24, 24)
GRID = Grid((24, 24, 3), (1.0, 1.0, 4.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
TUMOUR = {"tumour": (1,)}


def empty() -> np.ndarray:
    return np.zeros(SHAPE, bool)


def box(rows: slice, columns: slice, slices: slice = slice(None)) -> np.ndarray:
    mask = empty()
    mask[slices, rows, columns] = True
    return mask


LIVER = box(slice(2, 22), slice(2, 22))  # its inner part begins 3 voxels further in: 5 to 18


def same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------- masks by hand


def test_lesions_outside_the_liver_vanish():
    same(
        postprocess_lesions(box(slice(8, 16), slice(0, 12)), LIVER), box(slice(8, 16), slice(2, 12))
    )
    same(postprocess_lesions(box(slice(8, 16), slice(8, 16)), empty()), empty())


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_a_streak_along_the_border_vanishes_if_it_is_thinner_than_three(width: int):
    streak = box(slice(6, 18), slice(2, 2 + width))
    same(postprocess_lesions(streak, LIVER), streak if width >= 3 else empty())


def test_a_thin_lesion_in_the_inner_part_stays():
    inside = box(slice(8, 16), slice(5, 6)) | box(slice(18, 19), slice(10, 11), slice(1))
    same(postprocess_lesions(inside, LIVER), inside)


def test_the_border_is_three_voxels_wide():
    """One voxel in each column: what is less than 3 voxels from the liver's edge vanishes."""
    row = box(slice(12, 13), slice(2, 22))
    same(postprocess_lesions(row, LIVER), box(slice(12, 13), slice(5, 19)))


def test_a_lesion_that_reaches_into_the_border_keeps_its_rim_there():
    """Were only its part in the border opened, two columns of it would be too thin."""
    lesion = box(slice(8, 14), slice(3, 10))
    same(postprocess_lesions(lesion, LIVER), lesion)
    tail = lesion | box(slice(10, 11), slice(2, 3)) | box(slice(13, 14), slice(10, 12))
    same(postprocess_lesions(tail, LIVER), lesion | box(slice(13, 14), slice(10, 12)))


def test_slices_are_treated_one_by_one():
    """Thin across slices is not thin: kernels lie in the plane. The outer slices of the liver are
    no border."""
    flat = box(slice(2, 5), slice(8, 11), slice(1, 2))
    same(postprocess_lesions(flat, LIVER), flat)
    first = box(slice(10, 11), slice(10, 11), slice(1))
    same(postprocess_lesions(first, LIVER), first)
    streak = np.zeros((24, 24), bool)
    streak[6:18, 2:4] = True
    assert not postprocess_lesions(streak, LIVER[0]).any()


def test_a_liver_at_the_images_edge_has_its_border_there():
    whole = np.ones(SHAPE, bool)
    same(postprocess_lesions(box(slice(6, 18), slice(0, 2)), whole), empty())
    same(postprocess_lesions(box(slice(6, 18), slice(0, 3)), whole), box(slice(6, 18), slice(0, 3)))
    same(postprocess_lesions(whole, whole), whole)


def test_kernels_can_be_others():
    streak = box(slice(6, 18), slice(2, 5))
    same(postprocess_lesions(streak, LIVER, Kernels(opening=5)), empty())
    same(postprocess_lesions(streak, LIVER, Kernels(opening=1)), streak)
    row = box(slice(12, 13), slice(2, 22))
    same(postprocess_lesions(row, LIVER, Kernels(border=3)), box(slice(12, 13), slice(3, 21)))
    for wrong in ({"border": 4}, {"opening": 0}):
        with pytest.raises(
            InputError, match=f"the {next(iter(wrong))} kernel must be an odd number"
        ):
            Kernels(**wrong)


@given(st.integers(0, 2**32 - 1), st.sampled_from([(7, 3), (5, 5), (3, 1)]))
@settings(max_examples=25, deadline=None)
def test_it_is_what_scipys_plain_morphology_says(seed: int, sides: tuple[int, int]):
    rng = np.random.default_rng(seed)
    liver = ndimage.binary_opening(rng.random((3, 30, 26)) < 0.9, np.ones((1, 4, 4)))
    lesions = ndimage.binary_dilation(rng.random(liver.shape) < 0.03, np.ones((1, 3, 2)))
    square = [np.ones((1, side, side), bool) for side in sides]
    inner = ndimage.binary_erosion(liver, square[0])
    border = liver & ~inner
    opened = ndimage.binary_opening(lesions & liver, square[1])
    same(
        postprocess_lesions(lesions, liver, Kernels(*sides)), (lesions & inner) | (opened & border)
    )


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="different shapes"):
        postprocess_lesions(empty(), LIVER[0])


# ---------------------------------------------------------------- label maps


def test_classes_are_opened_each_for_itself_and_liver_comes_back():
    labels = np.where(LIVER, 1, 0).astype(np.uint8)
    labels[:, 8:12, 2:4] = 2  # thin
    labels[:, 8:12, 4:6] = 3  # beside it; together they would be thick
    labels[:, 10, 23] = 2  # outside
    expected = np.where(LIVER, 1, 0).astype(np.uint8)
    expected[:, 8:12, 5] = 3
    same(postprocess_label_map(labels, LIVER, [(2,), (3,)], becomes=1), expected)
    as_one = labels.copy()
    as_one[:, 10, 23] = 0
    same(postprocess_label_map(labels, LIVER, [(2, 3)], becomes=1), as_one)
    assert labels[0, 10, 23] == 2


# ---------------------------------------------------------------- folders


def streaks() -> np.ndarray:
    """A lesion that stays and a streak that goes."""
    return box(slice(8, 14), slice(8, 14)) | box(slice(6, 18), slice(2, 4))


KERNELS_AT_1_MM = {
    "border_voxels": 7,
    "border_mm": [7.0, 7.0],
    "opening_voxels": 3,
    "opening_mm": [3.0, 3.0],
}
KEPT = box(slice(8, 14), slice(8, 14))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Predictions of two cases, their liver masks, and where the results go."""
    predictions, livers = tmp_path / "predictions", tmp_path / "livers"
    for case in ("a", "b"):
        write_image(image_like(streaks(), GRID), predictions / f"{case}.nii.gz")
        write_image(
            image_like(np.where(LIVER, 6, 0).astype(np.uint8), GRID), livers / f"{case}.nii.gz"
        )
    (predictions / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "tumour": 1}})
    )
    (predictions / "prediction.json").write_text(json.dumps({"trainer": "A"}))
    return predictions, livers, tmp_path / "out"


def result(out: Path, case: str) -> np.ndarray:
    return array(read_mask(out / f"{case}.nii.gz"))


def test_a_folder_with_liver_masks(folders):
    predictions, livers, out = folders
    assert postprocess_folder(predictions, out, livers) == 2
    for case in ("a", "b"):
        same(result(out, case), KEPT.astype(np.uint8))
        assert Grid.from_image(read_mask(out / f"{case}.nii.gz")) == GRID
    assert sorted(path.name for path in out.iterdir()) == [
        "a.nii.gz",
        "b.nii.gz",
        "dataset.json",
        "prediction.json",
    ]
    assert json.loads((out / "prediction.json").read_text()) == {
        "trainer": "A",
        "lesion_postprocessing": {
            "classes": {"tumour": [1]},
            "liver": "masks",
            "border_kernel": 7,
            "opening_kernel": 3,
        },
        "lesion_kernels": dict.fromkeys(("a", "b"), KERNELS_AT_1_MM),
    }


def test_an_images_folder_whose_last_channel_is_the_liver(folders):
    predictions, livers, out = folders
    content = {
        "channel_names": {"0": "MR", "1": "noNorm"},
        "organ_mask": {"name": "liver", "channel": 1},
    }
    (predictions / "dataset.json").write_text(
        json.dumps(content | {"labels": {"background": 0, "tumour": 1}})
    )
    for case in ("a", "b"):
        (livers / f"{case}.nii.gz").rename(livers / f"{case}_0001.nii.gz")
        write_image(
            image_like(np.full(SHAPE, 0.3, np.float32), GRID), livers / f"{case}_0000.nii.gz"
        )
    postprocess_folder(predictions, out, livers)
    same(result(out, "b"), KEPT.astype(np.uint8))


def test_the_livers_values_in_the_predictions(folders):
    predictions, _, out = folders
    labels = np.where(LIVER, 1, 0).astype(np.int16)
    labels[streaks()] = 2
    write_image(image_like(labels, GRID), predictions / "a.nii.gz")
    write_image(
        image_like(np.where(KEPT, 2, labels > 0).astype(np.int16), GRID), predictions / "b.nii.gz"
    )
    (predictions / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "liver": [1, 2], "tumour": 2}})
    )
    assert postprocess_folder(predictions, out, (1, 2)) == 1
    for case in ("a", "b"):
        same(result(out, case), np.where(KEPT, 2, LIVER).astype(np.int16))
    for values in ((1,), (2,), (0, 1, 2)):
        with pytest.raises(
            InputError, match=r"must be the values of the liver with its lesions \(tumour=2\)"
        ):
            postprocess_folder(predictions, out, values, overwrite=True)


def test_an_interrupted_run_goes_on(folders):
    predictions, livers, out = folders
    postprocess_folder(predictions, out, livers)
    marked = box(slice(0, 1), slice(0, 1))
    write_image(image_like(marked, GRID), out / "a.nii.gz")
    (out / "b.nii.gz").unlink()
    assert postprocess_folder(predictions, out, livers) == 1
    same(result(out, "a"), marked.astype(np.uint8))
    same(result(out, "b"), KEPT.astype(np.uint8))
    assert postprocess_folder(predictions, out, livers, overwrite=True) == 2
    same(result(out, "a"), KEPT.astype(np.uint8))


def test_results_of_other_options_are_not_mixed(folders):
    predictions, livers, out = folders
    postprocess_folder(predictions, out, livers)
    for other in ({"kernels": Kernels(border=5)}, {"classes": {"cyst": (1,)}}):
        with pytest.raises(InputError, match="with other options; choose another folder"):
            postprocess_folder(predictions, out, livers, **other)
    postprocess_folder(predictions, out, livers, kernels=Kernels(opening=1), overwrite=True)
    same(result(out, "a"), streaks().astype(np.uint8))
    (out / "prediction.json").unlink()
    with pytest.raises(InputError, match="label maps of other predictions"):
        postprocess_folder(predictions, out, livers)


def test_a_case_that_cannot_be_done_is_listed_and_the_others_written(folders):
    predictions, livers, out = folders
    (livers / "a.nii.gz").unlink()
    write_image(image_like(streaks(), GRID), predictions / "c.nii.gz")
    shifted = Grid(GRID.size, GRID.spacing, (3.0, 0.0, 0.0), GRID.direction)
    write_image(image_like(LIVER, shifted), livers / "c.nii.gz")
    (predictions / "d.nii.gz").write_bytes(b"nothing")
    with pytest.raises(SomeCasesFailed, match="3 of 4 cases") as failed:
        postprocess_folder(predictions, out, livers)
    reasons = {failure.case: failure.reason for failure in failed.value.failures}
    assert set(reasons) == {"a", "c", "d"}
    assert reasons["a"].endswith("livers: has no liver mask of a (a.nii.gz).")
    assert "is on another grid (24x24x3 voxels of 1, 1, 4 mm at 3, 0, 0)" in reasons["c"]
    assert "damaged" in reasons["d"]
    assert [path.name for path in sorted(out.glob("*.nii.gz"))] == ["b.nii.gz"]
    write_image(image_like(LIVER, GRID), livers / "b.nrrd")
    with pytest.raises(SomeCasesFailed, match="has several liver masks of b"):
        postprocess_folder(predictions, out, livers, overwrite=True)


def test_folders_that_cannot_be_meant(folders, tmp_path: Path):
    predictions, livers, out = folders
    with pytest.raises(InputError, match="no such folder of predictions"):
        postprocess_folder(tmp_path / "nowhere", out, livers)
    with pytest.raises(InputError, match="holds no label maps"):
        (tmp_path / "nothing").mkdir()
        postprocess_folder(tmp_path / "nothing", out, livers)
    with pytest.raises(InputError, match="no such folder of liver masks"):
        postprocess_folder(predictions, out, tmp_path / "nowhere")
    with pytest.raises(InputError, match="is the folder of the predictions itself"):
        postprocess_folder(predictions, predictions, livers, overwrite=True)
    (predictions / "prediction.json").write_text("{")
    with pytest.raises(InputError, match=r"prediction\.json: is no valid JSON"):
        postprocess_folder(predictions, out, livers)
    (predictions / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1}}))
    with pytest.raises(
        InputError, match=r"no dataset\.json says what a lesion is; say it with --label"
    ):
        postprocess_folder(predictions, out, livers)
    pair = {"modalities": ["T1", "T2"], "classes": ["background", "tumour"]}
    labels = {"background": 0, "T1": 1, "T2": 2, "T1+T2": 3}
    (predictions / "dataset.json").write_text(json.dumps({"pair": pair, "labels": labels}))
    with pytest.raises(InputError, match="holds joint label maps of pairs; split them first"):
        postprocess_folder(predictions, out, livers, classes=TUMOUR)
    assert not out.exists()


def test_the_command(folders):
    predictions, livers, out = folders
    command = ["postprocess", "lesions", str(predictions), "--liver", str(livers), "-o", str(out)]
    result_of = CliRunner().invoke(app, command)
    assert result_of.exit_code == 0, result_of.output
    assert "2 label maps changed" in result_of.output
    same(result(out, "a"), KEPT.astype(np.uint8))
    options = [
        "--label",
        "tumour=1",
        "--border-kernel",
        "5",
        "--opening-kernel",
        "1",
        "--overwrite",
    ]
    assert CliRunner().invoke(app, [*command, *options]).exit_code == 0
    same(result(out, "a"), streaks().astype(np.uint8))
    for liver, message in (
        ("1+2", None),
        ("1++2", "no such folder of liver masks"),
        ("1", "with its lesions"),
    ):
        found = CliRunner().invoke(
            app, [*command[:3], "--liver", liver, "-o", str(out), "--overwrite"]
        )
        assert (message is None and found.exit_code == 0) or message in str(found.exception)
    assert CliRunner().invoke(app, [*command, "--label", "tumour"]).exit_code == 2


def test_it_needs_no_torch():
    code = (
        "import sys, nnunet_liver_ext.postprocessing.border_lesions_folder; "
        "sys.exit(bool({'torch', 'nnunetv2'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("mm", "expected"),
    [(1.0, (7, 3)), (0.7, (9, 5)), (1.5, (5, 3)), (2.0, (3, 3)), (8.0, (3, 3)), (0.5, (13, 5))],
)
def test_kernels_are_about_as_wide_in_mm(mm: float, expected: tuple[int, int]):
    """7 and 3 mm: the odd number of voxels that is nearest, 3 at least; a slice may have two
    spacings."""
    found = Kernels().at((mm, mm))
    assert (found.border, found.opening) == expected
    assert Kernels().at((0.5, 1.5)) == Kernels()
    assert Kernels(1, 1).at((mm, mm)) == Kernels(1, 1)  # nothing is asked for


def test_wide_voxels_are_opened_too_and_the_kernels_are_written(folders):
    """Of 1.5 x 1.25 mm; a line of one voxel at the liver's border went nowhere before."""
    predictions, livers, out = folders
    wide = Grid(GRID.size, (1.25, 1.5, 4.0), GRID.origin, GRID.direction)
    thin = box(slice(6, 18), slice(2, 3))
    write_image(image_like(KEPT | thin, wide), predictions / "a.nii.gz")
    write_image(image_like(LIVER, wide), livers / "a.nii.gz")
    assert postprocess_folder(predictions, out, livers) == 2
    same(result(out, "a"), KEPT.astype(np.uint8))
    assert json.loads((out / "prediction.json").read_text())["lesion_kernels"] == {
        "a": {
            "border_voxels": 5,
            "border_mm": [7.5, 6.25],
            "opening_voxels": 3,
            "opening_mm": [4.5, 3.75],
        },
        "b": KERNELS_AT_1_MM,
    }
