"""The toy's images: sine patterns whose angle (image 1) or frequency (image 2) shows the mask.

Both patterns of an image have the same mean and the same variance, so that no grey value tells one
from the other. The angles are 0° and 90°, which mirroring along an axis does not change; rotation
would turn one into the other, and scaling would do so with the frequencies.
"""

from __future__ import annotations

import math

import numpy as np

BACKGROUND_ANGLE, FOREGROUND_ANGLE = 0.0, 90.0
"""Degrees in image 1: the direction in which the pattern changes, from x to y."""
BACKGROUND_STRETCH, FOREGROUND_STRETCH = 1.5, 0.8
"""Period of the pattern in image 2, relative to that of image 1."""
ANGLE_JITTER = 5.0
"""Degrees, standard deviation between images."""
STRETCH_JITTER = 0.04
"""Relative standard deviation of all periods between images."""


def period_px(size: int) -> float:
    """Period of image 1's patterns in pixels: 10 of 240 (the paper gives none), never below 5."""
    return max(5.0, size / 24)


def angle_image(mask: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Image 1: one period, the angle says what is foreground; float32 of the mask's shape."""
    period = period_px(len(mask))
    background, foreground = (
        _wave(len(mask), angle + ANGLE_JITTER * rng.standard_normal(), period * _jitter(rng), rng)
        for angle in (BACKGROUND_ANGLE, FOREGROUND_ANGLE)
    )
    return _image(mask, background, foreground, noise, rng)


def frequency_image(mask: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Image 2, float32 of the mask's shape: one angle, and the frequency shows the foreground.

    The angle differs between images.
    """
    period, angle = period_px(len(mask)), rng.uniform(0, 180)
    background, foreground = (
        _wave(len(mask), angle, period * stretch * _jitter(rng), rng)
        for stretch in (BACKGROUND_STRETCH, FOREGROUND_STRETCH)
    )
    return _image(mask, background, foreground, noise, rng)


def _wave(size: int, angle: float, period: float, rng: np.random.Generator) -> np.ndarray:
    """A sine of amplitude 1 and random phase, (size, size)."""
    at = 2 * math.pi / period * np.arange(size)
    along_x, along_y = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.sin(along_x * at + along_y * at[:, None] + rng.uniform(0, 2 * math.pi))


def _jitter(rng: np.random.Generator) -> float:
    return 1 + STRETCH_JITTER * rng.standard_normal()


def _image(
    mask: np.ndarray,
    background: np.ndarray,
    foreground: np.ndarray,
    noise: float,
    rng: np.random.Generator,
) -> np.ndarray:
    clean = np.where(mask, foreground, background)
    return (clean + noise * rng.standard_normal(mask.shape)).astype(np.float32)
