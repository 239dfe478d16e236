"""One case: its prediction beside its reference, measured class by class.

`pair_up` says which file belongs to which, and names what has no counterpart; `evaluate_case` reads two label maps and
measures them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from nnunet_liver_ext.errors import CaseFailure, InputError
from nnunet_liver_ext.evaluation.label_maps import (
    Classes,
    Description,
    Key,
    LabelMap,
    LabelMaps,
    find_predictions,
    find_references,
    modalities_of,
    renumbered,
)
from nnunet_liver_ext.evaluation.measures import measure

T = TypeVar("T")
NOWHERE = np.zeros((1, 1, 1), bool)


@dataclass(frozen=True)
class Comparison:
    """A prediction and the reference it is measured against."""

    key: Key
    prediction: LabelMap
    reference: LabelMap
    image: Path | None = None


@dataclass(frozen=True)
class PairedUp:
    """All comparisons of two sides, the class names if a dataset.json has them, and what has no counterpart."""

    comparisons: list[Comparison]
    classes: Classes | None
    modalities: tuple[str, ...]
    missing: list[CaseFailure]
    extra: list[CaseFailure]


@dataclass(frozen=True)
class CaseResult:
    """The metrics of one comparison for each class, by name."""

    key: Key
    values: dict[str, dict[str, float]]


def pair_up(predictions: Path, references: Path, reference_classes: Classes | None = None) -> PairedUp:
    """Finds each reference's prediction.

    Args:
        predictions: folder of label maps.
        references: folder of label maps, or studies.
        reference_classes: labels of each class in the references if they are not those of dataset.json; what else the
            references hold is background then.

    Raises:
        InputError: a side is missing or empty, the two dataset.json contradict each other, or nothing belongs together.
    """
    described = Description.beside(predictions), Description.beside(references)
    pair = _agreed("pair", *(description.pair for description in described))
    classes = _agreed("labels", *(description.classes for description in described))
    found, expected = find_predictions(predictions, pair), find_references(references, pair)
    if reference_classes is not None:
        classes = classes or {name: (label,) for label, name in enumerate(reference_classes, start=1)}
        expected = renumbered(expected, reference_classes, classes)
    common = sorted(found.maps.keys() & expected.maps.keys())
    if not common:
        raise InputError(
            f"no prediction belongs to a reference: {predictions.name} has {_some(found.maps)}, "
            f"{references.name} has {_some(expected.maps)}; name both alike, such as CASE_T1.nii.gz or CASE.nii.gz."
        )
    return PairedUp(
        [Comparison(key, found.maps[key], expected.maps[key], expected.images.get(key)) for key in common],
        classes,
        modalities_of(pair),
        [CaseFailure(str(key), "the reference has no prediction.") for key in sorted(expected.maps.keys() - set(common))],
        _extra(found, expected),
    )


def evaluate_case(comparison: Comparison, classes: Classes | None, *, tolerance_mm: float) -> CaseResult | CaseFailure:
    """Measures one comparison.

    Args:
        comparison: which files.
        classes: labels of each class by name; None measures each label that occurs, named by its number.
        tolerance_mm: of the surface Dice.

    Returns:
        The metrics of each class, or why there are none: the files cannot be read, are on different grids, or hold labels
        that are not known. File names in the reason have no folders.
    """
    try:
        return _evaluate(comparison, classes, tolerance_mm)
    except (InputError, OSError, MemoryError) as error:
        reason = str(error) or type(error).__name__
        for path in (comparison.prediction.path, comparison.reference.path):
            reason = reason.replace(str(path), path.name)
        return CaseFailure(str(comparison.key), reason)


def with_every_class(results: Iterable[CaseResult], *, tolerance_mm: float) -> list[CaseResult]:
    """Adds the defined values of an empty object where a case lacks a class that other cases of its modality have.

    For label maps without class names: a case without label 2 in prediction and reference then counts like one whose
    class 2 is empty on both sides.
    """
    results = list(results)
    names: dict[str, set[str]] = {}
    for result in results:
        names.setdefault(result.key.modality, set()).update(result.values)
    empty = measure(NOWHERE, NOWHERE, (1.0, 1.0, 1.0), tolerance_mm=tolerance_mm)
    return [
        CaseResult(
            result.key,
            {name: result.values.get(name, empty) for name in sorted(names[result.key.modality], key=_number_first)}
            or {"1": empty},
        )
        for result in results
    ]


def same_grid(comparison: Comparison) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Labels of prediction and reference (z, y, x), and their spacing in mm.

    Raises:
        InputError: a file cannot be read, or their grids differ.
    """
    (pred, pred_grid), (ref, ref_grid) = comparison.prediction.read(), comparison.reference.read()
    if not pred_grid.matches(ref_grid):
        joint = comparison.prediction.half is not None and comparison.reference.half is None
        todo = (
            "split the joint label maps first (nnunet_liver predict --split)" if joint else "predict the reference's image"
        )
        raise InputError(f"prediction and reference are on different grids ({pred_grid}; {ref_grid}): {todo}.")
    return pred, ref, ref_grid.spacing_mm


