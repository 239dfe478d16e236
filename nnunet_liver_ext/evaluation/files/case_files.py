"""Which files belong together: each prediction with its reference, or with those of several
raters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nnunet_liver_ext.errors import CaseFailure, InputError
from nnunet_liver_ext.evaluation.files.described_labels import Classes, describe_labels
from nnunet_liver_ext.evaluation.files.label_maps import (
    ImageKey,
    LabelMap,
    LabelMaps,
    find_predictions,
    find_references,
    modalities_of,
    renumber,
)
from nnunet_liver_ext.space.images import Grid, array, image_like

T = TypeVar("T")
MOST_LABELS = 256
PREDICTION = "prediction"
ONLY_RATER = ""
"""Name of the rater where there is one reference."""


@dataclass(frozen=True)
class CaseFiles:
    """A prediction and what it is measured against."""

    key: ImageKey
    prediction: LabelMap
    references: Mapping[str, LabelMap]
    """By rater; `ONLY_RATER` where there is one reference."""
    patient: str
    image: Path | None = None
    fat: Path | None = None
    """Image of the fat fraction in percent."""

    @property
    def reference(self) -> LabelMap:
        """The reference, or the first rater's."""
        return next(iter(self.references.values()))

    @property
    def identity(self) -> dict[str, Any]:
        """What a result depends on beside the contents of the files: how each is read, and the
        raters in their order."""
        sides = {
            "prediction": self.prediction,
            **{f"reference {rater}": one for rater, one in self.references.items()},
        }
        return {
            "sides": [
                [what, one.half, one.num_classes, one.renumber] for what, one in sides.items()
            ]
        }

    def reason(self, error: Exception) -> str:
        """What went wrong, without folders, and without names of files that say more than the name
        of the case."""
        text = str(error) or type(error).__name__
        for what, path in self.files.items():
            text = text.replace(
                str(path), path.name if path.name.startswith(self.key.case) else f"the {what}"
            )
        return text

    @property
    def files(self) -> dict[str, Path]:
        """Everything that is read, by what it is."""
        files = {"prediction": self.prediction.path, "image": self.image, "fat": self.fat}
        files |= {
            f"reference {rater}".strip(): reference.path
            for rater, reference in self.references.items()
        }
        return {what: path for what, path in files.items() if path is not None}


@dataclass(frozen=True)
class MatchedCases:
    """All cases of two sides, the class names if a dataset.json has them, and what has no
    counterpart."""

    cases: list[CaseFiles]
    classes: Classes | None
    modalities: tuple[str, ...]
    raters: tuple[str, ...]
    missing: list[CaseFailure]
    """References without prediction."""
    notes: list[CaseFailure] = field(default_factory=list)
    """Predictions without reference, and cases that a rater has left out."""


def match_references(
    predictions: Path,
    references: Path | Mapping[str, Path],
    reference_classes: Classes | None = None,
) -> MatchedCases:
    """Finds each reference's prediction.

    Args:
        predictions: folder of label maps.
        references: folder of label maps, or studies; several by rater.
        reference_classes: labels of each class in the references if they are not those of
            dataset.json; what else the references hold is background then.

    Raises:
        InputError: a side is missing or empty, the dataset.json of two sides contradict each other,
            or nothing belongs together.
    """
    by_rater = references if isinstance(references, Mapping) else {ONLY_RATER: references}
    if PREDICTION in by_rater:
        raise InputError(f"a rater cannot be called {PREDICTION!r}; give another name.")
    described = [describe_labels(path) for path in (predictions, *by_rater.values())]
    pair = _agreed("pair", [description.pair for description in described])
    known = (
        described[:1] if reference_classes is not None else described
    )  # the references' own numbers are given
    classes = _agreed("labels", [description.classes for description in known])
    found = find_predictions(predictions, pair)
    expected = {rater: find_references(path, pair) for rater, path in by_rater.items()}
    if reference_classes is not None:
        classes = classes or {
            name: (label,) for label, name in enumerate(reference_classes, start=1)
        }
        expected = {
            rater: renumber(maps, reference_classes, classes) for rater, maps in expected.items()
        }
    keys = sorted({key for maps in expected.values() for key in maps.maps})
    common = [key for key in keys if key in found.maps]
    if not common:
        places = " and ".join(path.name for path in by_rater.values())
        raise InputError(
            f"no prediction belongs to a reference: {predictions.name} has {_some(found.maps)}, "
            f"{places} has {_some(keys)}; name both alike, such as CASE_T1.nii.gz or CASE.nii.gz."
        )
    return MatchedCases(
        [_case_files(key, found, expected) for key in common],
        classes,
        modalities_of(pair),
        tuple(by_rater),
        [
            CaseFailure(str(key), "the reference has no prediction.")
            for key in keys
            if key not in found.maps
        ],
        _without_reference(found, keys) + _left_out(common, expected),
    )


