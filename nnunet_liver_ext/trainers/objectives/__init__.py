"""What the segmentor is trained on; `OBJECTIVES` has every objective by its key in a recipe.

An objective enters itself by `@objective(KEY)`; its module has to be among those named here.
"""

from nnunet_liver_ext.trainers.objectives import adversaries, cooperation
from nnunet_liver_ext.trainers.objectives.interface import Losses, Objective, ObjectiveSetup
from nnunet_liver_ext.trainers.objectives.views import View, finest_level, make_views
from nnunet_liver_ext.trainers.objectives.voxelwise import OBJECTIVES, VoxelLoss, Voxelwise

__all__ = [
    "OBJECTIVES",
    "Losses",
    "Objective",
    "ObjectiveSetup",
    "View",
    "VoxelLoss",
    "Voxelwise",
    "adversaries",
    "cooperation",
    "finest_level",
    "make_views",
]
