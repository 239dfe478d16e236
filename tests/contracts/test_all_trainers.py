"""What every trainer promises, whatever its recipe."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nnunet_liver_ext.trainers as package
from nnunet_liver_ext.networks.strategies import STRATEGIES
from nnunet_liver_ext.trainers.objectives import OBJECTIVES
from tests.training import (
    NUMBERS,
    QUICK,
    dataset_of,
    find_trainer,
    make_trainer,
    quietly,
    run_epochs,
    weights,
)

TRAINERS = sorted(package.__all__)
PAIR_TRAINERS = [
    name for name in TRAINERS if STRATEGIES[getattr(package, name).recipe.strategy].is_pair
]
SEEING_ONE_IMAGE = [
    name
    for name in PAIR_TRAINERS
    if getattr(package, name).recipe.strategy.startswith("single_input")
]
WITH_COMPANION = [
    name for name in TRAINERS if OBJECTIVES[getattr(package, name).recipe.objective].has_companion
]
EPOCHS = 4
"""With a companion: a warm-up of one or two epochs, an epoch of a registor alone, and two of
both."""
PHASES = {"gan": (2, 0, 2), "embedding": (2, 0, 2), "gambling": (2, 0, 2)}
COOPERATING = (1, 1, 2)


def made(root: Path, results: Path, name: str) -> Any:
    return make_trainer(root, results, name, **NUMBERS.get(name, {}))


def companion_state(trainer: Any) -> dict[str, torch.Tensor]:
    """Weights of the companion network and what its optimizer remembers; empty without one."""
    if trainer.companion is None:
        return {}
    state = dict(trainer.objective.companion.state_dict())
    for index, moments in trainer.companion.optimizer.state_dict()["state"].items():
        state |= {
            f"{name} of parameter {index}": torch.as_tensor(value)
            for name, value in moments.items()
        }
    return {name: value.clone() for name, value in state.items()}


@pytest.fixture(scope="module", params=TRAINERS)
def straight(request, nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory):
    """A trainer after four epochs without a break, and the weights of both networks before."""
    trainer = made(nnunet_root, tmp_path_factory.mktemp("straight"), request.param)
    quietly(trainer.initialize)
    before = weights(trainer), companion_state(trainer)
    run_epochs(trainer, EPOCHS, end=True)
    return trainer, before


@pytest.mark.parametrize("name", TRAINERS)
def test_a_named_trainer_is_a_recipe_and_nothing_else(name: str):
    from nnunet_liver_ext.trainers.base import LiverTrainer

    trainer = getattr(package, name)
    assert trainer.__bases__ == (LiverTrainer,)
    body = ast.parse(inspect.getsource(trainer)).body[0].body
    assert isinstance(body[0], ast.Expr)
    assert [statement.targets[0].id for statement in body[1:]] == ["recipe"]


@pytest.mark.parametrize("name", TRAINERS)
def test_nnunet_finds_it_through_the_environment_variable_alone(
    name: str, nnunet_root: Path, monkeypatch
):
    from nnunet_liver_ext.environment import PLUGIN_FOLDER

    monkeypatch.setenv("nnUNet_extTrainer", str(PLUGIN_FOLDER))
    assert find_trainer(name) is getattr(package, name)
    monkeypatch.delenv("nnUNet_extTrainer")
    with pytest.raises(RuntimeError, match="Could not find"):
        find_trainer(name)


def test_which_trainers_there_are():
    one_image = [
        "BCE",
        "Dice",
        "DiceBCE",
        "Embedding",
        "GAN",
        "Gambling",
        "SingleInput",
        "SingleInputSpecialized",
    ]
    assert [name.removeprefix("nnUNetTrainer") for name in SEEING_ONE_IMAGE] == one_image
    companions = ["DI2INAN", "Embedding", "GAN", "Gambling", "Similarity"]
    companions += [f"Similarity{transforms}" for transforms in ("Affine", "Rigid", "Translation")]
    assert [name.removeprefix("nnUNetTrainer") for name in WITH_COMPANION] == companions
    assert {getattr(package, name).recipe.strategy for name in TRAINERS} == set(STRATEGIES)
    assert {getattr(package, name).recipe.objective for name in TRAINERS} == set(OBJECTIVES)


def test_training_changes_every_network_of_the_segmentor(straight):
    trainer, (before, _) = straight
    after = weights(trainer)
    for index in range(len(trainer.network.networks)):
        own = [
            name
            for name in before
            if name.startswith(f"networks.{index}.") and name.endswith(".weight")
        ]
        names = [name for name in own if before[name].ndim > 1 and ".seg_layers." not in name]
        assert names
        assert all(not torch.equal(before[name], after[name]) for name in names)


def test_training_changes_the_companion_network(straight):
    trainer, (_, before) = straight
    names = [
        name for name in before if name.endswith("weight") and ".seg_layers." not in name
    ]  # nnU-Net's unused heads
    assert bool(names) == (type(trainer).__name__ in WITH_COMPANION)
    after = companion_state(trainer)
    assert all(not torch.equal(before[name], after[name]) for name in names)


def test_phases(straight):
    trainer, _ = straight
    found = {phase.name: phase.end - phase.first for phase in trainer.phases}
    if type(trainer).__name__ not in WITH_COMPANION:
        assert found == {"segmentor": EPOCHS}
    else:
        expected = PHASES.get(trainer.recipe.objective, COOPERATING)
        assert tuple(found.get(name, 0) for name in ("segmentor", "companion", "both")) == expected
    log = Path(trainer.log_file).read_text()
    assert log.count("Phase: ") == (0 if len(found) == 1 else EPOCHS)


def test_interrupted_and_continued_equals_straight_through(
    straight, nnunet_root: Path, tmp_path: Path
):
    trainer, _ = straight
    name = type(trainer).__name__
    first = made(nnunet_root, tmp_path, name)
    run_epochs(first, 2)
    second = made(nnunet_root, tmp_path, name)
    quietly(second.load_checkpoint, str(Path(second.output_folder) / "checkpoint_latest.pth"))
    assert second.current_epoch == 2
    run_epochs(second, EPOCHS)
    for found, expected in (
        (weights(second), weights(trainer)),
        (companion_state(second), companion_state(trainer)),
    ):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(value, found[key]), key
    assert json.dumps(second.history, sort_keys=True) == json.dumps(trainer.history, sort_keys=True)
    assert second.logger.get_value("ema_fg_dice", None) == trainer.logger.get_value(
        "ema_fg_dice", None
    )


@pytest.mark.parametrize("name", PAIR_TRAINERS)
@pytest.mark.parametrize("training", [True, False])
def test_which_images_each_view_depends_on(
    name: str, training: bool, nnunet_root: Path, tmp_path: Path
):
    trainer = made(nnunet_root, tmp_path, name)
    quietly(trainer.initialize)
    network = trainer.network.train(training)
    network.decoder.deep_supervision = False
    x = torch.randn(2, 2, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 1] += 1
    with torch.no_grad():
        views, views_of_other = [], []
        for batch, collected in ((x, views), (other, views_of_other)):
            torch.manual_seed(3)  # the same swaps in both calls
            collected += network.views(batch)
    assert torch.equal(views[0], views_of_other[0]) == (name in SEEING_ONE_IMAGE)
    assert not torch.equal(views[1], views_of_other[1])


def test_nnunets_own_predictor_loads_the_model_and_predicts(straight):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer, _ = straight
    predictor = quietly(
        lambda: nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    )
    quietly(
        predictor.initialize_from_trained_model_folder,
        trainer.output_folder_base,
        (0,),
        "checkpoint_final.pth",
    )
    data = torch.randn(2, 20, 40, 40, generator=torch.Generator().manual_seed(0))
    logits = quietly(predictor.predict_logits_from_preprocessed_data, data)
    heads = 2 if dataset_of(type(trainer).__name__) != "Dataset501_Blobs" else 4
    assert logits.shape == (heads, 20, 40, 40)
    assert torch.isfinite(logits).all()
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    patch = data[None, :, :16, :32, :32]
    with torch.no_grad():
        assert torch.equal(predictor.network(patch), trainer.network(patch))


def test_the_organ_mask_is_never_seen(straight):
    trainer, _ = straight
    if trainer.organ is None:
        pytest.skip("no organ mask")
    x = torch.randn(2, 2, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 1] = 1 - other[:, 1]
    trainer.network.eval()
    with torch.no_grad():
        for one, another in ((x, other), (x, x[:, :1])):
            assert torch.equal(
                trainer.network.views(one)[0][0], trainer.network.views(another)[0][0]
            )


def test_nothing_is_found_beyond_the_organ(straight):
    trainer, _ = straight
    if trainer.organ is None:
        pytest.skip("no organ mask")
    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    x = torch.randn(2, 2, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    x[:, 1] = x[:, 1] > 0
    with torch.no_grad():
        restricted, free = trainer.network(x), trainer.network(x[:, :1])
    trainer.set_deep_supervision_enabled(True)
    inside = (x[:, 1:] > 0.5).expand_as(free)
    assert torch.equal(restricted[inside], free[inside])
    outside = restricted.softmax(1)[:, 1:][~inside[:, 1:]]
    assert outside.numel() > 0
    assert outside.max() < 1e-8


def test_the_resolved_recipe_is_in_the_saved_plans_and_checkpoint(straight):
    trainer, _ = straight
    expected = {
        **type(trainer).recipe.to_json(),
        **QUICK,
        **NUMBERS.get(type(trainer).__name__, {}),
    }
    saved = json.loads((Path(trainer.output_folder_base) / "plans.json").read_text())
    assert saved["nnunet_liver_ext"]["recipe"] == expected
    checkpoint = torch.load(
        Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False
    )
    assert checkpoint["nnunet_liver_ext"]["recipe"] == expected
    assert checkpoint["nnunet_liver_ext"]["version"] == saved["nnunet_liver_ext"]["version"]


def test_log_and_picture_are_by_modality(straight):
    trainer, _ = straight
    names = {name for name in trainer.history if name.startswith("pseudo Dice")}
    if trainer.pair is not None:
        assert names == {"pseudo Dice: T1 liver", "pseudo Dice: T2 liver"}
    else:
        assert names == {
            "pseudo Dice: tumour" if trainer.organ is not None else "pseudo Dice: liver"
        }
    last = trainer.phases[-1].first
    curves = {name: curve for name, curve in trainer.history.items() if len(curve) == EPOCHS}
    assert names <= set(curves)
    assert all(np.isfinite(curves[name]).all() for name in names)
    terms = [name for name in curves if name.startswith("training loss: ")]
    assert len(terms) >= (1 if trainer.pair is None else 2)
    assert all(np.isfinite(curves[name][last:]).all() for name in terms)
    assert (Path(trainer.output_folder) / "progress_modalities.png").stat().st_size > 5000
    log = Path(trainer.log_file).read_text()
    assert all(name in log for name in names)
