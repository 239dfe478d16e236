"""Objectives with an adversary: GAN, embedding and gambling loss (Couteaux et al. 2021, section
3.3, losses 4-6).

All images of a batch meet the same adversary, which is trained on detached predictions; while the
segmentor is trained, the trainer freezes the adversary. The paper gives neither architectures nor
learning rates: see docs/objectives.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.losses import adversarial, gambling
from nnunet_liver_ext.networks.companions import (
    Discriminator,
    build_gambler,
    num_discriminator_layers,
)
from nnunet_liver_ext.trainers.objectives.interface import Losses, Task
from nnunet_liver_ext.trainers.objectives.views import View, finest_level
from nnunet_liver_ext.trainers.objectives.voxelwise import VoxelLoss, Voxelwise
from nnunet_liver_ext.trainers.phases import SEGMENTOR, PhaseName
from nnunet_liver_ext.trainers.recipe import Recipe


class Adversarial(Voxelwise):
    """Voxel loss plus a weighted term from the adversary, which is silent in the warm-up."""

    has_companion = True
    companion: nn.Module
    warmup_share = 0.5

    def segmentor_loss(self, views: Sequence[View], phase: PhaseName) -> Losses:
        losses = self.voxelwise(views)
        if phase == SEGMENTOR:
            return losses
        name, weight, term = self.adversarial_term(views)
        return Losses(losses.total + weight * term, {**losses.terms, name: term})

    def adversarial_term(self, views: Sequence[View]) -> tuple[str, float, Tensor]:
        """(name, weight, unweighted term) for the segmentor."""
        raise NotImplementedError


class GAN(Adversarial):
    """BCE(D(ŝ), 1) beside the voxel loss; D learns to tell annotations (1) from predictions (0)."""

    companion: Discriminator

    def __init__(self, task: Task, voxel_loss: VoxelLoss) -> None:
        super().__init__(task, voxel_loss)
        spectral = task.recipe.spectral_norm
        geometry = {"patch_size": task.patch_size, "spacing_mm": task.spacing_mm}
        self.companion = Discriminator(task.num_classes - 1, **geometry, spectral=spectral)  # type: ignore[arg-type]

    def describe(self) -> str:
        return f"discriminator of masks with {len(self.companion.layers)} layers"

    def adversarial_term(self, views: Sequence[View]) -> tuple[str, float, Tensor]:
        term = adversarial.deception_loss(self.companion(_predictions(views)))
        return "deceiving the discriminator", self.task.recipe.adversarial_weight, term

    def companion_loss(self, views: Sequence[View], phase: PhaseName) -> Losses:
        annotations = _annotations(views, self.task.num_classes)
        penalised = self.task.recipe.gradient_penalty > 0 and torch.is_grad_enabled()
        of_annotations = self.companion(annotations.requires_grad_(penalised))
        of_predictions = self.companion(_predictions(views))
        terms = {"discriminator": adversarial.discriminator_loss(of_annotations, of_predictions)}
        total = terms["discriminator"]
        if penalised:
            terms["gradient penalty"] = adversarial.gradient_penalty(of_annotations, annotations)
            total = total + self.task.recipe.gradient_penalty * terms["gradient penalty"]
        figures = {
            "discriminator accuracy: annotations": adversarial.accuracy(
                of_annotations, annotations=True
            ),
            "discriminator accuracy: predictions": adversarial.accuracy(
                of_predictions, annotations=False
            ),
        }
        return Losses(total, terms, figures)


class Embedding(GAN):
    """Mean of (D_k(ŝ) − D_k(y))² beside the voxel loss; the discriminator is trained as in
    `GAN`."""

    def __init__(self, task: Task, voxel_loss: VoxelLoss) -> None:
        super().__init__(task, voxel_loss)
        self.layer = task.recipe.embedding_layer or len(self.companion.layers)

    @classmethod
    def check(cls, recipe: Recipe, patch_size: Sequence[int], spacing_mm: Sequence[float]) -> None:
        layers = num_discriminator_layers(patch_size, spacing_mm)
        if recipe.embedding_layer is not None and recipe.embedding_layer > layers:
            raise InputError(
                f"recipe: embedding_layer is {recipe.embedding_layer}, but the discriminator of"
                f" patches of {' x '.join(map(str, patch_size))} voxels has {layers} layers."
            )

    def adversarial_term(self, views: Sequence[View]) -> tuple[str, float, Tensor]:
        masks = torch.cat([_predictions(views), _annotations(views, self.task.num_classes)])
        predictions, annotations = self.companion.features(masks, self.layer).chunk(2)
        term = adversarial.embedding_loss(predictions, annotations.detach())
        return "embedding", self.task.recipe.embedding_weight, term


class Gambling(Adversarial):
    """λ · mean(G · cross-entropy) beside the voxel loss; the gambler G bets on the voxels that the
    segmentor gets wrong."""

    def __init__(self, task: Task, voxel_loss: VoxelLoss) -> None:
        super().__init__(task, voxel_loss)
        channels = task.image_channels + task.num_classes - 1
        self.companion = build_gambler(
            channels, patch_size=task.patch_size, spacing_mm=task.spacing_mm
        )

    def describe(self) -> str:
        return "gambler, a small U-Net on image and probabilities"

    def bets(self, views: Sequence[View]) -> Tensor:
        """Betting map of all views, (views · B, ...), without a graph into the segmentor."""
        seen = torch.cat(
            [
                torch.cat([view.image, view.prediction().detach().to(view.image.dtype)], 1)
                for view in views
            ]
        )
        return gambling.betting_map(self.companion(seen), self.task.recipe.budget_floor)

    def adversarial_term(self, views: Sequence[View]) -> tuple[str, float, Tensor]:
        with torch.no_grad():
            bets = self.bets(views)
        return "bets", self.task.recipe.betting_weight, gambling.winnings(bets, _errors(views))

    def companion_loss(self, views: Sequence[View], phase: PhaseName) -> Losses:
        bets, errors = self.bets(views), _errors(views)
        wrong = torch.cat(
            [finest_level(view.logits).argmax(1) != view.labels[:, 0] for view in views]
        )
        group = "share on wrong voxels"
        figures = {
            f"{group}: of the gambler's bets": gambling.share_of_bets(bets.detach(), wrong),
            f"{group}: of even bets": gambling.share_of_bets(torch.ones_like(bets), wrong),
        }
        winnings = gambling.winnings(bets, errors)
        return Losses(-winnings, {"gambler": -winnings}, figures)


def _predictions(views: Sequence[View]) -> Tensor:
    return torch.cat([view.prediction() for view in views])


def _annotations(views: Sequence[View], num_classes: int) -> Tensor:
    return torch.cat([view.annotation(num_classes) for view in views])


def _errors(views: Sequence[View]) -> Tensor:
    return torch.cat(
        [gambling.voxel_errors(finest_level(view.logits), view.labels) for view in views]
    )
