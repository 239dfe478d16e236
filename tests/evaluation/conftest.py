"""Small label maps on disk whose every number is known by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.tidy_table import COLUMNS
from nnunet_liver_ext.space.images import Grid, image_like, write_image

settings.register_profile("shared processors", deadline=None)
settings.load_profile("shared processors")

GRID = Grid((24, 20, 16), (1.5, 1.5, 3.0), (-10.0, 5.0, 7.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
OTHER_GRID = Grid((24, 20, 16), (1.5, 1.5, 3.0), (-40.0, 5.0, 7.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
T2_GRID = Grid((18, 15, 8), (2.0, 2.0, 6.0), (-8.0, 6.0, 8.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
BLOCK_VOXELS = 8 * 8 * 4
BLOCK_ML = BLOCK_VOXELS * 6.75 / 1000


def block(shift: int = 0, label: int = 1, grid: Grid = GRID) -> np.ndarray:
    """A block of 4 x 8 x 8 voxels, shifted along x: by n of its 8 columns, Dice with the unshifted
    one is (8 - n) / 8."""
    labels = np.zeros(grid.size[::-1], np.uint8)
    labels[2:6, 3:11, 4 + shift : 12 + shift] = label
    return labels


def table(modality="T1", name="liver", **values):
    """One column of values for each metric, a case for each value."""
    rows = [
        (f"P{n}", f"P{n}", modality, name, metric, float(value), METRICS[metric].unit)
        for metric, own in values.items()
        for n, value in enumerate(own)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """put("predictions/P001_T1", labels, grid) writes a label map below the test's folder."""

    def write(name: str, labels: np.ndarray, grid: Grid = GRID, ending: str = ".nii.gz") -> Path:
        path = tmp_path / f"{name}{ending}"
        write_image(image_like(labels, grid), path)
        return path

    return write
