"""Every trainer by its name; what nnU-Net finds through `plugin/`."""

from nnunet_liver_ext.trainers.input_strategies import (
    nnUNetTrainerDualInput,
    nnUNetTrainerDualInputSpecialized,
    nnUNetTrainerDualOutput,
    nnUNetTrainerDualOutputSpecialized,
    nnUNetTrainerPreregistered,
    nnUNetTrainerSingleInput,
    nnUNetTrainerSingleInputSpecialized,
)

__all__ = [
    "nnUNetTrainerDualInput",
    "nnUNetTrainerDualInputSpecialized",
    "nnUNetTrainerDualOutput",
    "nnUNetTrainerDualOutputSpecialized",
    "nnUNetTrainerPreregistered",
    "nnUNetTrainerSingleInput",
    "nnUNetTrainerSingleInputSpecialized",
]
