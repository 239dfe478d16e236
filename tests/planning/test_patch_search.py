"""Patch and batch by memory, with memories that are known in closed form."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_liver_ext.planning.patch_search import (
    batch_by_dataset_share,
    isotropic_patch,
    largest_batch,
    largest_fitting_patch,
    multiples_between,
    patch_ladder,
)


def test_the_first_patch_is_nnunets():
    assert isotropic_patch((1.0, 1.0, 1.0), (500, 500, 500)) == [256, 256, 256]
    isotropic_mm = isotropic_patch((2.0, 1.0, 1.0), (900, 900, 900))
    assert isotropic_mm == [
        round(256 / 2 ** (2 / 3)),
        round(256 * 2 ** (1 / 3)),
        round(256 * 2 ** (1 / 3)),
    ]
    assert isotropic_patch((1.0, 1.0, 1.0), (40, 500.5, 200)) == [40, 256, 200]


@pytest.mark.parametrize(
    ("step", "smallest", "largest", "expected"),
    [
        (8, 16, 40, [16, 24, 32, 40]),
        (8, 17, 41, [24, 32, 40, 48]),
        (16, 64, 30, [32]),
        (1, 4, 2, [4]),
        (3, 1, 7, [6, 9]),
    ],
)
def test_multiples(step: int, smallest: int, largest: int, expected: list[int]):
    assert multiples_between(step, smallest=smallest, largest=largest) == expected


def test_the_axis_that_is_longest_beside_the_images_becomes_shorter_first():
    patches = patch_ladder([[4, 8], [16, 32, 48]], (8, 96))
    assert patches == [(8, 48), (4, 48), (4, 32), (4, 16)]


@given(
    sizes=st.lists(
        st.lists(st.integers(1, 300), min_size=1, max_size=8, unique=True).map(sorted),
        min_size=2,
        max_size=3,
    ),
    limit=st.integers(0, 300**3),
)
def test_the_largest_that_fits_is_the_first_of_the_ladder(sizes: list[list[int]], limit: int):
    patches = patch_ladder(sizes, [200.0] * len(sizes))
    assert patches[0] == tuple(one[-1] for one in sizes)
    assert patches[-1] == tuple(one[0] for one in sizes)
    asked = []

    def fits(patch: tuple[int, ...]) -> bool:
        asked.append(patch)
        return math.prod(patch) <= limit

    expected = next((patch for patch in patches if math.prod(patch) <= limit), None)
    assert largest_fitting_patch(patches, fits) == expected
    assert len(asked) <= math.ceil(math.log2(len(patches) + 1))


@pytest.mark.parametrize(
    ("target", "largest", "expected"),
    [(2.0, 100, 2), (9.9, 100, 8), (10.0, 100, 9), (10.0, 5, 5), (3.5, 100, 2), (1e9, 7, 7)],
)
def test_the_largest_batch(target: float, largest: int, expected: int):
    """Memory is 1 + batch."""
    assert largest_batch(lambda batch: 1.0 + batch, target, smallest=2, largest=largest) == expected


def test_a_batch_that_grows_faster_than_it_seemed():
    found = largest_batch(lambda batch: batch + 0.1 * batch**2, 20.0, smallest=2, largest=100)
    assert found + 0.1 * found**2 <= 20.0 < (found + 1) + 0.1 * (found + 1) ** 2


def test_no_more_than_a_twentieth_of_the_dataset():
    assert batch_by_dataset_share(100 * 64**3, (64, 64, 64)) == 5
    assert batch_by_dataset_share(10 * 64**3, (64, 64, 64)) == 2
