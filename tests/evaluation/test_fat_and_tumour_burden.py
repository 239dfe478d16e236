"""Known values, invariants and bad input of the margin, the fat fraction and the tumour burden."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from nnunet_liver_ext.dataset_conversion.phantom import make_pair
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.fat_and_tumour_burden import (
    FatFraction,
    check_percent,
    eroded,
    fat_fraction,
    fat_fraction_image,
    tumour_burden,
)
from nnunet_liver_ext.space.images import Grid, array

MM = (1.0, 1.0, 1.0)
SPACING_MM = (6.0, 1.5, 1.5)


def block(z, y, x, shape=(20, 20, 20)):
    mask = np.zeros(shape, bool)
    mask[slice(*z), slice(*y), slice(*x)] = True
    return mask


@pytest.mark.parametrize(
    ("margin_mm", "left"),
    [
        (0, block((5, 15), (5, 15), (5, 15))),
        (1.4, block((5, 15), (5, 15), (5, 15))),
        (1.5, block((5, 15), (6, 14), (6, 14))),
        (5.9, block((5, 15), (8, 12), (8, 12))),
        (6, block((6, 14), (9, 11), (9, 11))),
        (7.5, block((0, 0), (0, 0), (0, 0))),
    ],
)
def test_a_margin_of_a_block_with_thick_slices(margin_mm, left):
    np.testing.assert_array_equal(
        eroded(block((5, 15), (5, 15), (5, 15)), SPACING_MM, margin_mm), left
    )


def test_a_margin_is_round():
    """A single hole of 1 mm voxels: within 1.5 mm are its 6 face and 12 edge neighbours, and not
    its 8 corners (√3 mm)."""
    mask = np.ones((9, 9, 9), bool)
    mask[4, 4, 4] = False
    lost = mask & ~eroded(mask, MM, 1.5)
    inner = lost[2:7, 2:7, 2:7]
    assert np.count_nonzero(inner) == 6 + 12
    assert not inner[1, 1, 1]


def test_beyond_the_volume_is_background():
    kept = eroded(np.ones((6, 6, 6), bool), MM, 2)
    np.testing.assert_array_equal(kept, block((2, 4), (2, 4), (2, 4), shape=(6, 6, 6)))


def test_a_margin_that_equals_the_spacing_up_to_rounding_takes_a_layer():
    assert (
        np.count_nonzero(eroded(np.ones((9, 9, 9), bool), (0.1, 0.1, 0.1), 0.3)) == 3**3
    )  # 3 * 0.1 > 0.3 in floats


@pytest.mark.parametrize("shape", [(4, 4, 4), (0, 4, 4)])
def test_an_empty_mask_stays_empty(shape):
    assert not eroded(np.zeros(shape, bool), MM, 1).any()
    found = fat_fraction(np.full(shape, 20.0), np.zeros(shape, bool), MM)
    assert (found.voxels, found.margin_mm) == (0, 0)
    assert math.isnan(found.mean_percent)
    assert math.isnan(found.median_percent)


def test_fat_fraction_by_hand():
    image, mask = np.zeros((5, 5, 5)), block((1, 4), (1, 4), (1, 4), shape=(5, 5, 5))
    image[mask] = 90  # partial volume
    image[2, 2, 2] = 4
    assert fat_fraction(image, mask, MM) == FatFraction(
        pytest.approx((26 * 90 + 4) / 27), 90, 27, 0
    )
    assert fat_fraction(image, mask, MM, margin_mm=1) == FatFraction(4, 4, 1, 1)
    assert math.isnan(fat_fraction(image, mask, MM, margin_mm=2).mean_percent)


def test_the_median_is_of_the_voxels():
    image = np.array([1.0, 2.0, 3.0, 94.0]).reshape(1, 1, 4)
    assert fat_fraction(image, np.ones((1, 1, 4), bool), MM) == FatFraction(25, 2.5, 4, 0)


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_number_types(dtype):
    image = np.full((4, 4, 4), 12, dtype)
    assert fat_fraction(image, np.ones((4, 4, 4), np.uint8), MM).mean_percent == 12


@pytest.mark.parametrize(
    ("inside", "outside", "message"),
    [
        (0.12, 0.9, "no value above 0.9 and seems to be a fraction: multiply it by 100"),
        (0.0, 0.0, "no value above 0"),
        (220, 900, "holds 220, no percentage: divide tenths"),
        (55, 900, "holds 900, no percentage"),
        (-60, 90, "holds -60, no percentage"),
        (math.nan, 90, "nan or infinite in 8 voxels of the mask"),
        (math.inf, 90, "nan or infinite in 8 voxels"),
    ],
)
def test_what_is_no_percentage_is_refused(inside, outside, message):
    mask = block((0, 2), (0, 2), (0, 2))
    with pytest.raises(InputError, match=message):
        fat_fraction(np.where(mask, inside, outside), mask, MM)


def test_noise_in_air_is_no_reason_to_refuse():
    mask = block((0, 2), (0, 2), (0, 2))
    image = np.full(mask.shape, 10.0)
    image[-1, -1, :3] = -5000, 7000, math.nan
    assert fat_fraction(image, mask, MM).mean_percent == 10
    image[-1] = 7000
    with pytest.raises(InputError, match=r"holds -?\d000, no percentage"):
        fat_fraction(image, mask, MM)


def test_an_image_is_checked_without_a_mask():
    image = np.full((10, 10, 10), 20.0)
    image.flat[:10] = 900  # 1 % of all
    check_percent(image)
    image.flat[10] = 900
    with pytest.raises(InputError, match="holds 900, no percentage"):
        check_percent(image)
    with pytest.raises(InputError, match="multiply it by 100"):
        check_percent(np.full((2, 2, 2), 0.2))


def test_fat_fraction_image_by_hand():
    found = fat_fraction_image(np.array([1, 0, 3, 0]), np.array([3, 5, 0, 0]))
    np.testing.assert_allclose(found, [25, 0, 100, 0])
    assert found.dtype == np.float32


def test_large_integers_do_not_overflow():
    assert fat_fraction_image(
        np.array([60000], np.uint16), np.array([60000], np.uint16)
    ) == pytest.approx(50)


def test_the_phantom_s_fat_fraction():
    pair = make_pair(3, difficulty="demo")
    composite = fat_fraction_image(array(pair.fat), array(pair.water))
    np.testing.assert_allclose(composite, array(pair.fat_fraction), atol=0.5)
    liver, spacing_mm = array(pair.t1_true_mask), Grid.from_image(pair.t1).spacing_mm
    whole, core = (
        fat_fraction(composite, liver, spacing_mm, margin_mm=margin) for margin in (0, 8)
    )
    assert core.voxels < whole.voxels
    assert core.median_percent == pytest.approx(whole.median_percent, abs=1)
    assert 2 < core.median_percent < 23


def test_tumour_burden_by_hand():
    organ, tumour = block((0, 10), (0, 10), (0, 10)), block((0, 5), (0, 10), (0, 2))
    assert tumour_burden(tumour, organ) == pytest.approx(10)
    assert tumour_burden(tumour, organ & ~tumour) == pytest.approx(10)
    assert tumour_burden(tumour, ~organ) == pytest.approx(100 * 100 / (8000 - 1000 + 100))
    nothing = np.zeros_like(organ)
    assert (tumour_burden(nothing, organ), tumour_burden(tumour, nothing)) == (0, 100)
    assert math.isnan(tumour_burden(nothing, nothing))


def test_bad_arguments_are_refused():
    mask = np.ones((3, 3, 3), bool)
    for margin_mm in (-1, math.nan, math.inf):
        with pytest.raises(InputError, match="margin_mm must be"):
            eroded(mask, MM, margin_mm)
    with pytest.raises(InputError, match="needs a 3D mask"):
        eroded(mask[0], MM, 1)
    with pytest.raises(InputError, match="three positive numbers"):
        eroded(mask, (1, 1), 1)
    with pytest.raises(InputError, match="several labels"):
        eroded(np.arange(27).reshape(3, 3, 3), MM, 1)
    with pytest.raises(InputError, match=r"differ in shape: \(3, 3\) and \(3, 3, 3\)"):
        fat_fraction(np.full((3, 3), 20), mask, MM)
    with pytest.raises(InputError, match="must be an array of numbers"):
        fat_fraction(np.full((3, 3, 3), "fat"), mask, MM)
    with pytest.raises(InputError, match="differ in shape"):
        tumour_burden(mask, mask[1:])
    with pytest.raises(InputError, match="water and fat differ in shape"):
        fat_fraction_image(np.ones(3), np.ones(4))
    for value in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="water must be magnitudes"):
            fat_fraction_image(np.ones(2), np.array([1, value]))


shapes = st.shared(array_shapes(min_dims=3, max_dims=3, max_side=5), key="shape")
masks = shapes.flatmap(
    lambda shape: arrays(bool, shape, elements=st.sampled_from([True, True, True, False]))
)
spacings = st.tuples(*[st.sampled_from([0.75, 1.0, 2.0, 3.5])] * 3)
margins = st.sampled_from([0.0, 0.9, 1.1, 2.3, 4.1])


@given(masks, spacings, margins)
def test_a_voxel_stays_if_all_within_the_margin_belong_to_the_mask(mask, spacing_mm, margin_mm):
    outside = np.argwhere(~np.pad(mask, 3)) - 3
    expected = np.zeros_like(mask)
    for voxel in np.argwhere(mask):
        expected[tuple(voxel)] = (
            np.linalg.norm((outside - voxel) * spacing_mm, axis=1).min() > margin_mm
        )
    np.testing.assert_array_equal(eroded(mask, spacing_mm, margin_mm), expected)


@given(masks, spacings, margins, margins)
def test_a_larger_margin_leaves_less(mask, spacing_mm, one, other):
    less, more = (
        eroded(mask, spacing_mm, margin_mm) for margin_mm in sorted((one, other), reverse=True)
    )
    assert not (less & ~more).any()
    assert not (more & ~mask).any()


@given(masks, spacings, margins, st.integers(0, 100))
def test_an_even_fat_fraction_is_found_everywhere(mask, spacing_mm, margin_mm, percent):
    image = np.full(mask.shape, float(percent))
    image.flat[0] = max(percent, 2)
    found = fat_fraction(image, mask, spacing_mm, margin_mm=margin_mm)
    assert found.voxels == np.count_nonzero(eroded(mask, spacing_mm, margin_mm))
    if found.voxels > 2:
        assert found.median_percent == percent
