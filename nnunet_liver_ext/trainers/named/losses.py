"""The six losses of Couteaux et al. 2021 ("Comparing ... strategies", 3.3, table 4).

All on the single-input, unspecialized strategy. The adversarial three need a trained segmentor:
their first half is a warm-up on the voxel loss, or `segmentor_checkpoint` in the recipe names one.
docs/objectives.md has the formulas.
"""

from __future__ import annotations

from dataclasses import replace

from nnunet_liver_ext.trainers.base import LiverTrainer
from nnunet_liver_ext.trainers.recipe import Recipe

SINGLE_INPUT = Recipe(strategy="single_input")
CROSS_ENTROPY = replace(SINGLE_INPUT, voxel_terms={"ce": 1.0})
ADVERSARIAL = replace(CROSS_ENTROPY, joint_lr=1e-3, companion_lr=2e-4, companion_momentum=0.5)
"""Adam 2e-4 with first beta 0.5 for the adversary (Radford et al. 2016), a tenth of nnU-Net's
learning rate against it."""


class nnUNetTrainerBCE(LiverTrainer):
    """Cross-entropy, for two classes the binary one (loss 1)."""

    recipe = CROSS_ENTROPY


class nnUNetTrainerDice(LiverTrainer):
    """Soft Dice (loss 2)."""

    recipe = replace(SINGLE_INPUT, voxel_terms={"dice": 1.0})


class nnUNetTrainerDiceBCE(LiverTrainer):
    """The sum of both (loss 3), which is nnU-Net's own."""

    recipe = SINGLE_INPUT


class nnUNetTrainerGAN(LiverTrainer):
    """Cross-entropy, and a discriminator of masks to deceive (loss 4)."""

    recipe = replace(ADVERSARIAL, objective="gan")


class nnUNetTrainerEmbedding(LiverTrainer):
    """Cross-entropy, and the distance to the annotation in a discriminator's features (loss 5)."""

    recipe = replace(ADVERSARIAL, objective="embedding")


class nnUNetTrainerGambling(LiverTrainer):
    """Cross-entropy, and a gambler who bets on wrong voxels (loss 6; Samson et al. 2019)."""

    recipe = replace(ADVERSARIAL, objective="gambling")
