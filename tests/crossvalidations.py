"""Folders of cross-validated models without any training: label maps whose Dice is known by
hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.dataset_json.manifest import Manifest, ManifestCase
from nnunet_liver_ext.pairing import PairLabels, encode_pair
from nnunet_liver_ext.space.images import Grid, image_like, write_image

GRID = Grid((24, 20, 16), (1.5, 1.5, 3.0), (-10.0, 5.0, 7.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
DATASET = "Dataset501_Blocks"
PAIR = PairLabels(("T1", "T2"), ("background", "liver"))
CASES = ("P001_S1", "P001_S2", "P002_S1", "P003_S1", "P004_S1")
FOLDS = (("P001_S1", "P001_S2"), ("P002_S1", "P003_S1"), ("P004_S1",))
Draw = Callable[[str], tuple[np.ndarray, np.ndarray]]
"""Masks of T1 and T2 of a case."""


def block(shift: int = 0) -> np.ndarray:
    """A block of 4 x 8 x 8 voxels, shifted along x by n of its 8 columns: its Dice with the
    unshifted one is (8 - n) / 8."""
    labels = np.zeros(GRID.size[::-1], np.uint8)
    labels[2:6, 3:11, 4 + shift : 12 + shift] = 1
    return labels


def block_and_speck(voxels: int) -> np.ndarray:
    """A block that is right, and so many voxels far off: the Dice is 512 / (512 + voxels)."""
    labels = block()
    labels[12, 1, 1 : 1 + voxels] = 1
    return labels


def shifted(first: int = 0, second: int = 0) -> Draw:
    return lambda case: (block(first), block(second))


class Root:
    """nnU-Net's three folders with one dataset of pairs: references, splits and patients."""

    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, folds: Sequence[Sequence[str]] = FOLDS
    ) -> None:
        for kind in ("raw", "preprocessed", "results"):
            patch.setenv(f"nnUNet_{kind}", str(folder / kind))
        self.raw, self.preprocessed = folder / "raw" / DATASET, folder / "preprocessed" / DATASET
        self.results = folder / "results" / DATASET
        self.dataset_json = {
            "labels": PAIR.dataset_labels(),
            "pair": PAIR.to_json(),
            "file_ending": ".nii.gz",
        }
        for case in CASES:
            self.put(self.preprocessed / "gt_segmentations", case, shifted()(case))
        self.raw.mkdir(parents=True)
        (self.preprocessed / "dataset.json").write_text(json.dumps(self.dataset_json))
        grids = {"T1": GRID, "T2": GRID}
        cases = {
            name: ManifestCase(name, name[:4], name[:4], name[5:], "Tr", {}, grids, GRID)
            for name in CASES
        }
        Manifest({}, cases=cases).save(self.raw)
        self.split(folds)

    def split(self, folds: Sequence[Sequence[str]]) -> None:
        self.folds = folds
        splits = [{"train": sorted(set(CASES) - set(fold)), "val": list(fold)} for fold in folds]
        (self.preprocessed / "splits_final.json").write_text(json.dumps(splits))

    def put(self, folder: Path, case: str, masks: tuple[np.ndarray, np.ndarray]) -> Path:
        write_image(image_like(encode_pair(*masks), GRID), folder / f"{case}.nii.gz")
        return folder / f"{case}.nii.gz"

    def model(
        self,
        trainer: str,
        draw: Draw,
        *,
        folds: Sequence[int] | None = None,
        summary: Mapping[str, object] | None = None,
    ) -> Path:
        """A model's folder with the validation predictions of its folds."""
        folder = self.results / f"{trainer}__nnUNetPlans__3d_fullres"
        folder.mkdir(parents=True)
        (folder / "dataset.json").write_text(json.dumps(self.dataset_json))
        for number in range(len(self.folds)) if folds is None else folds:
            validation = folder / f"fold_{number}" / "validation"
            for case in self.folds[number]:
                self.put(validation, case, draw(case))
            (validation / "summary.json").write_text(json.dumps(summary or {}))
        return folder
