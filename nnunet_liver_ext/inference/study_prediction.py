"""One study from its images to its masks, in memory; `nnunet_liver predict` repeats it.

images -> on each model's common grid -> class probabilities of each model
       -> their mean on each image's own grid -> the most probable class -> post-processing
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.errors import CASE_FAILURES, InputError, failure_reason
from nnunet_liver_ext.inference.ensemble import Average, Ensemble
from nnunet_liver_ext.inference.load_model import load_model
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.inference.native_grids import PreparedStudy, probabilities_on_common_grid
from nnunet_liver_ext.inference.organ import OrganFinder
from nnunet_liver_ext.inference.pair_deformation import Deformation, find_deformation
from nnunet_liver_ext.postprocessing.border_lesions import PAPER, postprocess_label_map
from nnunet_liver_ext.postprocessing.largest_piece import keep_largest
from nnunet_liver_ext.space.images import (
    Grid,
    array,
    check_single_image,
    image_like,
    read_image,
    read_mask,
)
from nnunet_liver_ext.space.study_images import check_study_images

__all__ = ["StudyPrediction", "StudyPredictor", "load_model", "predict_study"]

ONLY_IMAGE = "image"
"""Stands for the name of the image of a model that takes one."""

Image = sitk.Image | Path | str
"""An image in memory, or its file or DICOM folder."""


@dataclass(frozen=True)
class StudyPrediction:
    """What models say of one study, each image on its own grid."""

    masks: dict[str, sitk.Image]
    """Label map of each image by modality: labels 0..K−1, uint8, post-processed."""
    probabilities: dict[str, np.ndarray]
    """Of each image by modality: (K, z, y, x) float32, sums to 1, without post-processing."""
    deformation: Deformation | None = None
    """Image 1 is moved onto image 2 by it; for models that were loaded with their registors."""
    no_deformation: str = ""
    """Why there is none although the model has a registor."""
    organ: sitk.Image | None = None
    """Organ mask, if a model found it: 0 and 1."""
    notes: tuple[str, ...] = ()
    """What is strange about the images, a sentence each."""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The masks as arrays (z, y, x) by modality."""
        return {name: array(mask) for name, mask in self.masks.items()}


def predict_study(
    model: Model | Sequence[Model],
    images: Mapping[str, Image],
    *,
    organ_model: Model | Sequence[Model] | None = None,
) -> StudyPrediction:
    """Masks of one study on its images' own grids; nothing is written.

    The masks are those that `nnunet_liver predict` writes, voxel for voxel.

    Args:
        model: a loaded model, or several whose class probabilities are averaged.
        images: by modality, {"T1": ..., "T2": ...}, or {"image": ...} for a model of one image;
            SimpleITK images, or paths of files or DICOM folders. Tumour models also take the organ
            mask by the organ's name, {"image": ..., "liver": ...}.
        organ_model: finds the organ mask if it is not given; one or several, as `model`.

    Returns:
        Masks and probabilities by the names that were given.

    Raises:
        InputError: an image is missing, unknown or damaged, or models do not go together.

    Example:
        >>> import nnunet_liver_ext as nle
        >>> model = nle.load_model(model_folder, device="cpu")  # model_folder: that of a model
        >>> pair = nle.make_pair(1, difficulty="demo", t1_size=(24, 20, 8), t2_size=(26, 21, 8))
        >>> prediction = nle.predict_study(model, {"T1": pair.t1, "T2": pair.t2})
        >>> {modality: labels.shape for modality, labels in prediction.arrays.items()}  # (z, y, x)
        {'T1': (8, 20, 24), 'T2': (8, 21, 26)}
    """
    predictor = StudyPredictor.of(model, organ_model)
    named = predictor.name_images(images)
    prediction = predictor.predict(predictor.load(named))
    if prediction.no_deformation:
        raise InputError(f"no deformation could be found: {prediction.no_deformation}")
    if ONLY_IMAGE not in images:
        return prediction
    return replace(
        prediction,
        masks=dict(zip([ONLY_IMAGE], prediction.masks.values(), strict=True)),
        probabilities=dict(zip([ONLY_IMAGE], prediction.probabilities.values(), strict=True)),
    )


@dataclass(frozen=True)
class LoadedStudy:
    """A study whose images are in memory."""

    images: dict[str, sitk.Image]
    """By modality, the organ mask by the organ's name."""
    prepared: tuple[PreparedStudy, ...] | None
    """On the grid of each model; None where the organ mask is still to be found."""
    notes: tuple[str, ...] = ()
    """As those of `StudyPrediction`."""


