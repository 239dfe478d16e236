"""Converting a tiny copy of a public dataset as the command does, and reading back what was
written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.datasets import DATASETS
from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.space.images import Grid, array, image_like, read_image, write_image

TURNED = (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
"""Axes that no two flips make axial: x runs to -y, y to +x, z downwards."""
GRID = Grid((6, 5, 4), (0.8, 0.7, 2.5), (11.0, -7.0, 31.0), TURNED)


def labels_of(seed: int, grid: Grid = GRID, count: int = 2) -> np.ndarray:
    """Random labels 0..count (z, y, x), so that any shift or flip shows."""
    return np.random.default_rng(seed).integers(0, count + 1, grid.size[::-1]).astype(np.uint8)


def intensities_of(seed: int, grid: Grid = GRID) -> np.ndarray:
    return np.random.default_rng(1000 + seed).integers(-100, 300, grid.size[::-1]).astype(np.int16)


def write(values: np.ndarray, path: Path, grid: Grid = GRID) -> Path:
    write_image(image_like(values, grid), path)
    return path


def junk(path: Path) -> None:
    """A file that macOS puts beside another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x00\x05\x16\x07")


def convert(
    key: str,
    root: Path,
    *,
    task: str | None = None,
    allow_empty: bool = False,
    add: bool = False,
    **options: Any,
) -> Path:
    """Folder of the dataset, made with two folds and number 520."""
    dataset = DATASETS[key].adapt_to({**options, "task": task})
    return write_dataset(
        dataset.find(root, options),
        dataset_id=520,
        name="Public",
        settings=ConversionSettings(**dataset.settings(task), allow_empty=allow_empty),
        folds=2,
        processes=1,
        add=add,
        reader=dataset.reader(),
        notes=dataset.notes,
        source_root=root,
    )


class Written:
    """A converted dataset."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content = json.loads((folder / "dataset.json").read_text())
        self.cases = {case.patient: case for case in Manifest.load(folder).cases.values()}

    def image(self, patient: str, channel: int = 0) -> sitk.Image:
        case = self.cases[patient]
        return read_image(
            self.folder / f"images{case.folder}" / f"{case.name}_{channel:04d}.nii.gz"
        )

    def label(self, patient: str) -> sitk.Image:
        case = self.cases[patient]
        return read_image(self.folder / f"labels{case.folder}" / f"{case.name}.nii.gz")

    def check(self, patient: str, image: np.ndarray, label: np.ndarray, grid: Grid = GRID) -> None:
        """Voxels, spacing, origin and orientation of a case."""
        for written, expected in ((self.image(patient), image), (self.label(patient), label)):
            np.testing.assert_array_equal(array(written), expected)
            np.testing.assert_allclose(written.GetSpacing(), grid.spacing, rtol=1e-6)
            np.testing.assert_allclose(written.GetOrigin(), grid.origin, atol=1e-4)
            np.testing.assert_allclose(written.GetDirection(), grid.direction, atol=1e-6)