def labels_on_one_grid(
    case: CaseFiles, *, resample: bool = False
) -> tuple[np.ndarray, dict[str, np.ndarray], Grid]:
    """Labels of the prediction and of each rater's reference (z, y, x), and their grid.

    Args:
        case: which files.
        resample: put the prediction on the reference's grid if theirs differ: the label that is
            strongest there after linear interpolation.

    Raises:
        InputError: a file cannot be read, or the grids differ.
    """
    read = {rater: reference.read() for rater, reference in case.references.items()}
    grid = next(iter(read.values()))[1]
    for rater, (_, other) in read.items():
        if not other.matches(grid):
            raise InputError(
                f"the masks of the raters are on different grids ({rater}: {other};"
                f" {next(iter(read))}: {grid})."
            )
    pred, own = case.prediction.read()
    if not own.matches(grid):
        if not resample:
            raise InputError(
                f"prediction and reference are on different grids ({own}; {grid}): {_todo(case)}."
            )
        pred = _on_grid(pred, own, grid)
    return pred, {rater: labels for rater, (labels, _) in read.items()}, grid


def _on_grid(labels: np.ndarray, own: Grid, grid: Grid) -> np.ndarray:
    from nnunet_liver_ext.space.common_grid import mask_on_grid

    present = np.union1d([0], labels)
    if len(present) > MOST_LABELS:
        raise InputError(
            f"a label map with {len(present)} labels cannot be put on another grid; predict on the"
            " reference's."
        )
    moved = mask_on_grid(
        image_like(np.searchsorted(present, labels).astype(np.uint8), own), grid, len(present)
    )
    return present[array(moved)].astype(labels.dtype)


def _todo(case: CaseFiles) -> str:
    if case.prediction.half is not None and case.reference.half is None:
        return "split the joint label maps first (nnunet_liver predict --split)"
    return (
        "predict the reference's image, or let the prediction be resampled (--resample reference)"
    )


def _case_files(key: ImageKey, found: LabelMaps, expected: Mapping[str, LabelMaps]) -> CaseFiles:
    own = {rater: maps for rater, maps in expected.items() if key in maps.maps}
    images = [maps.images[key] for maps in own.values() if key in maps.images]
    patients = [
        maps.patients[key.case] for maps in (*own.values(), found) if key.case in maps.patients
    ]
    return CaseFiles(
        key,
        found.maps[key],
        {rater: maps.maps[key] for rater, maps in own.items()},
        patients[0] if patients else key.case,
        images[0] if images else None,
    )


def _agreed(what: str, values: Sequence[T | None]) -> T | None:
    given = [value for value in values if value is not None]
    for value in given[1:]:
        if value != given[0]:
            raise InputError(
                f"the dataset.json of predictions and references differ in `{what}`: {given[0]} and"
                f" {value}; evaluate predictions of the same dataset."
            )
    return given[-1] if given else None


def _without_reference(found: LabelMaps, keys: Sequence[ImageKey]) -> list[CaseFailure]:
    extra = sorted(found.maps.keys() - set(keys))
    return [
        CaseFailure(
            str(key), f"{found.maps[key].path.name} has no reference and was not evaluated."
        )
        for key in extra
    ]


def _left_out(common: Sequence[ImageKey], expected: Mapping[str, LabelMaps]) -> list[CaseFailure]:
    return [
        CaseFailure(str(key), f"has no mask of rater {rater}; measured against the others.")
        for key in common
        for rater, maps in expected.items()
        if key not in maps.maps
    ]


def _some(keys: Sequence[ImageKey] | Mapping[ImageKey, LabelMap]) -> str:
    names = sorted({str(key) for key in keys})
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
