"""Masks that were mirrored against their image."""

import os
from itertools import combinations
from math import inf
from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.dataset_conversion.flipped_masks import CT, MR, check_not_flipped
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import array, read_image, read_mask

FLIPS = [axes for count in (1, 2, 3) for axes in combinations(range(3), count)]
MASK = Path("mask")


def liver(shape: tuple[int, int, int] = (10, 12, 14)) -> np.ndarray:
    """A box in a corner, with another one on it, so that no mirror image is the same."""
    mask = np.zeros(shape, bool)
    mask[1:5, 1:6, 1:7] = mask[1:3, 1:4, 7:9] = True
    return mask


def even_within(
    mask: np.ndarray, level: float, spread: float, around: float, seed: int = 0
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(
        mask, rng.normal(level, spread, mask.shape), rng.normal(level, around, mask.shape)
    )


@pytest.mark.parametrize("axes", FLIPS)
@pytest.mark.parametrize(("evenness", "level", "around"), [(CT, 60, 400), (MR, 300, 150)])
def test_all_axes_of_a_flip_are_named(axes: tuple[int, ...], evenness, level: float, around: float):
    image = even_within(liver(), level, 20, around)
    check_not_flipped(image, liver(), MASK, evenness)
    names = ", ".join("zyx"[axis] for axis in axes)
    with pytest.raises(
        InputError, match=f"mask: these masks seem to be flipped along {names}: within"
    ):
        check_not_flipped(image, np.flip(liver(), axes), MASK, evenness)


def test_the_best_mirror_image_counts_not_the_first_better_one():
    """Flipped along x the mask lies on perfectly even tissue, along z it is better than now, but
    not as good."""
    mask = np.zeros((8, 8, 8), bool)
    mask[:3, :3, :3] = True
    image = np.random.default_rng(0).normal(300, 120, mask.shape)
    image[5:, :3, :3] = np.random.default_rng(1).normal(300, 45, (3, 3, 3))
    image[:3, :3, 5:] = 300
    with pytest.raises(
        InputError,
        match=r"flipped along x: .* deviation of 4\d% of the mean, and of 0% of the mean if",
    ):
        check_not_flipped(image, mask, MASK, MR)


def test_uneven_tissue_is_no_flip_and_an_empty_mask_neither():
    noise = np.random.default_rng(0).normal(200, 300, liver().shape)
    for evenness in (CT, MR):
        check_not_flipped(noise, np.zeros_like(liver()), MASK, evenness)
        check_not_flipped(noise, liver(), MASK, evenness)


def test_a_mirrored_ct_must_be_as_even_as_a_liver_too():
    """130 HU rather than 200 are clearly less, but no liver tissue; in MR shares of the mean have
    no such limit."""
    image = even_within(liver(), 200, 130, 200)
    flipped = np.flip(liver(), 0)
    check_not_flipped(image, flipped, MASK, CT)
    with pytest.raises(InputError, match="flipped along z"):
        check_not_flipped(image, flipped, MASK, MR)


def test_spreads():
    image, mask = np.array([[[1.0, 3.0, 9.0]]]), np.array([[[True, True, False]]])
    assert CT.spread(image, mask) == pytest.approx(1)
    assert MR.spread(image, mask) == pytest.approx(0.5)
    assert MR.spread(-image, mask) == inf
    assert MR.spread(image, ~mask & mask) == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flips_are_noticed_on_a_real_image(axis: int):
    data = os.environ.get("NNUNET_LIVER_REAL_DATA")
    if not data:
        pytest.skip("NNUNET_LIVER_REAL_DATA is not set")
    image = array(read_image(Path(data) / "ct_3mm.nii.gz"))
    organ = array(read_mask(Path(data) / "ct_3mm_labels.nii.gz")) == 5
    check_not_flipped(image, organ, MASK, CT)
    with pytest.raises(InputError, match=f"seem to be flipped along {'zyx'[axis]}: "):
        check_not_flipped(image, np.flip(organ, axis), MASK, CT)
