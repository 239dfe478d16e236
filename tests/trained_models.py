"""Models of one training step, and native studies on grids of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from nnunet_liver_ext.space.images import Grid, image_like, write_image
from tests.conftest import blob_pair
from tests.training import make_trainer, run_epochs

T1_GRID = Grid((44, 40, 20), (1.4, 1.5, 3.0), (-3.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
OBLIQUE = (0.9945219, -0.1045285, 0, 0.1045285, 0.9945219, 0, 0, 0, 1)
T2_GRID = Grid((40, 44, 12), (1.6, 1.6, 5.0), (2.0, -4.0, 1.0), OBLIQUE)


def write_study(folder: Path, name: str, seed: int = 11) -> dict[str, Path]:
    """NAME_T1.nii.gz and NAME_T2.nii.gz on different grids, T2 oblique and with thick slices."""
    paths = {}
    for modality, grid, index in (("T1", T1_GRID, 0), ("T2", T2_GRID, 1)):
        images, _ = blob_pair(seed, grid.size[::-1])
        paths[modality] = folder / f"{name}_{modality}.nii.gz"
        write_image(image_like(images[index], grid), paths[modality])
    return paths


@pytest.fixture(scope="session")
def model_folders(nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of trained models by trainer; the single-input one has two folds."""
    folders = {}
    for name in (
        "nnUNetTrainerSingleInput",
        "nnUNetTrainerDualInput",
        "nnUNetTrainerPreregistered",
    ):
        trainer = make_trainer(
            nnunet_root,
            tmp_path_factory.mktemp("models"),
            name,
            num_epochs=1,
            num_iterations_per_epoch=1,
        )
        run_epochs(trainer, 1, end=True)
        folders[name] = Path(trainer.output_folder_base)
        add_conversion(folders[name])
    first = folders["nnUNetTrainerSingleInput"] / "fold_0"
    shutil.copytree(first, first.parent / "fold_1")
    return folders


def add_conversion(folder: Path) -> None:
    """The entries that our converter writes into dataset.json and that the tiny dataset lacks."""
    import json

    path = folder / "dataset.json"
    content = json.loads(path.read_text())
    content["conversion"] = {
        "spacing": [1.5, 1.5, 3.0],
        "interpolation": "linear",
        "preregistered": "pair" not in content,
    }
    if "pair" not in content:
        content["preregistered"] = {"fixed": "T2", "moving": "T1"}
    path.write_text(json.dumps(content))


def random_probabilities(shape: tuple[int, ...], classes: int) -> np.ndarray:
    values = np.random.default_rng(0).random((classes, *shape)).astype(np.float32)
    return values / values.sum(0)
