"""Losses from outside the package: what has to be written for one, and that nothing else is asked.

A voxel loss is a function and a named trainer; an adversarial loss is an objective with its numbers
and its companion, and a named trainer. All of them stand in this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from torch import Tensor, nn

import nnunet_liver_ext.trainers as package
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.losses.voxel_terms import NOT_COUNTED, VOXEL_TERMS, voxel_term
from nnunet_liver_ext.planning.configuration_memory import configuration_sizes, describe_training
from nnunet_liver_ext.planning.memory import trace_step
from nnunet_liver_ext.trainers.base import LiverTrainer
from nnunet_liver_ext.trainers.named.losses import ADVERSARIAL, SINGLE_INPUT
from nnunet_liver_ext.trainers.objectives import OBJECTIVES, Losses, ObjectiveSetup, VoxelLoss
from nnunet_liver_ext.trainers.objectives.adversaries import Adversarial
from nnunet_liver_ext.trainers.objectives.interface import ObjectiveNumbers, PhaseName
from nnunet_liver_ext.trainers.objectives.views import View
from nnunet_liver_ext.trainers.objectives.voxelwise import objective
from nnunet_liver_ext.trainers.ranges import Range
from tests.training import make_trainer, quietly, run_epochs, weights


def tversky_loss(
    logits: Tensor, labels: Tensor, *, false_positives: float = 0.3, false_negatives: float = 0.7
) -> Tensor:
    """1 − TP / (TP + α·FP + β·FN), the mean over foreground classes (Salehi et al. 2017)."""
    counts = (labels != NOT_COUNTED).float()
    probabilities = logits.float().softmax(1)[:, 1:] * counts
    classes = torch.arange(1, logits.shape[1], device=labels.device)
    truth = (labels == classes.view(1, -1, *[1] * (labels.ndim - 2))).float()
    axes = (0, *range(2, logits.ndim))
    hits = (probabilities * truth).sum(axes)
    wrong = (probabilities * (1 - truth)).sum(axes)
    missed = ((1 - probabilities) * truth).sum(axes)
    index = (hits + 1e-5) / (hits + false_positives * wrong + false_negatives * missed + 1e-5)
    return 1 - index.mean()


@dataclass(frozen=True, kw_only=True)
class HingeNumbers(ObjectiveNumbers):
    """Numbers of `Hinge`."""

    hinge_weight: Annotated[float, Range(0, 10)] = 1.0
    """Weight of the critic's opinion in the segmentor's loss."""
    critic_features: Annotated[int, Range(1, 64)] = 4
    """Feature maps of the critic."""


class Hinge(Adversarial):
    """A critic of masks with the hinge loss (Lim and Ye 2017)."""

    numbers_type = HingeNumbers
    numbers: HingeNumbers

    def __init__(self, setup: ObjectiveSetup, voxel_loss: VoxelLoss) -> None:
        super().__init__(setup, voxel_loss)
        features = self.numbers.critic_features
        self.companion = nn.Sequential(
            nn.Conv3d(setup.num_classes - 1, features, 3, stride=2),
            nn.LeakyReLU(0.2),
            nn.Conv3d(features, 1, 3, stride=2),
        )

    def critic(self, views: Sequence[View]) -> Tensor:
        return self.companion(torch.cat([view.prediction() for view in views]))

    def adversarial_term(self, views: Sequence[View]) -> tuple[str, float, Tensor]:
        return "critic", self.numbers.hinge_weight, -self.critic(views).mean()

    def companion_loss(self, views: Sequence[View], phase: PhaseName) -> Losses:
        annotations = torch.cat([view.annotation(self.setup.num_classes) for view in views])
        loss = (1 - self.companion(annotations)).relu().mean() + (
            1 + self.critic(views)
        ).relu().mean()
        return Losses(loss, {"hinge": loss})


@pytest.fixture(autouse=True)
def _new_losses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Enters both losses and their trainers, and takes them out again."""
    voxel_term("Tversky")(tversky_loss)
    objective("hinge")(Hinge)

    class nnUNetTrainerTversky(LiverTrainer):
        """Tversky and cross-entropy."""

        recipe = replace(SINGLE_INPUT, voxel_terms={"tversky": 1.0, "ce": 0.5})

    class nnUNetTrainerHinge(LiverTrainer):
        """Cross-entropy against a critic."""

        recipe = replace(ADVERSARIAL, objective="hinge", objective_options={"hinge_weight": 0.25})

    trainers = (nnUNetTrainerTversky, nnUNetTrainerHinge)
    for trainer in trainers:
        monkeypatch.setattr(package, trainer.__name__, trainer, raising=False)
    names = [trainer.__name__ for trainer in trainers]
    monkeypatch.setattr(package, "__all__", [*package.__all__, *names])
    yield
    del VOXEL_TERMS["tversky"], OBJECTIVES["hinge"]


