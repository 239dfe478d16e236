"""Segmentor and registor that cooperate for similar masks, for each class of transforms.

(Couteaux et al. 2021, "Cooperating networks".) T1, the easy modality, is image 1.
"""

from __future__ import annotations

from dataclasses import replace

from nnunet_liver_ext.trainers.base import LiverTrainer
from nnunet_liver_ext.trainers.recipe import Recipe

DUAL_OUTPUT = Recipe(strategy="dual_output_specialized", voxel_terms={"ce": 1.0})


class nnUNetTrainerSimilarity(LiverTrainer):
    """Elastic: a displacement for each block of 16 voxels, the paper's choice for the liver."""

    recipe = replace(DUAL_OUTPUT, objective="similarity_elastic")


class nnUNetTrainerSimilarityTranslation(LiverTrainer):
    """Translations, the paper's choice for its toy data."""

    recipe = replace(
        DUAL_OUTPUT, objective="similarity_translation", objective_options={"registor_gate": 0.95}
    )


class nnUNetTrainerSimilarityRigid(LiverTrainer):
    """Rotations and translations, for what does not change its shape."""

    recipe = replace(DUAL_OUTPUT, objective="similarity_rigid")


class nnUNetTrainerSimilarityAffine(LiverTrainer):
    """Affine maps."""

    recipe = replace(DUAL_OUTPUT, objective="similarity_affine")
