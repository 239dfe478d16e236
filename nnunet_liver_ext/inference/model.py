"""A trained model in memory, and what its dataset.json says of its inputs and its masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nnunet_liver_ext import __version__
from nnunet_liver_ext.dataset_json.conversion import Conversion
from nnunet_liver_ext.networks.registor import Registor
from nnunet_liver_ext.networks.strategies import STRATEGIES
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.postprocessing.largest_piece import NO_RULES, Rules
from nnunet_liver_ext.trainers.predictor import LiverPredictor

RESTRICTED = "lesions inside the organ mask, opened at its border"
"""In prediction.json, see `postprocessing.border_lesions`."""


@dataclass(frozen=True)
class Model:
    """A loaded model and what its dataset.json says of its inputs."""

    predictor: LiverPredictor
    dataset_json: dict[str, Any]
    trainer: str
    configuration: str
    checkpoint: str
    folds: tuple[str, ...]
    strategy: str
    weights: str
    """SHA-256 of the checkpoints."""
    tile_step: float
    mirroring: bool
    registors: tuple[Registor, ...] = ()
    """One for each fold if they were asked for; predictions then come with deformations."""
    rules: Rules = NO_RULES
    """Of which classes only the largest piece is kept, see `evaluation.postprocessing`."""
    postprocessing: bool = True

    def describe(self) -> dict[str, Any]:
        """What predictions of this model can be told by; without folders of this machine."""
        return {
            "nnunet_liver_ext": __version__,
            "trainer": self.trainer,
            "configuration": self.configuration,
            "checkpoint": self.checkpoint,
            "folds": list(self.folds),
            "weights_sha256": self.weights,
            "tile_step": self.tile_step,
            "mirroring": self.mirroring,
            "postprocessing": [
                *self.rules.names(),
                *([RESTRICTED] if self.restricts_lesions else []),
            ],
            "note": "Research use only.",
        }

    @property
    def pair(self) -> PairLabels | None:
        return PairLabels.from_dataset_json(self.dataset_json)

    @cached_property
    def conversion(self) -> Conversion:
        """How images become the model's input."""
        return Conversion.from_dataset_json(self.dataset_json)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of image 1 and image 2 of a pair, or of the channels of an image."""
        return self.conversion.modalities

    @property
    def segmented(self) -> tuple[str, ...]:
        """Names of the images that get a mask; channels of one image share that of the first."""
        return {
            "pairs": self.modalities,
            "preregistered": self.modalities[1:],
            "images": self.modalities[:1],
        }[self.conversion.layout]

    @property
    def restricts_lesions(self) -> bool:
        """Whether lesions outside the organ, and thin ones at its border, are removed.

        Hänsch et al. 2022, see `postprocessing.border_lesions`.
        """
        return self.conversion.organ is not None and self.postprocessing

    @property
    def takes_lone_images(self) -> bool:
        return self.strategy in STRATEGIES and STRATEGIES[self.strategy].takes_lone_images

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of one image, background first."""
        if self.pair is not None:
            return self.pair.classes
        labels = {
            name: label for name, label in self.dataset_json["labels"].items() if name != "ignore"
        }
        return tuple(sorted(labels, key=lambda name: labels[name]))
