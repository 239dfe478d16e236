"""Every trainer by its name; what nnU-Net finds through `plugin/`."""

from nnunet_liver_ext.trainers.cooperation import (
    nnUNetTrainerSimilarity,
    nnUNetTrainerSimilarityAffine,
    nnUNetTrainerSimilarityRigid,
    nnUNetTrainerSimilarityTranslation,
)
from nnunet_liver_ext.trainers.input_strategies import (
    nnUNetTrainerDualInput,
    nnUNetTrainerDualInputSpecialized,
    nnUNetTrainerDualOutput,
    nnUNetTrainerDualOutputSpecialized,
    nnUNetTrainerPreregistered,
    nnUNetTrainerSingleInput,
    nnUNetTrainerSingleInputSpecialized,
)
from nnunet_liver_ext.trainers.losses import (
    nnUNetTrainerBCE,
    nnUNetTrainerDice,
    nnUNetTrainerDiceBCE,
    nnUNetTrainerEmbedding,
    nnUNetTrainerGambling,
    nnUNetTrainerGAN,
)

__all__ = [
    "nnUNetTrainerBCE",
    "nnUNetTrainerDice",
    "nnUNetTrainerDiceBCE",
    "nnUNetTrainerDualInput",
    "nnUNetTrainerDualInputSpecialized",
    "nnUNetTrainerDualOutput",
    "nnUNetTrainerDualOutputSpecialized",
    "nnUNetTrainerEmbedding",
    "nnUNetTrainerGAN",
    "nnUNetTrainerGambling",
    "nnUNetTrainerPreregistered",
    "nnUNetTrainerSimilarity",
    "nnUNetTrainerSimilarityAffine",
    "nnUNetTrainerSimilarityRigid",
    "nnUNetTrainerSimilarityTranslation",
    "nnUNetTrainerSingleInput",
    "nnUNetTrainerSingleInputSpecialized",
]
