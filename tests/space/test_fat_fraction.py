"""The fat fraction of water and fat images."""

import numpy as np
import pytest

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.fat_fraction import fat_fraction_percent


def test_a_quarter_of_fat_is_25_percent_and_nothing_is_0():
    water, fat = np.array([[[300, 0, 0, 5]]], np.uint16), np.array([[[100, 0, 7, 0]]], np.uint16)
    found = fat_fraction_percent(water, fat)
    np.testing.assert_array_equal(found, [[[25, 0, 100, 0]]])
    assert found.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float16, np.float32])
def test_sums_neither_overflow_nor_lose_digits(dtype: type):
    values = np.array([200, 3], np.uint8 if dtype is np.uint8 else dtype) * (
        1 if dtype is np.uint8 else dtype(100)
    )
    np.testing.assert_array_equal(fat_fraction_percent(values, values), [50, 50])
    third = fat_fraction_percent(np.array([2], dtype), np.array([1], dtype))
    assert third[0] == np.float32(100 / 3)


@pytest.mark.parametrize(
    ("water", "fat", "message"),
    [
        ([1, -1], [1, 1], "water must be magnitudes, 0 or more"),
        ([1, 1], [1, np.nan], "fat must be magnitudes"),
        ([np.inf, 1], [1, 1], "water must be magnitudes"),
        ([1, 1], [1, 1, 1], r"water and fat differ in shape: \(2,\) and \(3,\)"),
    ],
)
def test_what_is_no_magnitude_is_refused(water: list, fat: list, message: str):
    with pytest.raises(InputError, match=message):
        fat_fraction_percent(np.array(water), np.array(fat))
