"""The box of a mask."""

from __future__ import annotations

import numpy as np

from nnunet_liver_ext.evaluation.masks import bounding_box


def test_bounding_box():
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 2:4, 6] = True
    assert bounding_box(mask) == (slice(1, 2), slice(2, 4), slice(6, 7))