@dataclass(frozen=True)
class StudyPredictor:
    """Models that segment studies, and perhaps others that find the organ for them."""

    ensemble: Ensemble
    finder: OrganFinder | None

    @classmethod
    def of(
        cls,
        models: Model | Sequence[Model],
        organ_models: Model | Sequence[Model] | None = None,
    ) -> StudyPredictor:
        """The predictor of one or several models.

        Raises:
            InputError: the models do not go together.
        """
        ensemble = Ensemble.of(models)
        return cls(
            ensemble, None if organ_models is None else OrganFinder.of(organ_models, ensemble)
        )

    def describe(self) -> dict[str, Any]:
        """What predictions can be told by; without folders of this machine."""
        found_by = {} if self.finder is None else {"organ_found_by": self.finder.describe()}
        return self.ensemble.describe() | found_by

    def name_images(self, images: Mapping[str, Image]) -> dict[str, Image]:
        """The images by the names that the models know.

        Raises:
            InputError: there is an image of another name.
        """
        modalities = self.ensemble.modalities
        known = [name for name in (*modalities, self.ensemble.organ) if name is not None]
        names = dict(zip(known, known, strict=True))
        if len(modalities) == 1 and not {ONLY_IMAGE, *modalities} <= set(images):
            names[ONLY_IMAGE] = modalities[0]
        if unknown := sorted(set(images) - set(names)):
            raise InputError(
                f"there is no image {unknown[0]!r} in a study of this model; it takes"
                f" {', '.join(known)}."
            )
        return {names[name]: image for name, image in images.items()}

    def load(self, images: Mapping[str, Image]) -> LoadedStudy:
        """Reads what is not in memory yet, and puts the images onto the models' common grids.

        Raises:
            InputError: an image is missing or damaged, they make no study (`study_images`), or the
                models cannot take them.
        """
        organ = self.ensemble.organ
        read = {
            name: (read_mask if name == organ else read_image)(image)
            if isinstance(image, Path | str)
            else check_single_image(image, f"the {name} image")
            for name, image in images.items()
        }
        notes = check_study_images(
            {name: image for name, image in read.items() if name != organ},
            {
                name: Path(image)
                for name, image in images.items()
                if name != organ and isinstance(image, Path | str)
            },
            unregistered=not self.ensemble.is_of_single_images,
        )
        if organ is not None and organ not in read and self.finder is not None:
            return LoadedStudy(read, None, notes)
        return LoadedStudy(read, self.ensemble.prepare(read), notes)

    def predict(self, study: LoadedStudy) -> StudyPrediction:
        """Masks of a study; without a deformation that the model should find there are still masks.

        Raises:
            InputError: the organ was not found.
        """
        organ, prepared = None, study.prepared
        if prepared is None and self.finder is not None:
            organ = self.finder.find(study.images)
            prepared = self.ensemble.prepare({**study.images, self.finder.organ: organ})
        average = Average()
        for model, on_grid in zip(self.ensemble.models, prepared or (), strict=True):
            probabilities = probabilities_on_common_grid(model, on_grid)
            average.add(probabilities, on_grid)
        means = average.finish()
        masks = {
            name: self._postprocess(mean.mask, name, on_grid.organ) for name, mean in means.items()
        }
        prediction = StudyPrediction(
            masks,
            {name: mean.probabilities for name, mean in means.items()},
            organ=organ,
            notes=study.notes,
        )
        if not self.ensemble.registors:
            return prediction
        return self._with_deformation(prediction, probabilities, on_grid)

    def _postprocess(self, mask: sitk.Image, modality: str, organ: np.ndarray | None) -> sitk.Image:
        """The mask by the models' rules: lesions inside the organ, largest pieces."""
        if organ is not None and self.ensemble.restricts_lesions:
            lesions = [[label] for label in range(1, len(self.ensemble.class_names))]
            kernels = PAPER.at(Grid.from_image(mask).spacing_mm[1:])
            values = postprocess_label_map(array(mask), organ, lesions, kernels=kernels)
            mask = image_like(values, Grid.from_image(mask))
        kept = self.ensemble.kept(modality)
        return image_like(keep_largest(array(mask), kept), Grid.from_image(mask)) if kept else mask

    def _with_deformation(
        self,
        prediction: StudyPrediction,
        probabilities: Mapping[str, np.ndarray],
        prepared: PreparedStudy,
    ) -> StudyPrediction:
        """The prediction with the deformation that its one model finds, or with why it does not."""
        model = self.ensemble.models[0]
        try:
            deformation = find_deformation(model, probabilities, prepared.grid, prepared.native)
        except CASE_FAILURES as error:
            return replace(prediction, no_deformation=failure_reason(error))
        mask = self._postprocess(deformation.mask, self.ensemble.modalities[0], None)
        return replace(prediction, deformation=replace(deformation, mask=mask))
