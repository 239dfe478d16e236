"""What memory is traced by is the trainers' own step: the same losses on the same batch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nnunet_liver_ext.planning.configuration_memory import configuration_sizes, describe_training
from nnunet_liver_ext.planning.training_step import TrainingStep
from nnunet_liver_ext.trainers.phases import BOTH
from tests.training import make_trainer, quietly

TRAINERS = {
    "nnUNetTrainerDiceBCE": {},
    "nnUNetTrainerDualOutput": {"deep_supervision": False},
    "nnUNetTrainerSingleInputSpecialized": {"dice_weight": 0.25},
    "nnUNetTrainerDI2IN": {},
    "nnUNetTrainerGAN": {"gradient_penalty": 0.5, "adversarial_weight": 0.25},
    "nnUNetTrainerEmbedding": {"embedding_layer": 1, "companion_steps": 2},
    "nnUNetTrainerGambling": {"companion_batch_size": 4},
    "nnUNetTrainerSimilarity": {"lambda_r": 0.5},
}


def first_batches(trainer: Any, count: int) -> list[dict[str, Any]]:
    loaders = quietly(trainer.get_dataloaders)
    try:
        return [next(loaders[0]) for _ in range(count)]
    finally:
        for loader in loaders:
            loader._finish()


@pytest.mark.parametrize("name", TRAINERS)
def test_the_traced_step_has_the_losses_of_the_trainer(
    name: str, nnunet_root: Path, tmp_path: Path
):
    trainer = make_trainer(nnunet_root, tmp_path, name, **TRAINERS[name])
    quietly(trainer.initialize)
    batch, *further = first_batches(trainer, 4)
    plans = json.loads(json.dumps(trainer.plans_manager.plans))
    training = describe_training(trainer.dataset_json, trainer.recipe)
    step = TrainingStep(training, configuration_sizes(plans, "3d_fullres"))
    step.network.load_state_dict(trainer.network.state_dict())
    step.objective.load_state_dict(trainer.objective.state_dict())

    torch.manual_seed(0)
    game = replace(trainer.game, step_segmentor=Tensor.backward, step_companion=Tensor.backward)
    of_trainer = game.play(batch, BOTH, iter(further).__next__)
    torch.manual_seed(0)
    traced = step.play(batch, iter(further).__next__)
    assert len(traced) == len(of_trainer)
    for losses, expected in zip(traced, of_trainer, strict=True):
        assert torch.equal(losses.total, expected.total)
        assert losses.terms.keys() == expected.terms.keys()
        assert all(torch.equal(losses.terms[key], term) for key, term in expected.terms.items())
    for weight, expected in zip(
        step.network.parameters(), trainer.network.parameters(), strict=True
    ):
        assert (weight.grad is None) == (expected.grad is None)
        assert weight.grad is None or torch.equal(weight.grad, expected.grad)
