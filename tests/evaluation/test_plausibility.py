"""Known values, invariants and bad input of what points at odd cases; the body on synthetic and
real images."""

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nnunet_liver_ext.dataset_conversion.phantom import make_pair
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.body import body_mask, body_midline_mm, midline_mm
from nnunet_liver_ext.evaluation.plausibility import (
    is_left,
    left_share,
    outliers,
    outside_body_share,
    pieces,
    robust_z,
)
from nnunet_liver_ext.space.images import Grid, array, image_like, read_image, read_mask

REAL_DATA = os.environ.get("NNUNET_LIVER_REAL_DATA")
REAL_IMAGES = {"mr_2mm_amos0540": 6, "mr_3mm": 5, "ct_3mm": 5}  # name: liver label
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
LEFTWARDS = Grid(
    (10, 4, 3), (2.0, 2.0, 5.0), (-9.0, 0.0, 0.0), IDENTITY
)  # voxel centres at x = -9, -7, ..., 9
RIGHTWARDS = Grid(
    (10, 4, 3), (2.0, 2.0, 5.0), (9.0, 0.0, 0.0), (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
)


def columns(*indices, grid=LEFTWARDS):
    mask = np.zeros(grid.size[::-1], bool)
    mask[..., list(indices)] = True
    return mask


def results(values, metric="dice", modality="T1"):
    cases = [f"P{number:03d}" for number in range(len(values))]
    return pd.DataFrame(
        {"case": cases, "modality": modality, "class": "liver", "metric": metric, "value": values}
    )


# --- robust z and outliers


def test_robust_z_by_hand():
    """Median 3, deviations 2 1 0 1 97, their median 1: 97 / 1.4826."""
    found = robust_z([1, 2, 3, 4, 100])
    assert found == pytest.approx(np.array([-2, -1, 0, 1, 97]) / 1.482602, rel=1e-6)
    assert found == pytest.approx(
        0.6745 * np.array([-2, -1, 0, 1, 97]), rel=1e-4
    )  # as Iglewicz & Hoaglin write it


def test_without_a_median_deviation_the_mean_one_is_taken():
    """Six of seven are the same: the mean deviation is 7 / 7 = 1."""
    assert robust_z([5] * 6 + [12]) == pytest.approx([0] * 6 + [7 / math.sqrt(math.pi / 2)])


@pytest.mark.parametrize("values", [[4.0], [4, 4, 4], [0.1 + 0.2, 0.3, 0.3], [0, 0]])
def test_equal_values_have_z_0(values):
    assert robust_z(values) == pytest.approx([0] * len(values))


def test_infinite_values_and_nan_stay():
    found = robust_z([1, 2, 3, math.inf, -math.inf, math.nan])
    assert found == pytest.approx(
        [-1 / 1.482602, 0, 1 / 1.482602, math.inf, -math.inf, math.nan], nan_ok=True, rel=1e-6
    )
    assert robust_z([4, 4, math.inf]) == pytest.approx([0, 0, math.inf])
    assert robust_z([math.inf, math.nan]) == pytest.approx([math.inf, math.nan], nan_ok=True)
    assert robust_z([]).shape == (0,)


DICE = [0.95, 0.96, 0.94, 0.95, 0.96, 0.94, 0.95]


def test_only_the_bad_side_is_listed_worst_first():
    table = results([*DICE, 0.80, 0.999999, 0.2, 1.1])
    found = outliers(table)
    assert list(found.case) == ["P009", "P007"]
    assert list(found.columns) == [*table.columns, "z"]
    assert found.z.tolist() == pytest.approx([-0.75 / 0.0148260, -0.15 / 0.0148260], rel=1e-3)
    assert list(found.index) == [9, 7]
    assert outliers(table, limit=20).case.tolist() == ["P009"]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("hd95", ["high"]),
        ("dice", ["low"]),
        ("volume_difference", ["high", "low"]),
        ("unknown", ["high", "low"]),
    ],
)
def test_the_bad_side_depends_on_the_metric(metric, expected):
    table = results([-1, 0, 1, -1, 0, 1, 90, -80], metric)
    names = table.case.where(
        ~table.case.isin(["P006", "P007"]), table.case.map({"P006": "high", "P007": "low"})
    )
    assert outliers(table.assign(case=names), metric).case.tolist() == expected


