from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.losses.voxel_terms import VOXEL_TERMS
from nnunet_liver_ext.trainers.objectives import OBJECTIVES
from nnunet_liver_ext.trainers.overrides import override, override_known, resolve
from nnunet_liver_ext.trainers.players import make_optimizer
from nnunet_liver_ext.trainers.ranges import field_types
from nnunet_liver_ext.trainers.recipe import (
    BY_NAME,
    NOT_A_NUMBER,
    Recipe,
    common_number_names,
    number_names,
    objective_number_names,
    weight_names,
)
from tests.training import find_trainer, make_trainer, quietly, read_inputs, run_epochs

RECIPE = Recipe(strategy="single_input")


def plans(**configurations) -> dict:
    return {"plans_name": "nnUNetPlans", "configurations": configurations}


def test_the_defaults_are_nnunets_own(nnunet_root: Path, tmp_path: Path):
    stock = make_trainer(nnunet_root, tmp_path, "nnUNetTrainer")
    quietly(stock.initialize)
    assert (RECIPE.num_epochs, RECIPE.num_iterations_per_epoch) == (
        stock.num_epochs,
        stock.num_iterations_per_epoch,
    )
    assert (RECIPE.num_val_iterations_per_epoch, RECIPE.save_every) == (
        stock.num_val_iterations_per_epoch,
        stock.save_every,
    )
    assert (RECIPE.initial_lr, RECIPE.weight_decay) == (stock.initial_lr, stock.weight_decay)
    assert RECIPE.lr_exponent == stock.lr_scheduler.exponent
    optimizer = make_optimizer(
        "sgd", [torch.zeros(1)], lr=0.1, momentum=RECIPE.momentum, weight_decay=0
    )
    assert optimizer.param_groups[0]["momentum"] == stock.optimizer.param_groups[0]["momentum"]
    assert stock.optimizer.param_groups[0]["nesterov"]
    assert RECIPE.oversample_foreground_percent == stock.oversample_foreground_percent
    assert RECIPE.probabilistic_oversampling == stock.probabilistic_oversampling
    assert RECIPE.voxel_terms == {
        "dice": stock.loss.loss.weight_dice,
        "ce": stock.loss.loss.weight_ce,
    }
    assert RECIPE.deep_supervision == stock.enable_deep_supervision


def test_recipes_are_merged_from_grandparent_to_child():
    content = plans(
        grandparent={"recipe": {"num_epochs": 10, "initial_lr": 0.1, "seed": 1}},
        parent={"inherits_from": "grandparent", "recipe": {"num_epochs": 20, "momentum": 0.5}},
        silent={"inherits_from": "parent"},
        child={"inherits_from": "silent", "recipe": {"num_epochs": 30}},
    )
    child = resolve(RECIPE, content, "child")
    assert (child.num_epochs, child.initial_lr, child.momentum, child.seed) == (30, 0.1, 0.5, 1)
    assert resolve(RECIPE, content, "silent").num_epochs == 20
    assert resolve(RECIPE, content, "grandparent").momentum == RECIPE.momentum
    assert resolve(RECIPE, plans(plain={}), "plain") == RECIPE


def test_a_recipe_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        RECIPE.num_epochs = 3  # type: ignore[misc]


def test_an_unknown_key_lists_the_known_ones():
    with pytest.raises(InputError) as error:
        resolve(RECIPE, plans(a={"recipe": {"epochs": 3, "lr": 1}}), "a")
    message = str(error.value)
    assert "plans nnUNetPlans, configuration a: unknown recipe keys ['epochs', 'lr']" in message
    assert all(name in message for name in number_names(["dice_ce"]))


def test_the_numbers_of_companions_are_among_the_known_ones():
    with pytest.raises(InputError, match="known are ") as error:
        override_known(RECIPE, {"lambda": 3}, "here")
    known = str(error.value).partition("known are ")[2].rstrip(".").split(", ")
    new = (
        "adversarial_weight betting_weight companion_checkpoint companion_steps embedding_layer"
        " lambda_g lambda_p lambda_r"
    )
    assert set(new.split()) <= set(known)
    assert not {"strategy", "objective"} & set(known)


