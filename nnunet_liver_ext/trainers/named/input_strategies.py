"""The seven strategies of Couteaux et al. 2021 ("Comparing deep learning strategies", table 1)."""

from __future__ import annotations

from nnunet_liver_ext.trainers.base import LiverTrainer
from nnunet_liver_ext.trainers.recipe import Recipe


class nnUNetTrainerSingleInput(LiverTrainer):
    """One network that segments T1 and T2 images alike, each alone.

    The paper's best (table 1), and the default choice.
    """

    recipe = Recipe(strategy="single_input")


class nnUNetTrainerSingleInputSpecialized(LiverTrainer):
    """A network for T1 and another for T2, each image alone."""

    recipe = Recipe(strategy="single_input_specialized")


class nnUNetTrainerDualInput(LiverTrainer):
    """One network that sees both images, in both orders, and segments the first."""

    recipe = Recipe(strategy="dual_input")


class nnUNetTrainerDualInputSpecialized(LiverTrainer):
    """A network that segments T1 with T2 beside it, and another for T2 with T1 beside it."""

    recipe = Recipe(strategy="dual_input_specialized")


class nnUNetTrainerDualOutput(LiverTrainer):
    """One network that sees both images in random order and segments both at once."""

    recipe = Recipe(strategy="dual_output")


class nnUNetTrainerDualOutputSpecialized(LiverTrainer):
    """One network that sees T1 and T2 in this order and segments both at once."""

    recipe = Recipe(strategy="dual_output_specialized")


class nnUNetTrainerPreregistered(LiverTrainer):
    """Segments T2 from T2 and the T1 that was warped onto it (`convert --preregister`)."""

    recipe = Recipe(strategy="one_view")
