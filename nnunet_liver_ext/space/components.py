"""The largest component of a mask."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import ndimage


def largest_component(mask: np.ndarray, *, neighbours: Literal[6, 26] = 26) -> np.ndarray:
    """The component with the most voxels; of equally large ones the first in the array.

    Args:
        mask: bool (z, y, x).
        neighbours: voxels are connected that share faces (6), or faces, edges or corners (26).

    Returns:
        bool, a new array; empty for an empty mask.
    """
    structure = ndimage.generate_binary_structure(3, 1 if neighbours == 6 else 3)
    components, count = ndimage.label(mask, structure)
    if count < 2:
        return mask.copy()
    return components == 1 + int(np.bincount(components.ravel())[1:].argmax())