def test_every_number_that_can_be_wrong_has_a_range():
    for numbers in (RECIPE, *(kind.numbers_type() for kind in OBJECTIVES.values())):
        ranges = {name: limits for name, (_, limits) in field_types(type(numbers)).items()}
        values = {name: getattr(numbers, name) for name, limits in ranges.items() if limits is None}
        assert not [
            name
            for name, value in values.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]


@pytest.mark.parametrize("name", NOT_A_NUMBER)
def test_strategy_and_objective_are_what_the_name_says(name: str):
    with pytest.raises(InputError, match=f"unknown recipe keys \\['{name}'\\]"):
        override(RECIPE, {name: "dual_input"}, "here")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"num_epochs": 2.5}, "num_epochs must be int, found 2.5"),
        ({"num_epochs": True}, "num_epochs must be int, found True"),
        ({"num_epochs": "10"}, "num_epochs must be int, found '10'"),
        ({"num_epochs": None}, "num_epochs must be int, found None"),
        ({"initial_lr": "fast"}, "initial_lr must be float or int, found 'fast'"),
        ({"mirroring": 1}, "mirroring must be bool, found 1"),
        ({"seed": 1.0}, "seed must be int or null, found 1.0"),
        ({"optimizer": "rmsprop"}, "optimizer must be one of sgd, adam, adamw, found 'rmsprop'"),
        ({"optimizer": ["sgd"]}, "optimizer must be one of"),
        ({"num_epochs": 0}, r"num_epochs must lie in \[1, 1e\+09\], found 0"),
        ({"momentum": 1.5}, r"momentum must lie in \[0, 0.9999\], found 1.5"),
        ({"initial_lr": float("nan")}, "initial_lr must lie in"),
        ({"seed": -1}, "seed must lie in"),
        ({"gradient_clip": 0}, "gradient_clip must lie in"),
        ({"lambda_r": -0.1}, r"lambda_r must lie in \[0, 1000\], found -0.1"),
        (
            {"companion_optimizer": "lion"},
            "companion_optimizer must be one of sgd, adam, adamw, found 'lion'",
        ),
        ({"warmup_epochs": 1.5}, "warmup_epochs must be int or null, found 1.5"),
        ({"spectral_norm": 1}, "spectral_norm must be bool, found 1"),
        ({"companion_checkpoint": True}, "companion_checkpoint must be str or null, found True"),
        ({"segmentor_steps": 0}, "segmentor_steps must lie in"),
        ({"companion_momentum": 1}, "companion_momentum must lie in"),
    ],
)
def test_types_and_ranges(numbers: dict, message: str):
    with pytest.raises(InputError, match=f"^here: recipe: {message}"):
        override_known(RECIPE, numbers, "here")


def test_whole_numbers_do_for_floats_and_null_for_no_seed():
    recipe = override(RECIPE, {"initial_lr": 1, "seed": None}, "here")
    assert (recipe.initial_lr, recipe.seed) == (1, None)


def test_no_two_numbers_have_one_name():
    """Objectives of a family may share a number; it means the same in all of them."""
    owners: dict[str, set[str]] = {}
    for key in OBJECTIVES:
        assert len(set(number_names([key]))) == len(
            (*common_number_names(), *weight_names(), *objective_number_names(key))
        )
        for name in objective_number_names(key):
            owners.setdefault(name, set()).add(key.partition("_")[0].replace("embedding", "gan"))
    assert {name for name, families in owners.items() if len(families) > 1} == set()


def test_json_is_flat_and_reads_back():
    recipe = override(
        Recipe(strategy="single_input", objective="gan", voxel_terms={"ce": 1.0}),
        {"adversarial_weight": 0.5, "dice_weight": 0.25},
        "here",
    )
    content = recipe.to_json()
    assert not set(BY_NAME) & set(content)
    assert (content["dice_weight"], content["ce_weight"]) == (0.25, 1.0)
    assert (content["adversarial_weight"], content["gradient_penalty"]) == (0.5, 0.0)
    assert "betting_weight" not in content
    assert Recipe.from_json(content).to_json() == content


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"objective": "bets"}, "there is no objective 'bets', only dice_ce, gan"),
        ({"voxel_terms": {"jaccard": 1.0}}, "there is no voxel term 'jaccard', only dice, ce"),
        ({"voxel_terms": {"dice": -1.0}}, r"dice_weight must lie in \[0, 1e\+09\], found -1"),
        (
            {"objective": "gan", "objective_options": {"lambda_r": 1.0}},
            "objective gan has no number lambda_r, only spectral_norm, gradient_penalty",
        ),
    ],
)
def test_a_recipe_that_cannot_be(more: dict, message: str):
    with pytest.raises(InputError, match=f"^recipe: {message}"):
        Recipe(strategy="single_input", **more)


