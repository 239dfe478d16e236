"""The steps of both players, as the trainers take them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import nnunet_liver_ext.trainers as package
from nnunet_liver_ext.deformation import blur, warp
from nnunet_liver_ext.networks.strategies import STRATEGIES
from nnunet_liver_ext.trainers.game import freeze
from nnunet_liver_ext.trainers.objectives import OBJECTIVES
from nnunet_liver_ext.trainers.objectives.interface import Losses
from nnunet_liver_ext.trainers.phases import BOTH, COMPANION, SEGMENTOR
from tests.objectives import gradients, is_reached
from tests.training import make_trainer, quietly

PAIRED = [
    name for name in package.__all__ if STRATEGIES[getattr(package, name).recipe.strategy].is_pair
]
WITH_COMPANION = [
    name for name in PAIRED if OBJECTIVES[getattr(package, name).recipe.objective].has_companion
]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module", params=WITH_COMPANION)
def playing(
    request, nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, dict[str, Any]]:
    """A trainer in its last phase, and a batch."""
    trainer = make_trainer(nnunet_root, tmp_path_factory.mktemp("playing"), request.param)
    quietly(trainer.initialize)
    trainer.current_epoch = trainer.phases[-1].first
    assert trainer.phase.name == BOTH
    trainer.network.train()
    trainer.objective.train()
    generator = torch.Generator().manual_seed(0)
    codes = torch.zeros(2, 1, 16, 32, 32, dtype=torch.int16)
    codes[:, :, 4:12, 8:20, 8:20] += 1
    codes[:, :, 5:13, 11:23, 12:24] += 2
    scales = trainer._get_deep_supervision_scales()
    targets = [
        codes[(..., *[slice(None, None, round(1 / scale)) for scale in level])] for level in scales
    ]
    data = torch.randn((2, 2, 16, 32, 32), generator=generator) + torch.cat(
        [codes % 2, codes // 2], 1
    )
    return trainer, {"data": data, "target": targets}


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def forget_gradients(trainer: Any) -> None:
    for parameter in (*trainer.network.parameters(), *trainer.objective.parameters()):
        parameter.grad = None


def changed(module: nn.Module, before: dict[str, Tensor]) -> list[bool]:
    return [not torch.equal(value, before[name]) for name, value in module.named_parameters()]


def test_the_companions_step_leaves_the_segmentor_alone(playing):
    trainer, batch = playing
    forget_gradients(trainer)
    network, companion = state(trainer.network), state(trainer.objective.companion)
    losses = trainer.game.play_companion(trainer.game.views(batch), trainer.phase.name)
    assert isinstance(losses, Losses)
    assert all(parameter.grad is None for parameter in trainer.network.parameters())
    assert not any(changed(trainer.network, network))
    assert any(is_reached(parameter.grad) for parameter in trainer.objective.companion.parameters())
    assert any(changed(trainer.objective.companion, companion))


def test_the_segmentors_step_leaves_the_companion_alone(playing):
    trainer, batch = playing
    forget_gradients(trainer)
    network, companion = state(trainer.network), state(trainer.objective.companion)
    trainer.game.play_segmentor(trainer.game.views(batch), trainer.phase.name)
    assert all(parameter.grad is None for parameter in trainer.objective.companion.parameters())
    assert all(parameter.requires_grad for parameter in trainer.objective.companion.parameters())
    assert not any(changed(trainer.objective.companion, companion))
    assert any(changed(trainer.network, network))


def test_what_the_companion_adds_reaches_the_segmentor(playing):
    trainer, batch = playing
    views = trainer.game.views(batch)
    with freeze(trainer.objective.companion):
        losses = trainer.objective.segmentor_loss(views, BOTH)
        (name,) = [name for name in losses.terms if not name.startswith("CE ")]
        reached = gradients(losses.terms[name], *trainer.network.parameters())
    assert any(is_reached(gradient) for gradient in reached)
    assert all(gradient is None or torch.isfinite(gradient).all() for gradient in reached)


def test_one_forward_pass_serves_both_players(playing):
    """One step each: the companion's step must not spoil the graph that the segmentor still
    needs."""
    trainer, batch = playing
    calls = []
    handle = trainer.network.register_forward_hook(lambda *_: calls.append(None))
    try:
        numbers = trainer.train_step(batch)
    finally:
        handle.remove()
    assert len(calls) == 1
    assert all(
        math.isfinite(float(value)) or name.startswith("share") for name, value in numbers.items()
    )


def test_alone_the_companion_changes_and_the_segmentor_does_not(playing):
    trainer, batch = playing
    network, companion = state(trainer.network), state(trainer.objective.companion)
    phases = trainer.phases
    trainer.phases = [type(phases[0])(COMPANION, 0, 1000)]
    try:
        trainer.train_step(batch)
    finally:
        trainer.phases = phases
    assert not any(changed(trainer.network, network))
    assert any(changed(trainer.objective.companion, companion))


def test_alone_the_segmentor_changes_and_the_companion_does_not(playing):
    trainer, batch = playing
    network, companion = state(trainer.network), state(trainer.objective.companion)
    phases = trainer.phases
    trainer.phases = [type(phases[0])(SEGMENTOR, 0, 1000)]
    try:
        numbers = trainer.train_step(batch)
    finally:
        trainer.phases = phases
    assert any(changed(trainer.network, network))
    assert not any(changed(trainer.objective.companion, companion))
    assert set(numbers) == {"loss", "training loss: CE T1", "training loss: CE T2"}


def test_a_player_that_raises_leaves_the_companion_unfrozen():
    companion = nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), freeze(companion):
        assert not any(parameter.requires_grad for parameter in companion.parameters())
        raise ZeroDivisionError
    assert all(parameter.requires_grad for parameter in companion.parameters())
    with freeze(None):
        pass


def test_a_warped_mask_is_that_of_the_first_image(playing):
    """The registor warps T1 onto T2, in training as in its examination."""
    trainer, batch = playing
    if not trainer.recipe.objective.startswith("similarity"):
        pytest.skip("no registor")
    views = [one.detach() for one in trainer.game.views(batch)]
    with torch.no_grad():
        first, second = (one.prediction() for one in views)
        warped = warp(first, trainer.objective.companion(first, second))
        expected = functional.mse_loss(blur(warped), blur(views[1].annotation(2)))
        assert trainer.objective.companion_loss(views, BOTH).terms[
            "registration (L_g)"
        ] == pytest.approx(expected.item())