def _evaluate(comparison: Comparison, classes: Classes | None, tolerance_mm: float) -> CaseResult:
    pred, ref, spacing_mm = same_grid(comparison)
    present = labels_in(pred), labels_in(ref)
    values = {
        name: measure(object_in(pred, labels), object_in(ref, labels), spacing_mm, tolerance_mm=tolerance_mm)
        for name, labels in _classes_to_measure(comparison, present, classes).items()
    }
    return CaseResult(comparison.key, values)


def _classes_to_measure(comparison: Comparison, present: tuple[set[int], set[int]], classes: Classes | None) -> Classes:
    pred, ref = present
    if classes is None:
        if pred and ref and not pred & ref:
            raise InputError(
                f"the prediction has labels {sorted(pred)}, the reference {sorted(ref)}: number them alike, "
                "or name the reference's with --label."
            )
        return {str(label): (label,) for label in sorted(pred | ref)}
    known = {label for labels in classes.values() for label in labels}
    for side, labels in (("prediction", pred), ("reference", ref)):
        if unknown := sorted(labels - known):
            path = getattr(comparison, side).path
            hint = "; name the references' labels with --label." if side == "reference" else "."
            raise InputError(f"{path.name}: holds labels {unknown} that dataset.json does not name{hint}")
    return classes


def labels_in(label_map: np.ndarray) -> set[int]:
    """The labels that occur, background aside."""
    lowest, highest = int(label_map.min()), int(label_map.max())
    if highest - lowest < 2**16:  # several times faster than sorting
        counts = np.bincount((label_map.ravel() - lowest).astype(np.uint16, copy=False))
        found = np.flatnonzero(counts) + lowest
    else:
        found = np.unique(label_map)
    return {int(label) for label in found} - {0}


def object_in(label_map: np.ndarray, labels: tuple[int, ...]) -> np.ndarray:
    """The mask of a class, bool."""
    return label_map == labels[0] if len(labels) == 1 else np.isin(label_map, labels)


def _agreed(what: str, prediction: T | None, reference: T | None) -> T | None:
    if prediction is not None and reference is not None and prediction != reference:
        raise InputError(
            f"the dataset.json of predictions and references differ in `{what}`: {prediction} and {reference}; "
            "evaluate predictions of the same dataset."
        )
    return reference if prediction is None else prediction


def _extra(found: LabelMaps, expected: LabelMaps) -> list[CaseFailure]:
    keys = sorted(found.maps.keys() - expected.maps.keys())
    return [CaseFailure(str(key), f"{found.maps[key].path.name} has no reference and was not evaluated.") for key in keys]


def _some(maps: dict[Key, LabelMap]) -> str:
    names = sorted({str(key) for key in maps})
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _number_first(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (0, name)
