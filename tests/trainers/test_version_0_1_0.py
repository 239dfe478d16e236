"""Recipes, plans and a checkpoint that version 0.1.0 wrote are read as they were meant.

version_0_1_0/ holds every trainer's recipe (flat, with the numbers of all objectives), and a
nnUNetTrainerSimilarityTranslation with lambda_r = 0.5 after three epochs of `tests.training`'s tiny
training on the pairs of `nnunet_root`: its plans, its checkpoint, what its network answers and the
losses of its fourth epoch.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import nnunet_liver_ext.trainers as package
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.trainers.objectives import OBJECTIVES
from nnunet_liver_ext.trainers.overrides import resolve
from nnunet_liver_ext.trainers.recipe import Recipe, objective_number_names
from tests.training import dataset_of, make_trainer, quietly, run_epochs

SAVED = Path(__file__).parent / "version_0_1_0"
NAME = "nnUNetTrainerSimilarityTranslation"
RECIPES: dict[str, dict[str, Any]] = json.loads((SAVED / "recipes.json").read_text())
EXPECTED = json.loads((SAVED / "expected.json").read_text())


def probe(network: torch.nn.Module) -> list[float]:
    """Some of the joint logits of a made-up pair."""
    x = torch.linspace(-2, 2, 2 * 16 * 32 * 32).reshape(1, 2, 16, 32, 32).sin()
    network.eval()
    with torch.no_grad():
        return network(x)[0, :, ::5, ::11, ::11].flatten().tolist()


@pytest.fixture
def model(nnunet_root: Path, tmp_path: Path) -> Path:
    """The model's folder, as version 0.1.0 left it after three of four epochs."""
    folder = tmp_path / f"{NAME}__nnUNetPlans__3d_fullres"
    (folder / "fold_0").mkdir(parents=True)
    shutil.copy(SAVED / "plans.json", folder)
    preprocessed = nnunet_root / "preprocessed" / dataset_of(NAME)
    shutil.copy(preprocessed / "dataset.json", folder)
    shutil.copy(SAVED / "checkpoint.pth", folder / "fold_0" / "checkpoint_latest.pth")
    return folder


def continued(root: Path, results: Path, model: Path, **numbers: Any) -> Any:
    trainer = make_trainer(root, results, NAME, **{"lambda_r": 0.5, **numbers})
    quietly(trainer.load_checkpoint, str(model / "fold_0" / "checkpoint_latest.pth"))
    return trainer


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_loads(name: str):
    saved = RECIPES[name]
    recipe = Recipe.from_json(saved)
    content = recipe.to_json()
    assert content == getattr(package, name).recipe.to_json()
    new = content.keys() - saved.keys()  # with the defaults that leave everything as it was
    assert all(content[key] == Recipe(strategy="one_view").to_json()[key] for key in new)
    assert {key: saved[key] for key in content if key not in new} == {
        key: value for key, value in content.items() if key not in new
    }
    assert set(saved) - set(content) == {
        number
        for objective in OBJECTIVES
        for number in objective_number_names(objective)
        if number not in objective_number_names(recipe.objective)
    }


def test_numbers_of_other_objectives_are_left_out_whatever_they_are():
    saved = RECIPES["nnUNetTrainerGAN"]
    assert saved["betting_weight"] == 1.0
    recipe = Recipe.from_json({**saved, "betting_weight": 0.25, "adversarial_weight": 0.5})
    assert recipe.to_json() == {**Recipe.from_json(saved).to_json(), "adversarial_weight": 0.5}


def test_a_number_that_never_was_is_an_error():
    with pytest.raises(InputError, match=r"unknown recipe keys \['lambda_q'\]"):
        Recipe.from_json({**RECIPES[NAME], "lambda_q": 0})


def test_the_saved_plans_are_read():
    plans = json.loads((SAVED / "plans.json").read_text())
    recipe = resolve(getattr(package, NAME).recipe, plans, "3d_fullres")
    assert recipe.to_json() == Recipe.from_json(plans["nnunet_liver_ext"]["recipe"]).to_json()
    assert recipe.to_json()["lambda_r"] == 0.5


def test_the_network_gives_the_same_logits(model: Path):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = quietly(
        lambda: nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    )
    quietly(
        predictor.initialize_from_trained_model_folder, str(model), (0,), "checkpoint_latest.pth"
    )
    assert probe(predictor.network) == pytest.approx(EXPECTED["joint_logits_of_sine"], abs=1e-4)


def test_training_continues_with_the_same_losses(nnunet_root: Path, tmp_path: Path, model: Path):
    trainer = continued(nnunet_root, tmp_path, model)
    assert trainer.current_epoch == 3
    assert "WARNING" not in Path(trainer.log_file).read_text()
    steps: list[dict[str, float]] = []
    train_step = trainer.train_step

    def record(batch: dict) -> dict:
        result = train_step(batch)
        steps.append({name: float(value) for name, value in result.items()})
        return result

    trainer.train_step = record
    run_epochs(trainer, 4)
    assert len(steps) == len(EXPECTED["steps_of_the_fourth_epoch"]) == 3
    for step, expected in zip(steps, EXPECTED["steps_of_the_fourth_epoch"], strict=True):
        assert step == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_numbers_of_other_objectives_do_not_block_a_continued_training(
    nnunet_root: Path, tmp_path: Path, model: Path
):
    """Version 0.1.0 took them in silence."""
    path = model / "fold_0" / "checkpoint_latest.pth"
    checkpoint = torch.load(path, weights_only=False)
    checkpoint["nnunet_liver_ext"]["recipe"]["betting_weight"] = 0.25
    torch.save(checkpoint, path)
    trainer = continued(nnunet_root, tmp_path, model, lambda_p=0.5)
    log = Path(trainer.log_file).read_text()
    assert "the recipe has changed since checkpoint_latest.pth was written: lambda_p was 1.0" in log
    assert "betting_weight" not in log


def test_the_registor_is_found(model: Path):
    from nnunet_liver_ext.inference.registors import load_registor

    registor = load_registor(model, "0", "checkpoint_latest.pth", torch.device("cpu"))
    assert registor.describe() == "translation by at most 5.333 x 10.67 x 10.67 voxels"
