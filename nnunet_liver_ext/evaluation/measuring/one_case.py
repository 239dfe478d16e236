"""One case: its prediction beside its reference, measured class by class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nnunet_liver_ext.errors import CaseFailure, InputError
from nnunet_liver_ext.evaluation.files.case_files import ONLY_RATER, CaseFiles
from nnunet_liver_ext.evaluation.files.described_labels import Classes
from nnunet_liver_ext.evaluation.files.find_label_maps import ImageKey
from nnunet_liver_ext.evaluation.measuring.case_labels import labels_on_one_grid
from nnunet_liver_ext.evaluation.measuring.one_class import ClassMasks, Details, measure_class
from nnunet_liver_ext.evaluation.measuring.surroundings import Surroundings, read_surroundings
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.space.images import Grid

NOWHERE = np.zeros((1, 1, 1), bool)
ONE_VOXEL = Grid((1, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
NO_LABEL_IN_BOTH = "prediction and reference have no label in common."
Values = dict[str, dict[str, float]]
"""By class and metric."""


@dataclass(frozen=True)
class CaseResult:
    """What was measured of one label map, or of both of a pair."""

    key: ImageKey
    values: Values
    patient: str = ""
    details: Details = field(default_factory=dict)
    """Rows of further tables by their names, as `one_class.measure_class`, with the
    class."""
    notes: list[str] = field(default_factory=list)
    """What could not be measured although the masks could."""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "key": list(self.key)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CaseResult:
        return cls(**{**content, "key": ImageKey(*content["key"])})


def evaluate_case(
    case: CaseFiles, classes: Classes | None, options: Options
) -> CaseResult | CaseFailure:
    """Measures one case.

    Args:
        case: which files.
        classes: labels of each class by name; None measures each label that occurs, named by its
            number.
        options: what is measured and how.

    Returns:
        The metrics of each class, or why there are none: the files cannot be read, are on different
            grids, or hold labels
        that are not known. File names in the reason have no folders.
    """
    try:
        return _evaluate(case, classes, options)
    except (InputError, OSError, MemoryError) as error:
        return CaseFailure(str(case.key), case.reason(error))


def add_missing_classes(
    results: Iterable[CaseResult],
    options: Options = Options(),
    *,
    raters: Sequence[str] = (ONLY_RATER,),
    fat: bool = False,
) -> list[CaseResult]:
    """Adds the classes that a case lacks and others of its modality have, as empty objects.

    For label maps without class names: a case without label 2 in prediction and reference then
    counts like one whose class 2 is empty on both sides.
    """
    results = list(results)
    names: dict[str, set[str]] = {}
    for result in results:
        names.setdefault(result.key.modality, set()).update(result.values)
    nothing = dict.fromkeys(raters, NOWHERE)
    masks = ClassMasks(NOWHERE, nothing, None)
    around = Surroundings(
        ONE_VOXEL, np.full(NOWHERE.shape, 50.0) if fat else None
    )  # percent of no voxels are nan anyway
    filled = []
    for result in results:
        values, details = {}, {name: list(rows) for name, rows in result.details.items()}
        for name in sorted(names[result.key.modality], key=_number_first) or ["1"]:
            if name in result.values:
                values[name] = result.values[name]
                continue
            values[name], more = measure_class(
                masks, around, options, is_lesion=name in options.lesions
            )
            _add(details, name, more)
        filled.append(replace(result, values=values, details=details))
    return filled


def _evaluate(case: CaseFiles, classes: Classes | None, options: Options) -> CaseResult:
    pred, references, grid = labels_on_one_grid(case, resample=options.resample)
    present = labels_in(pred), {rater: labels_in(labels) for rater, labels in references.items()}
    classes = _classes_to_measure(case, present, classes)
    known = tuple({label for labels in classes.values() for label in labels})
    everything = (
        [class_mask(labels, known) for labels in (pred, *references.values())]
        if case.fat is not None
        else []
    )
    around, notes = read_surroundings(case, grid, everything, options)
    if (
        len(set.union(*present[1].values()) & present[0]) == 0
        and present[0]
        and any(present[1].values())
    ):
        notes.append(NO_LABEL_IN_BOTH)
    notes += options.notes_below_a_voxel(grid.spacing_mm, fat=around.fat_percent is not None)
    organ = _labels_of_organ(classes, options)
    values: Values = {}
    details: Details = {}
    for name, labels in classes.items():
        sides = _masks(pred, references, labels)
        masks = ClassMasks(*sides, None if organ is None else _masks(pred, references, organ))
        values[name], rows = measure_class(
            masks, around, options, is_lesion=name in options.lesions
        )
        _add(details, name, rows)
    return CaseResult(case.key, values, case.patient, details, notes)


def _labels_of_organ(classes: Classes, options: Options) -> tuple[int, ...] | None:
    """Of the organ with its lesions; None if there is no such class, or nobody asks for lesions."""
    if not options.lesions or options.organ not in classes:
        return None
    names = {options.organ, *options.lesions} & set(classes)
    return tuple({label for name in names for label in classes[name]})


def _add(details: Details, class_name: str, more: Details) -> None:
    for table, rows in more.items():
        if rows:
            details.setdefault(table, []).extend({"class": class_name, **row} for row in rows)


def _masks(
    pred: np.ndarray, references: Mapping[str, np.ndarray], labels: tuple[int, ...]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return class_mask(pred, labels), {
        rater: class_mask(reference, labels) for rater, reference in references.items()
    }


def _classes_to_measure(
    case: CaseFiles,
    present: tuple[set[int], Mapping[str, set[int]]],
    classes: Classes | None,
) -> Classes:
    pred, by_rater = present
    ref = set().union(*by_rater.values())
    if classes is None:
        return {str(label): (label,) for label in sorted(pred | ref)}
    known = {label for labels in classes.values() for label in labels}
    sides = [(case.prediction.path, pred, ".")]
    hint = "; name the references' labels with --label."
    sides += [(case.references[rater].path, present, hint) for rater, present in by_rater.items()]
    for path, labels, todo in sides:
        if unknown := sorted(labels - known):
            raise InputError(
                f"{path}: holds labels {unknown} that dataset.json does not name{todo}"
            )
    return classes


def labels_in(label_map: np.ndarray) -> set[int]:
    """The labels that occur, background aside."""
    return set(
        np.unique(label_map[label_map != 0]).tolist()
    )  # sorting what is left is nothing beside reading the file


def class_mask(label_map: np.ndarray, labels: tuple[int, ...]) -> np.ndarray:
    """The mask of a class, bool."""
    return label_map == labels[0] if len(labels) == 1 else np.isin(label_map, labels)


def _number_first(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (0, name)
