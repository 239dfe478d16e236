"""Every trainer by its name; what nnU-Net finds through `plugin/`."""

from nnunet_liver_ext.trainers.named.cooperating_networks import (
    nnUNetTrainerSimilarity,
    nnUNetTrainerSimilarityAffine,
    nnUNetTrainerSimilarityRigid,
    nnUNetTrainerSimilarityTranslation,
)
from nnunet_liver_ext.trainers.named.input_strategies import (
    nnUNetTrainerDualInput,
    nnUNetTrainerDualInputSpecialized,
    nnUNetTrainerDualOutput,
    nnUNetTrainerDualOutputSpecialized,
    nnUNetTrainerPreregistered,
    nnUNetTrainerSingleInput,
    nnUNetTrainerSingleInputSpecialized,
)
from nnunet_liver_ext.trainers.named.losses import (
    nnUNetTrainerBCE,
    nnUNetTrainerDice,
    nnUNetTrainerDiceBCE,
    nnUNetTrainerEmbedding,
    nnUNetTrainerGambling,
    nnUNetTrainerGAN,
)
from nnunet_liver_ext.trainers.named.single_images import (
    nnUNetTrainerDI2IN,
    nnUNetTrainerDI2INAN,
    nnUNetTrainerLiver,
    nnUNetTrainerLiverTumor,
)

__all__ = [
    "nnUNetTrainerBCE",
    "nnUNetTrainerDI2IN",
    "nnUNetTrainerDI2INAN",
    "nnUNetTrainerDice",
    "nnUNetTrainerDiceBCE",
    "nnUNetTrainerDualInput",
    "nnUNetTrainerDualInputSpecialized",
    "nnUNetTrainerDualOutput",
    "nnUNetTrainerDualOutputSpecialized",
    "nnUNetTrainerEmbedding",
    "nnUNetTrainerGAN",
    "nnUNetTrainerGambling",
    "nnUNetTrainerLiver",
    "nnUNetTrainerLiverTumor",
    "nnUNetTrainerPreregistered",
    "nnUNetTrainerSimilarity",
    "nnUNetTrainerSimilarityAffine",
    "nnUNetTrainerSimilarityRigid",
    "nnUNetTrainerSimilarityTranslation",
    "nnUNetTrainerSingleInput",
    "nnUNetTrainerSingleInputSpecialized",
]
