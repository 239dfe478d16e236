"""Liver segmentation in paired but unregistered T1/T2 MRI, as an extension of nnU-Net v2.

Research use only. `import nnunet_liver_ext as nle` loads nothing else: each name of `__all__` is
imported from its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunet_liver_ext.dataset_conversion.phantom import make_pair
    from nnunet_liver_ext.evaluation.evaluate import evaluate
    from nnunet_liver_ext.evaluation.lesions import detection_scores, match_lesions
    from nnunet_liver_ext.evaluation.metrics import (
        average_surface_distance,
        dice,
        hausdorff_distance,
        surface_dice,
        volume_ml,
    )
    from nnunet_liver_ext.evaluation.raters import uncertainty_aware_score
    from nnunet_liver_ext.evaluation.similarity import relative_similarity
    from nnunet_liver_ext.evaluation.statistics import compare_paired
    from nnunet_liver_ext.inference.load_model import load_model
    from nnunet_liver_ext.inference.study_prediction import predict_study
    from nnunet_liver_ext.pairing import decode_pair, encode_pair

__version__ = "0.1.0"

__all__ = [
    "average_surface_distance",
    "compare_paired",
    "decode_pair",
    "detection_scores",
    "dice",
    "encode_pair",
    "evaluate",
    "hausdorff_distance",
    "load_model",
    "make_pair",
    "match_lesions",
    "predict_study",
    "relative_similarity",
    "surface_dice",
    "uncertainty_aware_score",
    "volume_ml",
]

_MODULES = {
    "dataset_conversion.phantom": ("make_pair",),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.lesions": ("detection_scores", "match_lesions"),
    "evaluation.metrics": (
        "average_surface_distance",
        "dice",
        "hausdorff_distance",
        "surface_dice",
        "volume_ml",
    ),
    "evaluation.raters": ("uncertainty_aware_score",),
    "evaluation.similarity": ("relative_similarity",),
    "evaluation.statistics": ("compare_paired",),
    "inference.load_model": ("load_model",),
    "inference.study_prediction": ("predict_study",),
    "pairing": ("decode_pair", "encode_pair"),
}
"""Where each public name is defined."""


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562)."""
    for module, names in _MODULES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
