"""One toy pair: two masks that differ by a shift and a little more, and an image of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_liver_ext.dataset_conversion.phantom.randomness import generator
from nnunet_liver_ext.dataset_conversion.toy.masks import AREA, draw_blobs, vary_border
from nnunet_liver_ext.dataset_conversion.toy.patterns import angle_image, frequency_image
from nnunet_liver_ext.errors import InputError

SIZE, MAX_SHIFT = 240, 32  # Couteaux et al. 2021, "Cooperating networks", section 3.1
SMALLEST_SIZE = 64
MARGIN = 1 / 40
"""Background around the foreground on each side, at least; of the image's size."""
LARGEST_DIFFERENCE = 0.3
DIFFERENCE = 0.1
NOISE = 0.2


@dataclass(frozen=True)
class ToyPair:
    """A pair with everything that is known of it; arrays are (y, x)."""

    image_1: np.ndarray
    """float32, foreground and background differ by the angle of a sine pattern of amplitude 1."""
    image_2: np.ndarray
    """float32, they differ by its frequency."""
    mask_1: np.ndarray
    """bool, what image 1 shows."""
    mask_2: np.ndarray
    """bool, the annotation of image 2."""
    visible_mask_2: np.ndarray
    """bool, what image 2 shows: mask 2, unless there is annotation noise."""
    shift: tuple[int, int]
    """(dy, dx), pixels, moves mask 1 onto mask 2: without difference and noise, mask_2[y + dy, x +
    dx] = mask_1[y, x]."""


def make_pair(
    seed: int,
    *,
    size: int = SIZE,
    max_shift: int | None = None,
    difference: float = DIFFERENCE,
    annotation_noise: float = 0.0,
    noise: float = NOISE,
) -> ToyPair:
    """A pair of the toy dataset of Couteaux et al. 2021, "Cooperating networks", section 3.1.

    Args:
        seed: everything follows from it; not negative.
        size: pixels of the images along y and x, at least 64.
        max_shift: the largest shift along y and along x, pixels, at most a quarter of the size; the
            paper's 32 of 240 by default, in smaller images the same share (`scaled_max_shift`).
        difference: how unlike the two visible masks are, 0 (equal) to 0.3: about 1 − Dice of the
            masks without their shift.
        annotation_noise: how unlike annotation 2 is what image 2 shows, in the same way. The paper
            has none.
        noise: standard deviation of the images' white noise; the patterns' amplitude is 1.

    Raises:
        InputError: a number is out of range.
    """
    max_shift = scaled_max_shift(size) if max_shift is None else max_shift
    check_options(
        size=size,
        max_shift=max_shift,
        difference=difference,
        annotation_noise=annotation_noise,
        noise=noise,
    )
    if seed < 0:
        raise InputError(f"a seed is not negative, found {seed}.")
    rng = generator(seed, "toy masks")
    side = _canvas_side(size, max_shift)
    blobs_1 = draw_blobs(side, rng.uniform(*AREA) * size**2, rng)
    visible_2 = vary_border(blobs_1, difference, generator(seed, "toy difference"))
    blobs_2 = vary_border(visible_2, annotation_noise, generator(seed, "toy annotation"))
    shift = rng.integers(-max_shift, max_shift, 2, endpoint=True)
    start = rng.integers(*_starts(size, side, shift), endpoint=True)
    mask_1 = _place_canvas(blobs_1, start, size)
    mask_2, visible_mask_2 = (
        _place_canvas(blobs, start + shift, size) for blobs in (blobs_2, visible_2)
    )
    return ToyPair(
        image_1=angle_image(mask_1, noise, generator(seed, "toy image 1")),
        image_2=frequency_image(visible_mask_2, noise, generator(seed, "toy image 2")),
        mask_1=mask_1,
        mask_2=mask_2,
        visible_mask_2=visible_mask_2,
        shift=(int(shift[0]), int(shift[1])),
    )


def scaled_max_shift(size: int) -> int:
    """The paper's 32 pixels, in images below its 240 the same share of them."""
    return min(MAX_SHIFT, round(size * MAX_SHIFT / SIZE))


def check_options(
    *, size: int, max_shift: int, difference: float, annotation_noise: float, noise: float
) -> None:
    """The options of `make_pair`.

    Raises:
        InputError: a number is out of range.
    """
    if size < SMALLEST_SIZE:
        raise InputError(
            f"toy images have at least {SMALLEST_SIZE} pixels along each axis, found a size of"
            f" {size}."
        )
    if not 0 <= max_shift <= size // 4:
        raise InputError(
            f"the largest shift in images of {size} pixels is 0 to {size // 4}, found {max_shift}."
        )
    for name, value in (("difference", difference), ("annotation noise", annotation_noise)):
        if not 0 <= value <= LARGEST_DIFFERENCE:
            raise InputError(
                f"the {name} of toy masks is 0 to {LARGEST_DIFFERENCE}, found {value:g}."
            )
    if not 0 <= noise < np.inf:
        raise InputError(
            f"the noise of toy images is 0 or more (their amplitude is 1), found {noise:g}."
        )


def _canvas_side(size: int, max_shift: int) -> int:
    """A canvas that can be shifted by `max_shift` within the image, whatever is drawn on it."""
    return size - max_shift - 2 * round(MARGIN * size)


def _starts(size: int, side: int, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest place of mask 1's canvas that keep both canvases off the image's edges."""
    margin = round(MARGIN * size)
    return margin - np.minimum(shift, 0), size - margin - side - np.maximum(shift, 0)


def _place_canvas(canvas: np.ndarray, start: np.ndarray, size: int) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[start[0] : start[0] + len(canvas), start[1] : start[1] + len(canvas)] = canvas
    return mask