def test_each_modality_has_its_own_others():
    table = pd.concat(
        [results(DICE), results([0.8] * 7 + [0.81], modality="T2"), results([9.0], "hd")]
    )
    assert outliers(table).empty
    both = pd.concat(
        [results([*DICE, 0.5]), results([*DICE, 0.4], modality="T2")]
    )  # the same index twice
    found = outliers(both)
    assert list(zip(found.modality, found.case, strict=True)) == [("T2", "P007"), ("T1", "P007")]


def test_infinite_distances_are_listed_and_nan_is_not():
    table = results([1, 2, 3, math.inf, math.nan], "hd95")
    assert outliers(table, "hd95").case.tolist() == ["P003"]


def test_tables_without_what_is_needed():
    with pytest.raises(InputError, match=r"needs the column modality; it has case, class"):
        outliers(results(DICE).drop(columns="modality"))
    with pytest.raises(InputError, match=r"has no 'hd'; its metrics are dice"):
        outliers(results(DICE), "hd")


@given(
    arrays(float, st.integers(1, 15), elements=st.integers(-50, 50)),
    st.integers(-9, 9),
    st.sampled_from([0.5, 2, -4]),
)
def test_robust_z_has_no_unit(values, shift, factor):
    assert robust_z(factor * values + shift) == pytest.approx(np.sign(factor) * robust_z(values))


# --- pieces


def test_pieces_by_hand():
    mask = np.zeros((6, 6, 6), bool)
    mask[0, 0, :4] = True
    mask[1, 1, 4] = True  # touches the row with a corner
    mask[4, 4, 1:3] = True
    mask[4, 0, 0] = True
    found = pieces(mask, (5.0, 10.0, 20.0))
    assert found.volumes_ml == pytest.approx((5.0, 2.0, 1.0))
    assert found.count == 3
    assert found.share_outside_largest == pytest.approx(3 / 8)


def test_one_piece_and_none():
    one = pieces(np.ones((2, 2, 2), np.uint8), (1, 1, 1))
    assert (one.count, one.share_outside_largest) == (1, 0)
    none = pieces(np.zeros((2, 2, 2), bool), (1, 1, 1))
    assert (none.count, none.volumes_ml) == (0, ())
    assert math.isnan(none.share_outside_largest)


def test_memory_order_does_not_matter():
    mask = np.asfortranarray(np.random.default_rng(0).random((7, 8, 9)) < 0.1)
    assert pieces(mask, (1, 1, 1)) == pieces(np.ascontiguousarray(mask), (1, 1, 1))


# --- left and right


def test_left_is_where_x_grows():
    assert left_share(columns(7, 8, 9), LEFTWARDS) == 1
    assert left_share(columns(0, 1, 9), LEFTWARDS) == pytest.approx(1 / 3)
    assert left_share(columns(7, 8, 9), RIGHTWARDS) == 0
    assert (is_left(columns(7, 8, 0), LEFTWARDS), is_left(columns(7, 8, 0), RIGHTWARDS)) == (
        True,
        False,
    )


def test_a_given_midline():
    assert left_share(columns(7, 8, 9), LEFTWARDS, midline_mm=6) == pytest.approx(2 / 3)
    assert left_share(columns(7, 8, 9), LEFTWARDS, midline_mm=7) == pytest.approx((0 + 0.5 + 1) / 3)


def test_a_voxel_on_the_midline_counts_half():
    grid = Grid((3, 1, 1), (0.1, 1.0, 1.0), (0.2, 0.0, 0.0), IDENTITY)
    assert left_share(np.ones((1, 1, 3), bool), grid) == 0.5
    assert left_share(np.array([[[False, True, False]]]), grid) == 0.5
    assert not is_left(np.ones((1, 1, 3), bool), grid)


