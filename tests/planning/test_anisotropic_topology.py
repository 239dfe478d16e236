"""Where the anisotropic U-Net pools and convolves through the slices."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.experiment_planning.experiment_planners.network_topology import (
    get_pool_and_conv_props,
)

from nnunet_liver_ext.networks.anisotropic_unet import FEATURES, KERNEL_SIZES, STRIDES
from nnunet_liver_ext.planning.anisotropic_topology import anisotropic_topology, doubling_features

LARGE = (80.0, 400.0, 400.0)


def as_lists(rows: tuple[tuple[int, ...], ...]) -> list[list[int]]:
    return [list(row) for row in rows]


@pytest.mark.parametrize("slices_mm", [3.0, 4.0, 5.0])
def test_the_papers_topology_at_its_spacings(slices_mm: float):
    assert anisotropic_topology((slices_mm, 1.0, 1.0), LARGE) == (
        as_lists(STRIDES),
        as_lists(KERNEL_SIZES),
    )
    assert doubling_features(5) == list(FEATURES)


@pytest.mark.parametrize("slices_mm", [4.0, 5.0])
def test_where_the_factors_agree_it_is_nnunets(slices_mm: float):
    _, strides, kernels, _, _ = get_pool_and_conv_props((slices_mm, 1.0, 1.0), (64, 256, 256), 4, 4)
    own = anisotropic_topology((slices_mm, 1.0, 1.0), (64.0, 256.0, 256.0))
    assert own == (as_lists(strides[:5]), as_lists(kernels[:5]))


def test_isotropic_images_are_pooled_along_all_axes():
    strides, kernels = anisotropic_topology((1.0, 1.0, 1.0), (128.0, 128.0, 128.0))
    assert strides == [[1, 1, 1]] + [[2, 2, 2]] * 4
    assert kernels == [[3, 3, 3]] * 5


def test_few_slices_are_pooled_less_often_and_do_not_stop_the_others():
    strides, kernels = anisotropic_topology((3.0, 1.0, 1.0), (10.0, 400.0, 400.0))
    assert strides == [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [1, 2, 2]]
    assert kernels == as_lists(KERNEL_SIZES)


def test_very_thick_slices_are_never_mixed():
    strides, kernels = anisotropic_topology((40.0, 1.0, 1.0), LARGE)
    assert strides == [[1, 1, 1]] + [[1, 2, 2]] * 4
    assert kernels == [[1, 3, 3]] * 5


def test_small_images_have_fewer_stages():
    strides, kernels = anisotropic_topology((1.0, 1.0, 1.0), (16.0, 16.0, 16.0))
    assert strides == [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    assert len(kernels) == 3
    assert len(anisotropic_topology((1.0, 1.0, 1.0), (3.0, 3.0, 3.0))[0]) == 2


@given(
    spacing=st.tuples(*[st.floats(0.3, 12.0)] * 3),
    size=st.tuples(*[st.floats(1.0, 600.0)] * 3),
)
def test_feature_maps_are_never_shorter_than_four_voxels_unless_the_images_are(spacing, size):
    strides, kernels = anisotropic_topology(spacing, size)
    assert len(strides) == len(kernels) <= 5
    for axis in range(3):
        pooled = math.prod(stride[axis] for stride in strides)
        assert pooled == 1 or size[axis] / pooled >= 4
        sizes = [kernel[axis] for kernel in kernels]
        assert sizes == sorted(
            sizes
        )  # an axis that is convolved once is convolved in all coarser stages
