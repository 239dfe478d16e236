"""Which files belong together: each prediction, its references, and the images of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nnunet_liver_ext.errors import CaseFailure, InputError
from nnunet_liver_ext.evaluation.files.described_labels import Classes, describe_labels
from nnunet_liver_ext.evaluation.files.find_label_maps import (
    ImageKey,
    LabelMaps,
    find_images,
    find_predictions,
    find_references,
    modalities_of,
    renumber,
)
from nnunet_liver_ext.evaluation.files.read_label_map import LabelMap
from nnunet_liver_ext.pairing import PairLabels

T = TypeVar("T")
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
        """What a result depends on beside the files: how each is read, raters in their order."""
        sides = [("prediction", self.prediction)]
        sides += [(f"reference {rater}", maps) for rater, maps in self.references.items()]
        return {
            "sides": [[what, maps.half, maps.num_classes, maps.renumber] for what, maps in sides]
        }

    def reason(self, error: Exception) -> str:
        """What went wrong, without folders and without file names that say more than the case."""
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
    """The cases of which there are a prediction and a reference, and what belongs to no case."""

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
    *,
    images: Path | None = None,
    fat: Path | None = None,
) -> MatchedCases:
    """Finds each reference's prediction, and the images of both.

    Args:
        predictions: folder of label maps.
        references: folder of label maps, or studies; several by rater.
        reference_classes: labels of each class in the references if they are not those of
            dataset.json; what else the references hold is background then.
        images: as for `find_images`; studies bring their own.
        fat: images of the fat fraction in percent, as for `find_images`.

    Raises:
        InputError: a side is missing or empty, the dataset.json of two sides contradict each other,
            or nothing belongs together.
    """
    by_rater = references if isinstance(references, Mapping) else {ONLY_RATER: references}
    if PREDICTION in by_rater:
        raise InputError(f"a rater cannot be called {PREDICTION!r}; give another name.")
    pair, classes = _agree_on_labels(predictions, by_rater, reference_classes)
    predicted = find_predictions(predictions, pair)
    expected = {rater: find_references(path, pair) for rater, path in by_rater.items()}
    if reference_classes is not None and classes is not None:
        expected = {
            rater: renumber(maps, reference_classes, classes) for rater, maps in expected.items()
        }
    keys = sorted({key for maps in expected.values() for key in maps.maps})
    common = [key for key in keys if key in predicted.maps]
    if not common:
        places = " and ".join(path.name for path in by_rater.values())
        raise InputError(
            f"no prediction belongs to a reference: {predictions.name} has"
            f" {_some(predicted.maps)}, {places} has {_some(keys)}; name both alike, such as"
            " CASE_T1.nii.gz or CASE.nii.gz."
        )
    pictures, fat_images = (
        find_images(path, modalities_of(pair)) if path else {} for path in (images, fat)
    )
    cases = [_case_files(key, predicted, expected, pictures, fat_images) for key in common]
    missing = [
        CaseFailure(str(key), "the reference has no prediction.")
        for key in keys
        if key not in predicted.maps
    ]
    notes = _without_reference(predicted, keys) + _left_out(common, expected)
    return MatchedCases(cases, classes, modalities_of(pair), tuple(by_rater), missing, notes)


def _agree_on_labels(
    predictions: Path, by_rater: Mapping[str, Path], reference_classes: Classes | None
) -> tuple[PairLabels | None, Classes | None]:
    """What every dataset.json says of pairs and classes; None where none says anything."""
    described = [describe_labels(path) for path in (predictions, *by_rater.values())]
    pair = _agree("pair", [labels.pair for labels in described])
    if reference_classes is None:
        return pair, _agree("labels", [labels.classes for labels in described])
    # The numbers of the references are given, so what a dataset.json says of them does not count.
    by_number = {name: (label,) for label, name in enumerate(reference_classes, start=1)}
    return pair, described[0].classes or by_number


def _case_files(
    key: ImageKey,
    predicted: LabelMaps,
    expected: Mapping[str, LabelMaps],
    images: Mapping[ImageKey, Path],
    fat: Mapping[ImageKey, Path],
) -> CaseFiles:
    by_rater = {rater: maps for rater, maps in expected.items() if key in maps.maps}
    sides = (*by_rater.values(), predicted)
    of_studies = [maps.images[key] for maps in sides if key in maps.images]
    patients = [maps.patients[key.case] for maps in sides if key.case in maps.patients]
    return CaseFiles(
        key,
        predicted.maps[key],
        {rater: maps.maps[key] for rater, maps in by_rater.items()},
        patients[0] if patients else key.case,
        images.get(key) or next(iter(of_studies), None),
        fat.get(key),
    )


def _agree(what: str, values: Sequence[T | None]) -> T | None:
    given = [value for value in values if value is not None]
    for value in given[1:]:
        if value != given[0]:
            raise InputError(
                f"the dataset.json of predictions and references differ in `{what}`: {given[0]} and"
                f" {value}; evaluate predictions of the same dataset."
            )
    return given[-1] if given else None


def _without_reference(predicted: LabelMaps, keys: Sequence[ImageKey]) -> list[CaseFailure]:
    extra = sorted(predicted.maps.keys() - set(keys))
    return [
        CaseFailure(
            str(key), f"{predicted.maps[key].path.name} has no reference and was not evaluated."
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