def test_an_empty_mask_is_on_no_side():
    assert math.isnan(left_share(columns(), LEFTWARDS))
    assert not is_left(columns(), LEFTWARDS)


def test_an_oblique_grid():
    """x of a voxel (i, j, k) is 0.8·i + 0.6·j, so of these four those with j = 1 are on the left of
    0.5."""
    turned = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    grid = Grid((2, 2, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), turned)
    mask = np.ones((1, 2, 2), bool)
    assert left_share(mask, grid, midline_mm=0.5) == pytest.approx(3 / 4)
    assert left_share(mask, grid, midline_mm=0.7) == pytest.approx(2 / 4)
    assert left_share(mask, grid) == pytest.approx(2 / 4)


@given(array_shapes(min_dims=3, max_dims=3, max_side=6).flatmap(lambda shape: arrays(bool, shape)))
def test_a_mirrored_mask_has_the_rest(mask):
    assume(mask.any())
    grid = Grid(mask.shape[::-1], (1.7, 1.0, 3.0), (-20.0, 3.0, 4.0), IDENTITY)
    assert left_share(mask[..., ::-1], grid) == pytest.approx(1 - left_share(mask, grid))


# --- the body


@pytest.fixture(scope="module")
def pair():
    return make_pair(2, difficulty="demo")


def oval(modality="MR"):
    """A body of 240 x 160 mm with fat, lungs and noise, a detached arm and a table; and where the
    body is."""
    grid = Grid((120, 90, 8), (3.0, 3.0, 6.0), (-178.5, -133.5, 0.0), IDENTITY)
    x, y = np.meshgrid(-178.5 + 3 * np.arange(120), -133.5 + 3 * np.arange(90))
    radius = np.hypot(x / 120, y / 80)
    slice_ = np.zeros(x.shape)
    slice_[radius < 1] = 900  # skin's fat
    slice_[radius < 0.85] = 350
    slice_[np.hypot((np.abs(x) - 50) / 30, y / 40) < 1] = 0  # lungs
    slice_[np.hypot(x - 155, y) < 15] = 700  # an arm
    slice_[(np.abs(y - 110) < 4) & (np.abs(x) < 150)] = 250  # a table
    noise = np.random.default_rng(1).normal(0, 25, (2, 8, *x.shape))
    volume = np.hypot(slice_ + noise[0], noise[1]) if modality == "MR" else slice_ + noise[0] - 1000
    return image_like(volume.astype(np.float32), grid), np.broadcast_to(radius < 1, volume.shape)


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_the_body_is_the_filled_oval_without_arm_and_table(modality):
    image, truth = oval(modality)
    found = body_mask(image)
    assert not (truth & ~found).any()
    assert found.sum() < 1.1 * truth.sum()  # 240 x 160 mm with a rim of 5 mm
    assert body_midline_mm(image) == pytest.approx(0, abs=1.6)


def test_the_midline_halves_the_body():
    body = columns(0, 1, 2, 3, 4, 9)  # x = -9, -7, -5, -3, -1 and an arm at 9
    assert midline_mm(body, LEFTWARDS) == pytest.approx(-4)
    assert midline_mm(body, RIGHTWARDS) == pytest.approx(4)
    with pytest.raises(InputError, match="shows no body"):
        midline_mm(columns(), LEFTWARDS)


def test_the_body_does_not_depend_on_the_intensities_unit():
    image, _ = oval()
    np.testing.assert_array_equal(body_mask(image), body_mask(image * 1000.0))


def test_weak_ghosts_are_not_body():
    image, _ = oval()
    values = array(image)
    ghosts = image_like(
        values + 0.05 * np.roll(values, 30, axis=1) + 0.05 * np.roll(values, -30, axis=1),
        Grid.from_image(image),
    )
    assert body_mask(ghosts).sum() == pytest.approx(body_mask(image).sum(), rel=0.02)


