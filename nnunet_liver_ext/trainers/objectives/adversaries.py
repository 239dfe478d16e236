"""Objectives with an adversary: GAN, embedding and gambling loss.

(Couteaux et al. 2021, section 3.3, losses 4-6.)

All images of a batch meet the same adversary, which is trained on detached predictions; while the
segmentor is trained, the trainer freezes the adversary. The paper gives neither architectures nor
learning rates: see docs/objectives.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.losses import adversarial, gambling
from nnunet_liver_ext.networks.companions import (
    Discriminator,
    build_gambler,
    num_discriminator_layers,
)
from nnunet_liver_ext.trainers.objectives.interface import (
    SEGMENTOR,
    Losses,
    ObjectiveNumbers,
    ObjectiveSetup,
    PhaseName,
)
from nnunet_liver_ext.trainers.objectives.views import View, finest_level
from nnunet_liver_ext.trainers.objectives.voxelwise import VoxelLoss, Voxelwise, objective
from nnunet_liver_ext.trainers.ranges import Range


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


@dataclass(frozen=True, kw_only=True)
class DiscriminatorNumbers(ObjectiveNumbers):
    """Numbers of objectives with a discriminator."""

    spectral_norm: bool = False
    """Whether spectral normalisation bounds the discriminator's layers."""
    gradient_penalty: Annotated[float, Range(0, 1e9)] = 0.0
    """Weight of the discriminator's squared gradient at annotations (R1); 0: none."""


class AgainstDiscriminator(Adversarial):
    """A discriminator D of masks learns to tell annotations (1) from predictions (0)."""

    companion: Discriminator
    numbers: DiscriminatorNumbers

    def __init__(self, setup: ObjectiveSetup, voxel_loss: VoxelLoss) -> None:
        super().__init__(setup, voxel_loss)
        self.companion = Discriminator(
            setup.num_classes - 1,
            patch_size=setup.patch_size,
            spacing_mm=setup.spacing_mm,
            spectral=self.numbers.spectral_norm,
        )

    @property
    def companion_compiles(self) -> bool:
        """Not with a gradient penalty or a spectral norm.

        Compiled code has no second derivative, and spectral norm updates its vectors within the
        forward pass.
        """
        return self.numbers.gradient_penalty == 0 and not self.numbers.spectral_norm

    def describe(self) -> str:
        return f"discriminator of masks with {len(self.companion.layers)} layers"

    def companion_loss(self, views: Sequence[View], phase: PhaseName) -> Losses:
        annotations = _annotations(views, self.setup.num_classes)
        penalised = self.numbers.gradient_penalty > 0 and torch.is_grad_enabled()
        of_annotations = self.companion(annotations.requires_grad_(penalised))
        of_predictions = self.companion(_predictions(views))
        terms = {"discriminator": adversarial.discriminator_loss(of_annotations, of_predictions)}
        total = terms["discriminator"]
        if penalised:
            terms["gradient penalty"] = adversarial.gradient_penalty(of_annotations, annotations)
            total = total + self.numbers.gradient_penalty * terms["gradient penalty"]
        group, accuracy = "discriminator accuracy", adversarial.accuracy
        figures = {
            f"{group}: annotations": accuracy(of_annotations, annotations=True),
            f"{group}: predictions": accuracy(of_predictions, annotations=False),
        }
        return Losses(total, terms, figures)


@dataclass(frozen=True, kw_only=True)
class GANNumbers(DiscriminatorNumbers):
    """Numbers of `GAN`."""

    adversarial_weight: Annotated[float, Range(0, 1e9)] = 1.0
    """Weight of the term with which the segmentor deceives the discriminator."""


@objective("gan")
class GAN(AgainstDiscriminator):
    """BCE(D(ŝ), 1) beside the voxel loss."""

    numbers_type = GANNumbers
    numbers: GANNumbers

    def adversarial_term(self, views: Sequence[View]) -> tuple[str, float, Tensor]:
        term = adversarial.deception_loss(self.companion(_predictions(views)))
        return "deceiving the discriminator", self.numbers.adversarial_weight, term


@dataclass(frozen=True, kw_only=True)
class EmbeddingNumbers(DiscriminatorNumbers):
    """Numbers of `Embedding`."""

    embedding_weight: Annotated[float, Range(0, 1e9)] = 1.0
    """Weight of the embedding loss."""
    embedding_layer: Annotated[int | None, Range(1, 1e3)] = None
    """D_k: the layer of the discriminator that the embedding loss compares, 1 is the first; None:
    the deepest."""


@objective("embedding")
class Embedding(AgainstDiscriminator):
    """Mean of (D_k(ŝ) − D_k(y))² beside the voxel loss."""

    numbers_type = EmbeddingNumbers
    numbers: EmbeddingNumbers

    def __init__(self, setup: ObjectiveSetup, voxel_loss: VoxelLoss) -> None:
        super().__init__(setup, voxel_loss)
        self.layer = self.numbers.embedding_layer or len(self.companion.layers)

    @classmethod
    def check(cls, numbers: Any, patch_size: Sequence[int], spacing_mm: Sequence[float]) -> None:
        layers = num_discriminator_layers(patch_size, spacing_mm)
        if numbers.embedding_layer is not None and numbers.embedding_layer > layers:
            raise InputError(
                f"recipe: embedding_layer is {numbers.embedding_layer}, but the discriminator of"
                f" patches of {' x '.join(map(str, patch_size))} voxels has {layers} layers."
            )

    def adversarial_term(self, views: Sequence[View]) -> tuple[str, float, Tensor]:
        masks = torch.cat([_predictions(views), _annotations(views, self.setup.num_classes)])
        predictions, annotations = self.companion.features(masks, self.layer).chunk(2)
        term = adversarial.embedding_loss(predictions, annotations.detach())
        return "embedding", self.numbers.embedding_weight, term


@dataclass(frozen=True, kw_only=True)
class GamblingNumbers(ObjectiveNumbers):
    """Numbers of `Gambling`."""

    betting_weight: Annotated[float, Range(0, 1e9)] = 1.0
    """λ of the bets in the segmentor's loss."""
    budget_floor: Annotated[float, Range(1e-6, 1)] = 0.02
    """What the gambler bets on every voxel, before its bets are normalised."""


@objective("gambling")
class Gambling(Adversarial):
    """λ · mean(G · cross-entropy) beside the voxel loss; the gambler G bets on wrong voxels."""

    numbers_type = GamblingNumbers
    numbers: GamblingNumbers

    def __init__(self, setup: ObjectiveSetup, voxel_loss: VoxelLoss) -> None:
        super().__init__(setup, voxel_loss)
        channels = setup.image_channels + setup.num_classes - 1
        self.companion = build_gambler(
            channels, patch_size=setup.patch_size, spacing_mm=setup.spacing_mm
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
        return gambling.betting_map(self.companion(seen), self.numbers.budget_floor)

    def adversarial_term(self, views: Sequence[View]) -> tuple[str, float, Tensor]:
        with torch.no_grad():
            bets = self.bets(views)
        return "bets", self.numbers.betting_weight, gambling.winnings(bets, _errors(views))

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
