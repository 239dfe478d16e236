"""Do the two masks of a pair agree? Dice before and after a transform, and volumes of both sides.

The goal of Couteaux et al. 2021, "Cooperating networks", section 3: masks of two images of one
organ that are alike up to a deformation, so that measurements agree. Both masks are put on the
pair's common grid, the one that conversion would make of the references' grids with its default
spacing; volumes and what a registor has moved are measured on each mask's own grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_liver_ext.errors import CaseFailure, InputError
from nnunet_liver_ext.evaluation.files.case_files import PREDICTION, CaseFiles
from nnunet_liver_ext.evaluation.files.described_labels import Classes
from nnunet_liver_ext.evaluation.files.find_label_maps import ImageKey
from nnunet_liver_ext.evaluation.files.read_label_map import LabelMap
from nnunet_liver_ext.evaluation.measuring.case_labels import labels_on_one_grid
from nnunet_liver_ext.evaluation.measuring.one_case import CaseResult, class_mask, labels_in
from nnunet_liver_ext.evaluation.metric_catalogue import pair_metrics
from nnunet_liver_ext.evaluation.metrics import dice, volume_ml
from nnunet_liver_ext.space.common_grid import common_grid
from nnunet_liver_ext.space.images import Grid, array, image_like
from nnunet_liver_ext.space.mask_resampling import mask_on_grid
from nnunet_liver_ext.space.stated_geometry import has_scanner_coordinates
from nnunet_liver_ext.studies.file_names import deformation_files
from nnunet_liver_ext.transform_classes import Transforms

REGISTERED = "registered mask"


@dataclass(frozen=True)
class PairFiles:
    """The files of both images of one case."""

    first: CaseFiles
    second: CaseFiles
    registered: Path | None = None
    """The first prediction moved onto the second image, if `predict --deformation` wrote it."""

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
        registered = {} if self.registered is None else {REGISTERED: self.registered}
        return registered | {
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
    registered: np.ndarray | None
    """Label map of the first image moved onto the second, on the grid of the second."""

    @property
    def references(self) -> list[str]:
        """The names of the raters in `labels`."""
        return [who for who in self.labels if who != PREDICTION]

    @cached_property
    def common(self) -> Grid:
        """The grid that both are compared on: their own if it is one, else that of a conversion."""
        first, second = self.grids
        if first.matches(second):
            return first
        images = (image_like(np.zeros(grid.size[::-1], np.uint8), grid) for grid in self.grids)
        return common_grid(list(images))

    def masks(self, who: str, labels: tuple[int, ...]) -> list[np.ndarray]:
        """Both masks of a class (z, y, x), each on its own grid."""
        return [class_mask(label_map, labels) for label_map in self.labels[who]]

    def masks_on_common(self, who: str, labels: tuple[int, ...]) -> list[np.ndarray]:
        """Both masks of a class (z, y, x) on the common grid."""
        masks = self.masks(who, labels)
        if self.grids[0].matches(self.grids[1]):
            return masks
        return [
            array(mask_on_grid(image_like(mask, grid), self.common, 2)).astype(bool)
            for mask, grid in zip(masks, self.grids, strict=True)
        ]


def find_pairs(cases: Iterable[CaseFiles], modalities: tuple[str, ...]) -> list[PairFiles]:
    """The pairs of which both images can be measured."""
    by_key = {case.key: case for case in cases}
    first, second = modalities
    return [
        PairFiles(case, by_key[ImageKey(key.case, second)], _registered(case, modalities))
        for key, case in by_key.items()
        if key.modality == first and ImageKey(key.case, second) in by_key
    ]


def _registered(first: CaseFiles, modalities: tuple[str, ...]) -> Path | None:
    name = deformation_files(first.key.case, modalities)[1]
    path = first.prediction.path.with_name(name)
    return path if path.is_file() else None


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
        One value for each of `pair_metrics` and class (`registered_dice` only with its file), nan
        where a mask is empty; what depends on references is the mean over the raters who have masks
        of both images. Or why there are none.
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
        if pair.registered is not None:
            reason = reason.replace(str(pair.registered), pair.registered.name)
        return CaseFailure(str(pair.key), f"relative similarity was not measured: {reason}")


def add_missing_classes(results: Sequence[CaseResult]) -> list[CaseResult]:
    """Adds classes that only other pairs have: empty on both sides, so they are excluded (nan)."""
    names = dict.fromkeys(name for result in results for name in result.values)
    measured = {metric for result in results for of in result.values.values() for metric in of}
    nothing = {metric: math.nan for metric in pair_metrics() if metric in measured}
    return [
        replace(result, values={name: result.values.get(name, nothing) for name in names})
        for result in results
    ]


def _load_pair(pair: PairFiles, resample: bool) -> _LoadedPair:
    """The masks of both images.

    Raises:
        InputError: a prediction is not on its reference's grid, or masks of different grids cannot
            be laid over each other by scanner coordinates.
    """
    both = [labels_on_one_grid(case, resample=resample) for case in (pair.first, pair.second)]
    if not both[0][2].matches(both[1][2]):
        _check_coordinates(pair)
    labels = {PREDICTION: (both[0][0], both[1][0])}
    labels |= {
        f"reference {rater}": (both[0][1][rater], both[1][1][rater]) for rater in pair.raters
    }
    registered = None
    if pair.registered is not None:
        moved = replace(pair.second, prediction=LabelMap(pair.registered))
        registered = labels_on_one_grid(moved, resample=resample)[0]
    return _LoadedPair(labels, (both[0][2], both[1][2]), registered)


def _check_coordinates(pair: PairFiles) -> None:
    for path in pair.files.values():
        if not has_scanner_coordinates(path):
            raise InputError(
                f"{path}: gives no scanner coordinates, so the masks of both images would be laid"
                " over each other by chance."
            )


def _measure_class(
    loaded: _LoadedPair, labels: tuple[int, ...], transforms: Transforms
) -> dict[str, float]:
    from nnunet_liver_ext.evaluation.similarity.relative import relative_similarity

    as_they_lie, similarity, volume = {}, {}, {}
    seconds, warped = {}, None
    for who in loaded.labels:
        first, second = loaded.masks_on_common(who, labels)
        found = relative_similarity(first, second, loaded.common.spacing_mm, transforms)
        similarity[who], seconds[who] = found.dice, second
        as_they_lie[who] = math.nan if found.excluded else dice(first, second)
        if who == PREDICTION and not found.excluded:
            warped = found.warped
        volumes = [
            volume_ml(mask, grid.spacing_mm)
            for mask, grid in zip(loaded.masks(who, labels), loaded.grids, strict=True)
        ]
        volume[who] = volumes[0] - volumes[1]
    alike, before, apart = (
        _prediction_and_references(values) for values in (similarity, as_they_lie, volume)
    )
    return {
        "relative_similarity_prediction": alike[0],
        "relative_similarity_reference": alike[1],
        "relative_similarity_gain": alike[0] - alike[1],
        "pair_dice_prediction": before[0],
        "pair_dice_reference": before[1],
        "warped_dice": _mean_dice(warped, [seconds[who] for who in loaded.references]),
        **_registered_dice(loaded, labels),
        "pair_volume_difference_prediction": apart[0],
        "pair_volume_difference_reference": apart[1],
    }


def _registered_dice(loaded: _LoadedPair, labels: tuple[int, ...]) -> dict[str, float]:
    """Nothing if no registor has moved the first mask."""
    if loaded.registered is None:
        return {}
    seconds = [loaded.masks(who, labels)[1] for who in loaded.references]
    return {"registered_dice": _mean_dice(class_mask(loaded.registered, labels), seconds)}


def _mean_dice(moved: np.ndarray | None, references: Sequence[np.ndarray]) -> float:
    """nan without a moved mask, and where a reference is empty."""
    if moved is None or not all(reference.any() for reference in references):
        return math.nan
    return float(np.mean([dice(moved, reference) for reference in references]))


def _prediction_and_references(values: dict[str, float]) -> tuple[float, float]:
    return values[PREDICTION], float(
        np.mean([value for who, value in values.items() if who != PREDICTION])
    )
