"""Small studies as files: two balls in two images on two grids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.space.images import Grid, image_like, write_image
from nnunet_liver_ext.studies.study import Study

AXIAL = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
T1_GRID = Grid((20, 18, 12), (3.0, 3.0, 4.0), (-30.0, -27.0, -24.0), AXIAL)
T2_GRID = Grid((16, 16, 8), (4.0, 4.0, 7.0), (-31.0, -30.0, -26.0), AXIAL)
COARSE = (4.0, 4.0, 6.0)

StudyMaker = Callable[..., Study]


def ball(grid: Grid, centre_mm: tuple[float, float, float], radius_mm: float = 15.0) -> np.ndarray:
    """Voxels (z, y, x) within a ball in scanner coordinates."""
    x, y, z = grid.size
    index = np.stack(np.meshgrid(np.arange(x), np.arange(y), np.arange(z), indexing="ij"), -1)
    points = (
        np.array(grid.origin) + (index * grid.spacing) @ np.array(grid.direction).reshape(3, 3).T
    )
    return (np.linalg.norm(points - np.array(centre_mm), axis=-1) <= radius_mm).transpose(2, 1, 0)


@pytest.fixture
def make_study(tmp_path: Path) -> StudyMaker:
    """Writes a study into tmp_path/source and returns it; the seed moves the balls."""

    def make(
        patient: str = "anna", study: str = "2021", *, seed: int = 0, masks: bool = True
    ) -> Study:
        folder = tmp_path / "source"
        rng = np.random.default_rng(seed)
        images, labels = {}, {}
        for modality, grid in (("T1", T1_GRID), ("T2", T2_GRID)):
            mask = ball(grid, tuple(rng.uniform(-6, 6, 3)))
            values = (mask * 200 + rng.normal(300, 10, mask.shape)).astype(np.int16)
            path = folder / f"{patient}_{study}_{modality}.nii.gz"
            write_image(image_like(values, grid), path)
            images[modality] = path
            if masks:
                labels[modality] = folder / f"{patient}_{study}_{modality}_mask.nii.gz"
                write_image(image_like(mask, grid), labels[modality])
        return Study(patient, study, images, labels)

    return make


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnUNet_raw, empty."""
    folder = tmp_path / "raw"
    folder.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(folder))
    return folder


def fingerprint(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