def train_two_steps(root: Path, results: Path, name: str, **numbers: Any) -> Any:
    trainer = make_trainer(root, results, name, num_iterations_per_epoch=2, **numbers)
    quietly(trainer.initialize)
    before = weights(trainer)
    run_epochs(trainer, 1)
    after = weights(trainer)
    assert any(not torch.equal(value, after[key]) for key, value in before.items())
    return trainer


@pytest.mark.parametrize(("hits", "expected"), [(4, 0.0), (2, 1 - 2 / (2 + 0.7 * 2)), (0, 1.0)])
def test_tversky(hits: int, expected: float):
    labels = torch.zeros(1, 1, 1, 2, 4)
    labels[..., 0, :] = 1
    labels[..., 1, 3] = NOT_COUNTED
    foreground = torch.full((1, 1, 1, 2, 4), -50.0)
    foreground[..., 0, :hits] = 50.0
    foreground[..., 1, 3] = 50.0
    logits = torch.cat([torch.zeros_like(foreground), foreground], 1)
    assert tversky_loss(logits, labels).item() == pytest.approx(expected, abs=1e-4)


def test_a_voxel_loss_trains(nnunet_root: Path, tmp_path: Path):
    trainer = train_two_steps(nnunet_root, tmp_path, "nnUNetTrainerTversky", tversky_weight=2)
    assert trainer.loss.weights == {"CE": 0.5, "Tversky": 2}
    assert trainer.recipe.to_json()["tversky_weight"] == 2
    terms = {name for name in trainer.history if name.startswith("training loss: ")}
    assert terms == {
        f"training loss: {term} {image}" for term in ("CE", "Tversky") for image in ("T1", "T2")
    }


def test_its_weight_can_be_set_for_other_trainers_too(nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerGAN", tversky_weight=0.5)
    assert trainer.recipe.voxel_terms == {"ce": 1.0, "tversky": 0.5}
    with pytest.raises(InputError, match=r"tversky_weight must lie in \[0, 1e\+09\], found -1"):
        make_trainer(nnunet_root, tmp_path, "nnUNetTrainerGAN", tversky_weight=-1)


def test_a_voxel_loss_that_knows_no_regions_says_so(nnunet_root: Path, tmp_path: Path):
    from tests.training import find_trainer, read_inputs

    plans, dataset_json = read_inputs(nnunet_root, "nnUNetTrainerLiver", tversky_weight=1)
    dataset_json["labels"] = {"background": 0, "liver": [1, 2], "tumour": 2}
    with pytest.raises(InputError, match="its voxel loss Tversky does not know the regions"):
        find_trainer("nnUNetTrainerLiver")(
            plans, "3d_fullres", 0, dataset_json, torch.device("cpu")
        )


def test_an_adversarial_loss_trains(nnunet_root: Path, tmp_path: Path):
    numbers: dict[str, float] = {"warmup_epochs": 0, "hinge_weight": 0.5, "critic_features": 2}
    trainer = train_two_steps(nnunet_root, tmp_path, "nnUNetTrainerHinge", **numbers)
    assert trainer.objective.companion[0].out_channels == 2
    assert trainer.recipe.to_json()["hinge_weight"] == 0.5
    assert {"training loss: critic", "training loss: hinge"} <= set(trainer.history)
    numbers["num_iterations_per_epoch"] = 2
    second = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerHinge", **numbers)
    quietly(second.load_checkpoint, str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
    assert second.recipe.to_json() == trainer.recipe.to_json()


@pytest.mark.parametrize("name", ["nnUNetTrainerGAN", "nnUNetTrainerTversky"])
def test_its_numbers_are_refused_for_other_trainers(name: str, nnunet_root: Path, tmp_path: Path):
    with pytest.raises(InputError, match="hinge_weight is a number of objective hinge; this"):
        make_trainer(nnunet_root, tmp_path, name, hinge_weight=0.5)
    with pytest.raises(InputError, match="betting_weight is a number of objective gambling; this"):
        make_trainer(nnunet_root, tmp_path, "nnUNetTrainerHinge", betting_weight=0.5)


def test_its_range_holds(nnunet_root: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"hinge_weight must lie in \[0, 10\], found 11"):
        make_trainer(nnunet_root, tmp_path, "nnUNetTrainerHinge", hinge_weight=11)


def test_memory_counts_them(nnunet_root: Path, tmp_path: Path):
    def trace(name: str, **numbers: Any) -> Any:
        trainer = make_trainer(nnunet_root, tmp_path, name, **numbers)
        training = describe_training(trainer.dataset_json, trainer.recipe)
        return trace_step(training, configuration_sizes(trainer.plans_manager.plans, "3d_fullres"))

    plain = trace("nnUNetTrainerBCE")
    assert trace("nnUNetTrainerTversky").kept > plain.kept
    hinge = trace("nnUNetTrainerHinge", critic_features=2)
    assert hinge.companion_parameters == (27 + 1) * 2 + (27 * 2 + 1)
    assert hinge.segmentor_parameters == plain.segmentor_parameters
    assert hinge.kept > plain.kept
