"""What a reader is told a measured object is called."""

from __future__ import annotations

from nnunet_liver_ext.evaluation.files.find_label_maps import NO_MODALITY


def label(modality: str, class_name: str) -> str:
    """ "T1 liver", "T1 label 2" for a class without a name, the class alone without modality."""
    class_name = f"label {class_name}" if class_name.isdecimal() else class_name
    return class_name if modality == NO_MODALITY else f"{modality} {class_name}"
