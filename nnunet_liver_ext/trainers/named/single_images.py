"""Trainers for ordinary datasets: one image (of one or several channels), one mask."""

from __future__ import annotations

from dataclasses import replace

from nnunet_liver_ext.trainers.base import LiverTrainer
from nnunet_liver_ext.trainers.recipe import Recipe

ONE_VIEW = Recipe(strategy="one_view")
DI2IN = replace(
    ONE_VIEW,
    architecture="DI2IN",
    voxel_terms={"ce": 1.0},
    num_epochs=200,
    initial_lr=1e-2,
    lr_exponent=0.0,
    lr_drop_epoch=100,
    momentum=0.0,
    weight_decay=0.0,
)
"""Yang et al. 2017, section 3: SGD 0.01, a tenth after half of 200 "iterations", which are epochs
here."""


class nnUNetTrainerLiver(LiverTrainer):
    """One image, one mask, any network, nnU-Net's numbers unless protocol or plans say others."""

    recipe = ONE_VIEW


class nnUNetTrainerDI2IN(LiverTrainer):
    """The cross-entropies of three branches and the output (Yang et al. 2017, section 2.1)."""

    recipe = DI2IN


class nnUNetTrainerDI2INAN(LiverTrainer):
    """DI2IN, then 100 epochs against a discriminator of masks (section 2.2).

    k_D is 10 of batch 8, k_G 1, λ 0.01.
    """

    recipe = replace(
        DI2IN,
        objective="gan",
        objective_options={"adversarial_weight": 0.01},
        num_epochs=300,
        warmup_epochs=200,
        companion_epochs=0,
        joint_lr=1e-3,
        companion_lr=2e-4,
        companion_momentum=0.5,
        companion_steps=10,
        companion_batch_size=8,
    )


class nnUNetTrainerLiverTumor(LiverTrainer):
    """Tumours by soft Dice inside the dilated liver (Hänsch et al. 2022, Methods).

    The liver mask is no input.
    """

    recipe = Recipe(
        strategy="image_alone",
        voxel_terms={"dice": 1.0},
        foreground_share=0.9,
        organ_dilation_mm=10.0,
    )
