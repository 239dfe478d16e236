"""Datasets of single slices through SliceUNet: planned, preprocessed, trained, validated and
predicted in nnU-Net's configuration 2d."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnunet_liver_ext.environment import enable_trainers
from nnunet_liver_ext.space.images import Grid, array, image_like, read_mask, write_image
from nnunet_liver_ext.trainers.protocols import PROTOCOLS
from tests.conftest import point_to
from tests.training import QUICK, find_trainer, quietly, run_epochs

CASES = [f"P{number:03d}_S1" for number in range(1, 6)]
SIZE = (72, 68)


def write_slices(folder: Path) -> None:
    """A bright disc in noise, one slice per patient."""
    grid = Grid(
        (SIZE[1], SIZE[0], 1), (1.5, 1.5, 5.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1)
    )
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    for seed, case in enumerate(CASES):
        rng = np.random.default_rng(seed)
        disc = ((y - 36 - rng.uniform(-5, 5)) ** 2 + (x - 34) ** 2 < 15**2)[None]
        image = (rng.normal(3, 0.3, disc.shape) + disc).astype(np.float32)
        write_image(image_like(image, grid), folder / "imagesTr" / f"{case}_0000.nii.gz")
        write_image(image_like(disc, grid), folder / "labelsTr" / f"{case}.nii.gz")
    content = {
        "channel_names": {"0": "noNorm"},
        "labels": {"background": 0, "thigh": 1},
        "numTraining": len(CASES),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    (folder / "splits_final.json").write_text(json.dumps([{"train": CASES[:3], "val": CASES[3:]}]))


@pytest.fixture(
    scope="module",
    params=[
        {"protocol": "antaros"},
        {"protocol": "antaros", "options": {"neighbours": 1}},
        {"architecture": "slice"},  # with nnU-Net's augmentation, mirroring and deep supervision
    ],
    ids=["antaros", "antaros with neighbours", "slice"],
)
def trained(request, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset

    from nnunet_liver_ext.planning.plan_dataset import plan_dataset

    root = tmp_path_factory.mktemp("slices")
    with pytest.MonkeyPatch.context() as patch:
        point_to(root, patch)
        patch.setenv("nnUNet_extTrainer", "")
        enable_trainers()
        write_slices(root / "raw" / "Dataset504_Slices")
        path = plan_dataset(504, tiny=True, processes=1, plans_name="slices", **request.param)
        preprocess_dataset(
            504, "slices", configurations=("2d",), num_processes=(1,), show_progress_bar=False
        )
        plans = json.loads(path.read_text())
        numbers = {**QUICK, "num_epochs": 2, "score_images_every": 2}
        plans["configurations"]["2d"]["recipe"] = numbers
        plans["continue_training"] = False
        trainer = quietly(
            find_trainer("nnUNetTrainerLiver"),
            plans,
            "2d",
            0,
            json.loads((path.parent / "dataset.json").read_text()),
            torch.device("cpu"),
        )
        run_epochs(trainer, 2, end=True)
        quietly(trainer.perform_actual_validation)
        yield request.param, trainer


def test_they_are_trained_and_validated(trained):
    asked, trainer = trained
    assert np.isfinite(trainer.logger.get_value("train_losses", -1))
    assert len(trainer.configuration_manager.patch_size) == 2
    folder = Path(trainer.output_folder) / "validation"
    summary = json.loads((folder / "summary.json").read_text())
    assert {case["prediction_file"] for case in summary["metric_per_case"]} == {
        f"{case}.nii.gz" for case in CASES[3:]
    }
    assert array(read_mask(folder / f"{CASES[3]}.nii.gz")).shape == (1, *SIZE)
    if "protocol" in asked:
        best_by = PROTOCOLS["antaros"].numbers["best_by"]
        assert (trainer.recipe.best_by, trainer.recipe.keep) == (best_by, "best")
        assert np.isfinite(trainer.history["whole images, dice: thigh"][1])


def test_a_slice_is_seen_at_once_and_mirrored_along_its_own_axes(trained):
    from nnunet_liver_ext.trainers.final_validation import make_predictor

    _, trainer = trained
    trainer.set_deep_supervision_enabled(False)
    predictor = make_predictor(trainer, mirroring=True)
    image = torch.randn(1, 2, *SIZE, generator=torch.Generator().manual_seed(0))
    logits = predictor.predict_sliding_window_return_logits(image)
    network = trainer.network.eval()
    axes = trainer.inference_allowed_mirroring_axes or ()
    flips = [flip for flip in ((), (2,), (3,), (2, 3)) if all(axis - 2 in axes for axis in flip)]
    assert len(flips) == (4 if axes else 1)
    with torch.no_grad():
        for z in range(2):
            seen = [network(image[None, :, z].flip(flip)).flip(flip)[0] for flip in flips]
            torch.testing.assert_close(
                logits[:, z], torch.stack(seen).mean(0), rtol=1e-4, atol=1e-4
            )


def test_predict_gives_what_the_validation_gave(trained, tmp_path: Path):
    from nnunet_liver_ext.inference.load_model import load_model
    from nnunet_liver_ext.inference.predict import predict_studies
    from nnunet_liver_ext.studies.study import Study

    _, trainer = trained
    model = load_model(
        Path(trainer.output_folder_base), device=torch.device("cpu"), postprocessing=False
    )
    raw = Path(trainer.preprocessed_dataset_folder_base).parents[1] / "raw" / "Dataset504_Slices"
    image = raw / "imagesTr" / f"{CASES[3]}_0000.nii.gz"
    predict_studies(model, [Study("P", "P", {"noNorm": image}, {})], tmp_path)
    validated = Path(trainer.output_folder) / "validation" / f"{CASES[3]}.nii.gz"
    found, expected = (array(read_mask(path)) for path in (tmp_path / "P.nii.gz", validated))
    assert found.shape == expected.shape == (1, *SIZE)
    assert (found == expected).mean() > 0.99