def test_few_slices_and_thick_voxels():
    image, truth = oval()
    assert body_mask(image[:, :, 2:3]).sum() == pytest.approx(truth[0].sum(), rel=0.1)
    coarse = Grid((3, 3, 2), (40.0, 40.0, 40.0), (0.0, 0.0, 0.0), IDENTITY)
    values = np.zeros((2, 3, 3), np.float32)
    values[:, 1, 1] = 100
    np.testing.assert_array_equal(body_mask(image_like(values, coarse)), values > 0)


@pytest.mark.parametrize("name", ["t1", "t2", "water"])
def test_the_phantom_s_liver_is_in_the_body_and_on_the_right(pair, name):
    image = getattr(pair, name)
    mask, grid = array(pair.t2_mask if name == "t2" else pair.t1_mask), Grid.from_image(image)
    assert outside_body_share(mask, body_mask(image)) < 0.001
    midline_mm = body_midline_mm(image)
    share = left_share(mask, grid, midline_mm=midline_mm)
    assert 0.02 < share < 0.25
    assert is_left(
        mask[..., ::-1], grid, midline_mm=2 * float(grid.corners()[:, 0].mean()) - midline_mm
    )
    assert pieces(mask, grid.spacing_mm).share_outside_largest < 0.01


@pytest.mark.parametrize("orientation", ["RAS", "LIP", "PIR"])
def test_the_file_s_orientation_does_not_matter(pair, orientation):
    image, mask = (sitk.DICOMOrient(picture, orientation) for picture in (pair.t1, pair.t1_mask))
    expected = left_share(array(pair.t1_mask), Grid.from_image(pair.t1), midline_mm=3.0)
    assert left_share(array(mask), Grid.from_image(mask), midline_mm=3.0) == pytest.approx(expected)
    assert outside_body_share(array(mask), body_mask(image)) < 0.001


def test_outside_body_by_hand():
    assert outside_body_share(columns(0, 1, 2, 3), columns(1, 2, 3, 4, 5)) == pytest.approx(1 / 4)
    assert outside_body_share(columns(0), columns()) == 1
    assert math.isnan(outside_body_share(columns(), columns(1)))


def test_bad_arguments_are_refused(pair):
    with pytest.raises(
        InputError, match=r"shape \(3, 4, 9\) is not that of the grid: \(3, 4, 10\)"
    ):
        left_share(columns(1)[..., 1:], LEFTWARDS)
    with pytest.raises(InputError, match="must be 3D"):
        left_share(columns(1)[0], LEFTWARDS)
    with pytest.raises(InputError, match="midline_mm must be a finite number"):
        left_share(columns(1), LEFTWARDS, midline_mm=math.nan)
    with pytest.raises(InputError, match="must be 3D"):
        pieces(np.ones((2, 2), bool), (1, 1, 1))
    with pytest.raises(InputError, match="several labels"):
        pieces(np.arange(8).reshape(2, 2, 2), (1, 1, 1))
    with pytest.raises(InputError, match="differ in shape"):
        outside_body_share(columns(1), columns(1)[1:])
    with pytest.raises(InputError, match="nearly one value everywhere"):
        body_mask(LEFTWARDS.empty_image())
    with pytest.raises(InputError, match="needs a 3D image"):
        body_mask(sitk.Image(4, 4, sitk.sitkUInt8))


@pytest.mark.skipif(REAL_DATA is None, reason="NNUNET_LIVER_REAL_DATA names no folder")
@pytest.mark.parametrize("name", REAL_IMAGES)
def test_real_images(name):
    image = read_image(Path(str(REAL_DATA)) / f"{name}.nii.gz")
    labels = read_mask(Path(str(REAL_DATA)) / f"{name}_labels.nii.gz")
    liver, grid, body = (
        array(labels) == REAL_IMAGES[name],
        Grid.from_image(labels),
        body_mask(image),
    )
    assert 0.3 < body.mean() < 0.85
    assert outside_body_share(liver, body) == 0
    midline_mm = body_midline_mm(image)
    assert 0 <= left_share(liver, grid, midline_mm=midline_mm) < 0.25
    assert is_left(liver[..., ::-1], grid)
