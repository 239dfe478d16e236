"""Several models as one: the class probabilities of each image are averaged on its own grid.

Then the class is decided. So the models may have other strategies, configurations, plans and common
grids. nnUNetv2_ensemble averages the joint probabilities of a pair on one grid; these are no longer
a product of two images' probabilities after averaging.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext import __version__
from nnunet_liver_ext.dataset_json.conversion import Conversion
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.inference.model import RESTRICTED, Model
from nnunet_liver_ext.inference.native_grids import (
    ImagePrediction,
    PreparedStudy,
    check_images,
    decide,
    interpolate_probabilities,
    prepare_study,
)
from nnunet_liver_ext.space.images import Grid
from nnunet_liver_ext.studies.study import Study


@dataclass(frozen=True)
class Ensemble:
    """One or more models with the same images and classes; how they are ordered changes nothing.

    Each image's probabilities are the mean over the models that segment it: those of pre-registered
    pairs segment image 2 only.
    """

    models: tuple[Model, ...]

    @classmethod
    def of(cls, models: Model | Sequence[Model]) -> Ensemble:
        """The ensemble of these models.

        Raises:
            InputError: there is none, or they are of other images or classes.
        """
        given = (models,) if isinstance(models, Model) else tuple(models)
        if not given:
            raise InputError("an ensemble needs at least one model.")
        for model in given[1:]:
            _check_match(given[0], model)
        if len(given) > 1 and any(model.registors for model in given):
            raise InputError("a deformation is of one model: give a single one with --deformation.")
        return cls(tuple(sorted(given, key=_order)))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of a study's images: image 1 and image 2 of a pair, or the channels of an image."""
        return self.models[0].modalities

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of one image, background first."""
        return self.models[0].class_names

    @property
    def segmented(self) -> dict[str, int]:
        """How many models segment each image that gets a mask."""
        counts = {
            name: sum(name in model.segmented for model in self.models) for name in self.modalities
        }
        return {name: count for name, count in counts.items() if count}

    @property
    def is_of_single_images(self) -> bool:
        """Whether a study is one image (of one or more channels) rather than a pair."""
        return self.models[0].conversion.layout == "images"

    @property
    def organ(self) -> str | None:
        """Name of the organ mask that a study needs beside its images."""
        organs = {
            model.conversion.organ.name
            for model in self.models
            if model.conversion.organ is not None
        }
        return next(iter(organs), None)

    @property
    def restricts_lesions(self) -> bool:
        """Whether all models would have lesions restricted to the organ."""
        return all(model.restricts_lesions for model in self.models)

    def file_stems(self, study: Study) -> dict[str, str]:
        """Stem of each mask's file by image; the mask of a single image is named as the study."""
        return {
            name: study.name if self.is_of_single_images else f"{study.name}_{name}"
            for name in self.segmented
            if name in study.images
        }

    @property
    def registors(self) -> bool:
        """Whether there is a deformation; then there is one model."""
        return bool(self.models[0].registors)

    def kept(self, name: str) -> tuple[int, ...]:
        """Labels of which only the largest piece is kept in this image.

        All models that segment it have such a rule.
        """
        sets = [set(model.rules.kept(name)) for model in self.models if name in model.segmented]
        return tuple(sorted(set.intersection(*sets))) if sets else ()

    def describe(self) -> dict[str, Any]:
        """What predictions can be told by; without folders of this machine."""
        if len(self.models) == 1:
            return self.models[0].describe()
        of_all = ("nnunet_liver_ext", "postprocessing", "note")
        return {
            "nnunet_liver_ext": __version__,
            "ensemble": [
                {key: value for key, value in model.describe().items() if key not in of_all}
                | {"masks": list(model.segmented)}
                for model in self.models
            ],
            "averaged": self.segmented,
            "postprocessing": [
                *(
                    f"{name} {self.class_names[label]}"
                    for name in self.segmented
                    for label in self.kept(name)
                ),
                *([RESTRICTED] if self.restricts_lesions else []),
            ],
            "note": "Research use only.",
        }

    def prepare(self, images: Mapping[str, sitk.Image]) -> tuple[PreparedStudy, ...]:
        """A study on the common grid of each model; models that were converted alike share theirs.

        Raises:
            InputError: as `native_grids.prepare_study`, if any model cannot take this study.
        """
        for model in self.models:
            check_images(model, images)
        shared: dict[Conversion, PreparedStudy] = {}
        prepared = []
        for model in self.models:
            if model.conversion not in shared:
                shared[model.conversion] = prepare_study(model, images)
            prepared.append(shared[model.conversion])
        return tuple(prepared)


class Average:
    """The mean of each image's probabilities over models; one array for each image is in memory."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, int] = {}
        self._grids: dict[str, Grid] = {}

    def add(self, probabilities: Mapping[str, np.ndarray], prepared: PreparedStudy) -> None:
        """Takes one model's probabilities (K, z, y, x) on its common grid, by modality."""
        for name, grid in prepared.native.items():
            if name not in probabilities:
                continue
            native = interpolate_probabilities(probabilities[name], prepared.grid, grid)
            if name in self._sums:
                self._sums[name] += native
            else:
                self._sums[name] = native
            self._counts[name] = self._counts.get(name, 0) + 1
            self._grids[name] = grid

    def finish(self) -> dict[str, ImagePrediction]:
        """Masks and mean probabilities by modality name; ends the averaging."""
        means = {}
        for name in list(self._sums):
            mean = self._sums.pop(name)
            if self._counts[name] > 1:
                mean /= self._counts[name]
            means[name] = decide(mean, self._grids[name])
        return means


def _check_match(first: Model, other: Model) -> None:
    """InputError if two models are of other images or classes."""
    for what, first_names, other_names in (
        ("images", first.modalities, other.modalities),
        ("kinds of studies", (_kind(first),), (_kind(other),)),
        ("classes", first.class_names, other.class_names),
    ):
        if first_names != other_names:
            raise InputError(
                f"models of other {what} cannot be averaged: {first.trainer} has"
                f" {', '.join(first_names)}, {other.trainer} has {', '.join(other_names)}."
            )


def _order(model: Model) -> tuple[str, str, str, tuple[str, ...]]:
    """The order of models, whatever order they were given in."""
    return model.weights, model.trainer, model.configuration, model.folds


def _kind(model: Model) -> str:
    return "single images" if model.conversion.layout == "images" else "pairs"
