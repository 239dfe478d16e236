"""The largest component of a mask."""

from __future__ import annotations

import numpy as np

from nnunet_liver_ext.space.components import largest_component


def test_the_largest_component_by_hand():
    mask = np.zeros((3, 5, 5), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True  # touch at corners: one component
    mask[0, 4, 3:] = True
    expected = mask.copy()
    expected[0, 4, 3:] = False
    np.testing.assert_array_equal(largest_component(mask), expected)


def test_voxels_that_touch_at_corners_are_apart_for_six_neighbours():
    mask = np.zeros((3, 5, 5), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    mask[0, 4, 3:] = True
    assert np.argwhere(largest_component(mask, neighbours=6)).tolist() == [[0, 4, 3], [0, 4, 4]]


def test_of_equal_components_the_first_is_kept_and_of_nothing_nothing():
    mask = np.zeros((1, 1, 5), bool)
    mask[0, 0, [0, 4]] = True
    assert largest_component(mask)[0, 0].tolist() == [True, False, False, False, False]
    assert not largest_component(np.zeros((2, 2, 2), bool)).any()
