"""The toy's masks: random smooth blobs, and the same with another border.

Y X pixels, also of the canvas: the square on which the blobs of a pair are drawn before they are
put into the images.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

AREA = (0.09, 0.2)
"""Share of the image that is foreground, drawn evenly."""
BLOB_SCALE = 0.1
"""Standard deviation of the Gaussian that makes blobs of white noise, of the canvas's side."""
BORDER_SCALE = 0.05
"""The same for the displacement of the border: so fine that no shift makes up for it."""
GATHERING = 6.0
"""How strongly the canvas's rim is avoided; the blobs' noise has a variance of 1."""
SMALLEST_PART = 0.1
"""Share of the foreground; smaller islands and holes of a blob are left out."""
TINY_PART = 0.02
"""The same for those that the displacement of a border makes."""


def draw_blobs(side: int, pixels: float, rng: np.random.Generator) -> np.ndarray:
    """One to a few random smooth blobs around the canvas's centre.

    Args:
        side: of the canvas.
        pixels: foreground, roughly: islands and holes that are too small go afterwards.
        rng: where the shape comes from.

    Returns:
        bool (side, side), nothing at the outermost pixels.
    """
    position = (np.arange(side) + 0.5) / side * 2 - 1
    height = (
        smooth_noise(side, BLOB_SCALE * side, rng)
        - GATHERING * (position[:, None] ** 2 + position**2) ** 2
    )
    height[[0, -1]] = height[:, [0, -1]] = -np.inf
    mask = height > np.partition(height.ravel(), -round(pixels))[-round(pixels)]
    return _remove_small_parts(mask, SMALLEST_PART * pixels)


def vary_border(mask: np.ndarray, difference: float, rng: np.random.Generator) -> np.ndarray:
    """The mask after a smooth random displacement of its border.

    A displacement of standard deviation σ along a border of length P sweeps P·σ·√(2/π) pixels, so
    that the Dice of both masks is about 1 − P·σ·√(2/π) / 2A for an area A. σ is chosen such that
    this is 1 − `difference`.

    Args:
        mask: bool (side, side).
        difference: 0 gives the mask itself.
        rng: where the displacement comes from.
    """
    if difference == 0:
        return mask.copy()
    depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    border = np.count_nonzero(np.abs(depth) <= 2) / 4  # the distances jump from -1 to 1
    sigma = difference * 2 * np.count_nonzero(mask) / (border * math.sqrt(2 / math.pi))
    side = len(mask)
    varied = depth - 0.5 * np.sign(depth) + sigma * smooth_noise(side, BORDER_SCALE * side, rng) > 0
    varied[[0, -1]] = varied[:, [0, -1]] = False
    return _remove_small_parts(varied, smallest=TINY_PART * np.count_nonzero(mask))


def smooth_noise(side: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """A random field (side, side) of mean 0 and variance 1: white noise through a Gaussian.

    The Gaussian has a standard deviation of `scale` pixels.
    """
    # the Gaussian's squares sum up to 1 / (4π scale²)
    white = rng.standard_normal((side, side)) * 2 * math.sqrt(math.pi) * scale
    return ndimage.gaussian_filter(white, scale, mode="wrap")


def _remove_small_parts(mask: np.ndarray, smallest: float) -> np.ndarray:
    """The mask without islands and holes of fewer pixels."""
    return ~_keep_large_parts(~_keep_large_parts(mask, smallest), smallest)


def _keep_large_parts(mask: np.ndarray, smallest: float) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    large = np.bincount(labels.ravel()) >= smallest
    large[0] = False
    return large[labels]