@pytest.mark.parametrize("objective", ["gan", "embedding", "gambling", "similarity_affine"])
def test_a_number_of_another_objective_is_refused_by_its_name(objective: str):
    recipe = Recipe(strategy="single_input", objective=objective)
    for key in OBJECTIVES:
        for name in set(objective_number_names(key)) - set(objective_number_names(objective)):
            value = getattr(OBJECTIVES[key].numbers_type(), name)
            with pytest.raises(
                InputError, match=f"^here: {name} is a number of objective "
            ) as error:
                override(recipe, {name: value}, "here")
            assert key in str(error.value)
            assert f"objective {objective} has {', '.join(objective_number_names(objective))}." in (
                str(error.value)
            )


def test_plans_that_trainers_share_may_have_the_numbers_of_all_objectives():
    shared = {"betting_weight": 0.5, "lambda_p": 0.0, "num_epochs": 5}
    assert override_known(RECIPE, shared, "here") == override(RECIPE, {"num_epochs": 5}, "here")
    gambling = Recipe(strategy="single_input", objective="gambling")
    recipe = override_known(gambling, shared, "here")
    assert recipe.to_json()["betting_weight"] == 0.5


def test_terms_are_added_up_in_the_order_of_the_registry():
    assert list(VOXEL_TERMS)[:2] == ["dice", "ce"]


@pytest.mark.parametrize("entry", [None, 5, "num_epochs=5", ["num_epochs"]])
def test_a_recipe_must_be_numbers_by_name(entry):
    with pytest.raises(InputError, match="configuration a: recipe must be numbers by name"):
        resolve(RECIPE, plans(a={"recipe": entry}), "a")


def test_missing_and_circular_ancestors():
    with pytest.raises(InputError, match="configuration a inherits from b, which is missing"):
        resolve(RECIPE, plans(a={"inherits_from": "b"}), "a")
    circle = plans(a={"inherits_from": "b"}, b={"inherits_from": "a"})
    with pytest.raises(InputError, match="configuration a inherits from a, which is circular"):
        resolve(RECIPE, circle, "a")
    with pytest.raises(InputError, match="have no configuration c; there are a, b"):
        resolve(RECIPE, circle, "c")


def test_an_unknown_key_is_an_error_before_anything_is_created(
    nnunet_root: Path, tmp_path: Path, monkeypatch
):
    plans_, dataset_json = read_inputs(nnunet_root, "nnUNetTrainerSingleInput", epochs=3)
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    with pytest.raises(InputError, match="unknown recipe keys"):
        find_trainer("nnUNetTrainerSingleInput")(
            plans_, "3d_fullres", 0, dataset_json, torch.device("cpu")
        )
    assert list(tmp_path.iterdir()) == []


def test_the_numbers_reach_the_trainer(nnunet_root: Path, tmp_path: Path):
    numbers = {
        "optimizer": "adamw",
        "initial_lr": 1e-3,
        "weight_decay": 0.5,
        "lr_exponent": 0,
        "deep_supervision": False,
        "mirroring": False,
        "dice_weight": 2,
        "ce_weight": 0.25,
        "oversample_foreground_percent": 1.0,
        "probabilistic_oversampling": True,
    }
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerDualOutput", **numbers)
    run_epochs(trainer, 1)
    group = trainer.optimizer.param_groups[0]
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert (group["lr"], group["weight_decay"]) == (1e-3, 0.5)
    assert group["betas"] == (0.9, 0.999)  # SGD's default would be 0.99
    assert trainer.loss.weights == {"Dice": 2, "CE": 0.25}
    assert trainer.inference_allowed_mirroring_axes is None
    loader = trainer.dataloader_train.generator
    assert loader.oversample_foreground_percent == 1.0
    assert loader.get_do_oversample == loader._probabilistic_oversampling
    quietly(trainer.on_train_epoch_start)
    assert trainer.optimizer.param_groups[0]["lr"] == 1e-3
