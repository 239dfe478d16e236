"""What is one lesion: connectivity, numbering, number types, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.lesion_maps import find_lesions
from tests.evaluation.lesion_lines import line


@pytest.mark.parametrize(("connectivity", "expected"), [(26, 1), (18, 2), (6, 3)])
def test_lesions_hang_together_by_faces_edges_and_corners(connectivity, expected):
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 0] = mask[2, 2, 1] = True  # an edge, then a corner
    assert find_lesions(mask, connectivity=connectivity).max() == expected


@pytest.mark.parametrize("order", ["C", "F"])
def test_lesions_are_numbered_by_their_first_voxels(order):
    mask = np.random.default_rng(0).random((9, 10, 11)) < 0.05
    found = find_lesions(np.asarray(mask, order=order))
    ids, first = np.unique(found[found > 0], return_index=True)
    assert ids.tolist() == list(range(1, len(ids) + 1))
    assert (np.diff(first) > 0).all()
    assert ((found > 0) == mask).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_every_number_type_is_a_mask(dtype):
    assert find_lesions(line("0110100").astype(dtype)).tolist() == line("0110200").tolist()
    assert find_lesions(line("0110100") * 255).tolist() == line("0110200").tolist()


def test_2d_lesions_are_those_of_one_slice():
    mask = np.eye(3, dtype=bool)
    assert find_lesions(mask).tolist() == np.eye(3).tolist()
    assert find_lesions(mask, connectivity=18).max() == 1
    assert find_lesions(mask, connectivity=6).max() == 3


def test_an_empty_mask_has_no_lesions():
    assert not find_lesions(np.zeros((3, 4, 5), bool)).any()
    assert find_lesions(np.zeros((0, 4, 5), bool)).shape == (0, 4, 5)


@pytest.mark.parametrize(
    "shape", [(1, 1, 5), (1, 3, 7), (3, 3, 3), (5, 1, 9), (9, 9, 9), (2, 4, 6)]
)
def test_single_voxels_fill_small_volumes(shape):
    mask = np.zeros(shape, bool)
    mask[::2, ::2, ::2] = True
    assert find_lesions(mask).max() == np.count_nonzero(mask)


def test_find_lesions_refuses_what_is_no_mask():
    with pytest.raises(InputError, match=r"mask holds several labels \(0..2\): choose one"):
        find_lesions(line("0122"))
    with pytest.raises(InputError, match="mask holds fractions"):
        find_lesions(np.full((3, 3), 0.5))
    with pytest.raises(InputError, match="connectivity must be one of 6, 18, 26, not 8"):
        find_lesions(line("01"), connectivity=8)
