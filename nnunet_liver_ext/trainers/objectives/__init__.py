"""What the segmentor is trained on; `OBJECTIVES` has every objective by its key in a recipe."""

from nnunet_liver_ext.trainers.objectives.adversaries import GAN, Embedding, Gambling
from nnunet_liver_ext.trainers.objectives.cooperation import (
    Similarity,
    SimilarityAffine,
    SimilarityRigid,
    SimilarityTranslation,
)
from nnunet_liver_ext.trainers.objectives.interface import Losses, Objective, Task, task_of
from nnunet_liver_ext.trainers.objectives.views import View, finest_level, make_views
from nnunet_liver_ext.trainers.objectives.voxelwise import VoxelLoss, Voxelwise

OBJECTIVES: dict[str, type[Voxelwise]] = {
    "dice_ce": Voxelwise,
    "gan": GAN,
    "embedding": Embedding,
    "gambling": Gambling,
    "similarity_elastic": Similarity,
    "similarity_translation": SimilarityTranslation,
    "similarity_rigid": SimilarityRigid,
    "similarity_affine": SimilarityAffine,
}

__all__ = [
    "OBJECTIVES",
    "Losses",
    "Objective",
    "Task",
    "View",
    "VoxelLoss",
    "Voxelwise",
    "finest_level",
    "make_views",
    "task_of",
]
