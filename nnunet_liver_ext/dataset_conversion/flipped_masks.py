"""Finds masks that are mirrored against their image.

Flipped back, they would lie on much more even tissue.

Axes: Z slices, Y rows, X columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import inf
from pathlib import Path

import numpy as np

from nnunet_liver_ext.errors import InputError

CLEARLY_LESS = 0.8
"""A mirrored mask must have less than this share of the spread to be the better one."""
FLIPS = [axes for count in (1, 2, 3) for axes in combinations(range(3), count)]


@dataclass(frozen=True)
class Evenness:
    """How much the intensities of a liver may spread in the images of a modality."""

    suspicious: float
    """A mask with at least this spread may be mirrored."""
    mirrored: float
    """A mirrored mask must have less than this to be the better one."""
    relative: bool
    """The spread is the standard deviation as a share of the mean, not in the image's unit."""

    def spread(self, image_ZYX: np.ndarray, mask_ZYX: np.ndarray) -> float:
        """The spread of the intensities within a mask (bool), 0 if the mask is empty.

        It is infinite if it is relative to a mean of 0 or less.
        """
        values = image_ZYX[mask_ZYX].astype(float)
        if values.size == 0:
            return 0.0
        deviation = float(values.std())
        if not self.relative:
            return deviation
        mean = float(values.mean())
        return deviation / mean if mean > 0 else inf

    def describe(self, spread: float) -> str:
        """ "120 HU", "31% of the mean"."""
        return f"{spread:.0%} of the mean" if self.relative else f"{spread:.0f} HU"


CT = Evenness(suspicious=100.0, mirrored=100.0, relative=False)
"""Liver tissue has some tens of HU, and air or lung within a mask hundreds."""
MR = Evenness(suspicious=0.25, mirrored=inf, relative=True)
"""About 0.13 with the masks of CHAOS, which lie where they should."""


def check_not_flipped(
    image_ZYX: np.ndarray, liver_ZYX: np.ndarray, path: Path, evenness: Evenness
) -> None:
    """Refuses a mask whose mirror image would lie on much more even tissue than itself.

    Args:
        image_ZYX: intensities.
        liver_ZYX: bool, of the same shape.
        path: of the mask, for the message.
        evenness: `CT` or `MR`.

    Raises:
        InputError: the spread within the mask is suspicious, and within a mirrored mask it is below
            `evenness.mirrored` and less than 0.8 of it; names the axes of the best one.
    """
    spread = evenness.spread(image_ZYX, liver_ZYX)
    if spread < evenness.suspicious:
        return
    mirrored, best = min(_spreads_when_flipped(image_ZYX, liver_ZYX, evenness))
    if mirrored < min(evenness.mirrored, CLEARLY_LESS * spread):
        names = ", ".join("zyx"[axis] for axis in best)
        raise InputError(
            f"{path}: these masks seem to be flipped along {names}: within them the image has a"
            f" standard deviation of {evenness.describe(spread)}, and of"
            f" {evenness.describe(mirrored)} if they are flipped back; check images and masks of"
            " this case."
        )


def _spreads_when_flipped(
    image_ZYX: np.ndarray, liver_ZYX: np.ndarray, evenness: Evenness
) -> Iterator[tuple[float, tuple[int, ...]]]:
    """Spread of each mirrored mask, and the axes it was flipped along."""
    for axes in FLIPS:
        yield evenness.spread(image_ZYX, np.flip(liver_ZYX, axes)), axes
