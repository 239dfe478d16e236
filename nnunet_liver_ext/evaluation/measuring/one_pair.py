"""Do the two masks of a pair agree? Relative similarity and volumes of both sides.

The goal of Couteaux et al. 2021, "Cooperating networks", section 3: masks of two images of one
organ that are alike up to a deformation, so that measurements agree. Similarity is measured on the
pair's common grid, the one that conversion would make of the references' grids with its default
spacing; volumes on each mask's own grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_liver_ext.errors import CaseFailure, InputError
from nnunet_liver_ext.evaluation.files.case_files import PREDICTION, CaseFiles
from nnunet_liver_ext.evaluation.files.described_labels import Classes
from nnunet_liver_ext.evaluation.files.find_label_maps import ImageKey
from nnunet_liver_ext.evaluation.measuring.case_labels import labels_on_one_grid
from nnunet_liver_ext.evaluation.measuring.one_case import CaseResult, class_mask, labels_in
from nnunet_liver_ext.evaluation.metric_catalogue import pair_metrics
from nnunet_liver_ext.evaluation.metrics import volume_ml
from nnunet_liver_ext.space.common_grid import common_grid, mask_on_grid
from nnunet_liver_ext.space.images import Grid, array, image_like
from nnunet_liver_ext.transform_classes import Transforms


@dataclass(frozen=True)
class PairFiles:
    """The files of both images of one case."""

    first: CaseFiles
    second: CaseFiles

    @property
    def key(self) -> ImageKey:
        return ImageKey(
            self.first.key.case, f"{self.first.key.modality}-{self.second.key.modality}"
        )

    @property
    def files(self) -> dict[str, Path]:
        """Everything that is read, by what it is."""
        both = (self.first, self.second)
        leave_out = ("image", "fat")
        return {
            f"{image.key.modality} {what}": path
            for image in both
            for what, path in image.files.items()
            if what not in leave_out
        }

    @property
    def identity(self) -> dict[str, Any]:
        """As `CaseFiles.identity`, of both."""
        return {image.key.modality: image.identity for image in (self.first, self.second)}

    @property
    def patient(self) -> str:
        return self.first.patient

    @property
    def raters(self) -> list[str]:
        """Those who have masks of both images."""
        return [rater for rater in self.first.references if rater in self.second.references]


@dataclass(frozen=True)
class _LoadedPair:
    """Label maps (z, y, x) of both images by who made them (prediction, raters), with grids."""

    labels: dict[str, tuple[np.ndarray, np.ndarray]]
    grids: tuple[Grid, Grid]


def find_pairs(cases: Iterable[CaseFiles], modalities: tuple[str, ...]) -> list[PairFiles]:
    """The pairs of which both images can be measured."""
    by_key = {case.key: case for case in cases}
    first, second = modalities
    return [
        PairFiles(case, by_key[ImageKey(key.case, second)])
        for key, case in by_key.items()
        if key.modality == first and ImageKey(key.case, second) in by_key
    ]


def evaluate_pair(
    pair: PairFiles, classes: Classes | None, *, transforms: Transforms, resample: bool = False
) -> CaseResult | CaseFailure:
    """Measures one pair.

    Args:
        pair: which files.
        classes: labels of each class by name; None measures each label that occurs.
        transforms: the class of relative similarity.
        resample: as `labels_on_one_grid`.

    Returns:
        One value for each of `pair_metrics` and class, nan where a mask is empty; those of
        references are the mean over the raters who have masks of both images. Or why there are
        none.
    """
    try:
        if not pair.raters:
            raise InputError("no rater has masks of both images.")
        loaded = _load_pair(pair, resample)
        present = {
            label
            for both_maps in loaded.labels.values()
            for label_map in both_maps
            for label in labels_in(label_map)
        }
        classes = classes or {str(label): (label,) for label in sorted(present)}
        values = {
            name: _measure_class(loaded, labels, transforms) for name, labels in classes.items()
        }
        return CaseResult(pair.key, values, pair.patient)
    except (InputError, OSError, MemoryError, RuntimeError) as error:
        reason = pair.second.reason(InputError(pair.first.reason(error)))
        return CaseFailure(str(pair.key), f"relative similarity was not measured: {reason}")


def add_missing_classes(results: Sequence[CaseResult]) -> list[CaseResult]:
    """Adds classes that only other pairs have: empty on both sides, so they are excluded (nan)."""
    names = dict.fromkeys(name for result in results for name in result.values)
    nothing = dict.fromkeys(pair_metrics(), math.nan)
    return [
        replace(result, values={name: result.values.get(name, nothing) for name in names})
        for result in results
    ]


def _load_pair(pair: PairFiles, resample: bool) -> _LoadedPair:
    """Raises InputError if a prediction is not on its reference's grid."""
    both = [labels_on_one_grid(case, resample=resample) for case in (pair.first, pair.second)]
    labels = {PREDICTION: (both[0][0], both[1][0])}
    labels |= {
        f"reference {rater}": (both[0][1][rater], both[1][1][rater]) for rater in pair.raters
    }
    return _LoadedPair(labels, (both[0][2], both[1][2]))


def _measure_class(
    loaded: _LoadedPair, labels: tuple[int, ...], transforms: Transforms
) -> dict[str, float]:
    similarity, volume = {}, {}
    for who, (first, second) in loaded.labels.items():
        masks = class_mask(first, labels), class_mask(second, labels)
        similarity[who] = _similarity(masks, loaded.grids, transforms)
        volumes = [
            volume_ml(mask, grid.spacing_mm) for mask, grid in zip(masks, loaded.grids, strict=True)
        ]
        volume[who] = volumes[0] - volumes[1]
    alike, apart = (_prediction_and_references(values) for values in (similarity, volume))
    return {
        "relative_similarity_prediction": alike[0],
        "relative_similarity_reference": alike[1],
        "relative_similarity_gain": alike[0] - alike[1],
        "pair_volume_difference_prediction": apart[0],
        "pair_volume_difference_reference": apart[1],
    }


def _prediction_and_references(values: dict[str, float]) -> tuple[float, float]:
    return values[PREDICTION], float(
        np.mean([value for who, value in values.items() if who != PREDICTION])
    )


def _similarity(
    masks: tuple[np.ndarray, ...], grids: tuple[Grid, Grid], transforms: Transforms
) -> float:
    from nnunet_liver_ext.evaluation.similarity.relative import relative_similarity

    spacing_mm = grids[0].spacing_mm
    if not grids[0].matches(grids[1]):
        images = [image_like(mask, grid) for mask, grid in zip(masks, grids, strict=True)]
        common = common_grid(images)
        masks, spacing_mm = (
            tuple(array(mask_on_grid(image, common, 2)) for image in images),
            common.spacing_mm,
        )
    return relative_similarity(masks[0], masks[1], spacing_mm, transforms).dice
