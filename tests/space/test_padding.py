"""Padding is told from intensities, and makes no rings."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_liver_ext.space.common_grid import common_grid, image_on_grid
from nnunet_liver_ext.space.images import array
from nnunet_liver_ext.space.intensities import Intensities
from nnunet_liver_ext.space.padding import find_padding, replace_padding
from nnunet_liver_ext.space.preregistration import preregister_pair


def ct(padding: float | None, seed: int = 0) -> np.ndarray:
    """A body of 40 HU in air, straightened: the outermost rows of each slice are padding."""
    rng = np.random.default_rng(seed)
    values = np.full((16, 40, 40), -1000, np.int16)
    values[3:13, 10:30, 10:30] = 40
    values += rng.integers(-20, 20, values.shape, np.int16)
    if padding is not None:
        for z, plane in enumerate(values):
            plane[: z // 3] = padding
    return values


@pytest.mark.parametrize("padding", [-2000, -3024, -32768])
def test_padding_is_found(padding: int):
    found = find_padding(ct(padding))
    assert found is not None
    assert found.value == padding
    assert found.background == ct(padding)[ct(padding) > padding].min()
    assert found.share == pytest.approx((ct(padding) == padding).mean())
    assert found.outweighs_image == (padding < -2000)  # the others are 1080 HU apart


@pytest.mark.parametrize(
    "values",
    [
        ct(None),
        np.array([0, 500, 800]),  # cut out of an MR image
        np.array([-1000, -100, 200]),  # cut out of a CT
        np.linspace(-4096, 4095, 5000),  # a phase
        np.full(8, -3000.0),
        np.zeros(0),
    ],
)
def test_intensities_are_no_padding(values: np.ndarray):
    assert find_padding(values) is None
    assert replace_padding(values) is values


@pytest.mark.parametrize("interpolation", ["bspline", "linear"])
def test_padding_makes_no_rings(interpolation):
    """The same as an image that has air where the other one has padding."""
    image = sitk.GetImageFromArray(ct(-32768))
    image.SetSpacing((2.0, 2.0, 4.0))
    grid = common_grid([image], (1.5, 1.5, 3.0))
    resampled = array(image_on_grid(image, grid, interpolation))
    assert resampled.min() > -1100  # not -32768, and no mixture of it with air
    aired = sitk.GetImageFromArray(replace_padding(ct(-32768)))
    aired.SetSpacing(image.GetSpacing())
    np.testing.assert_array_equal(resampled, array(image_on_grid(aired, grid, interpolation)))
    unpadded = sitk.GetImageFromArray(ct(None))
    unpadded.SetSpacing(image.GetSpacing())
    difference = resampled - array(image_on_grid(unpadded, grid, interpolation))
    assert np.abs(difference).max() < 60  # noise of the air; rings were thousands


def test_padding_is_not_normalised_by():
    values = ct(-32768)
    plain = replace_padding(values)
    for kind in ("patient", "slice"):
        intensities = Intensities.of_kind(kind)
        np.testing.assert_array_equal(intensities.apply(values), intensities.apply(plain))
    assert Intensities().apply(values) is values


def test_padding_does_not_mislead_preregistration():
    images = {}
    for name, seed in (("moving", 0), ("fixed", 1)):
        padded, plain = (sitk.GetImageFromArray(v) for v in (ct(-32768, seed), ct(None, seed)))
        for image in (padded, plain):
            image.SetSpacing((4.0, 4.0, 8.0))
        images[name] = (padded, plain)
    conversion = {"spacing": [4.0, 4.0, 8.0], "interpolation": "linear"}
    _, warped, _ = preregister_pair(images["moving"][0], images["fixed"][0], conversion)
    assert array(warped).min() > -1100
