"""Masks for new studies, each on its image's own grid: the batch around `native` and `ensemble`."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.console import progress_bar
from nnunet_liver_ext.errors import CaseFailure, InputError, SomeCasesFailed
from nnunet_liver_ext.inference.deformation import Deformation, find_deformation
from nnunet_liver_ext.inference.ensemble import Average, Ensemble
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.inference.native import Prediction, Prepared, probabilities_on_common_grid
from nnunet_liver_ext.inference.organ import OrganFinder
from nnunet_liver_ext.postprocessing.border_lesions import PAPER, postprocess_label_map
from nnunet_liver_ext.postprocessing.largest_piece import keep_largest
from nnunet_liver_ext.space.images import (
    Grid,
    array,
    image_like,
    read_image,
    read_mask,
    write_image,
)
from nnunet_liver_ext.studies.pair_studies import Study, deformation_files

FAILURES = (InputError, OSError, RuntimeError, MemoryError)
"""What may go wrong with one study while the others go on; CUDA's out-of-memory is a
RuntimeError."""


NOT_YET_KNOWN: Mapping[str, Any] = {"postprocessing": []}
"""What earlier versions did not write into prediction.json, as it was then."""


@dataclass(frozen=True)
class Found:
    """All that was found in one study."""

    predictions: dict[str, Prediction]
    """By modality name."""
    deformation: Deformation | None = None
    """Of image 1 onto image 2."""
    inside: np.ndarray | None = None
    """Organ mask on the image's own grid, bool (z, y, x)."""
    organ: sitk.Image | None = None
    """The same, if it was found by a model."""


def predict_studies(
    model: Model | Sequence[Model],
    studies: Sequence[Study],
    out: Path,
    *,
    probabilities: bool = False,
    overwrite: bool = False,
    organ_model: Model | Sequence[Model] | None = None,
) -> None:
    """Predicts every study and writes NAME_T1.nii.gz, NAME_T2.nii.gz into `out`; for an ordinary
    dataset NAME.nii.gz.

    A model that was loaded with its registors also gives NAME_deformation.nii.gz, which moves T1
    onto T2, and NAME_T1_on_T2.nii.gz, the T1 mask moved so (`inference.deformation`).

    A tumour model needs an organ mask: `Study.masks["liver"]`, or `organ_model` finds it
    (liver/NAME.nii.gz). Lesions are then restricted to the organ
    (`inference.lesion_postprocessing`).

    Studies of which all is there already are left alone unless `overwrite`, so an interrupted run
    continues. The next study is read while one is predicted.

    Args:
        model: a loaded model, or several whose probabilities are averaged (`inference.ensemble`).
            Where its rules say so, only the largest piece of a class is kept in a mask
            (`evaluation.postprocessing`).
        studies: what to predict.
        out: folder for the masks; also gets prediction.json and dataset.json (class names).
        probabilities: write NAME_T1.npz with `probabilities` (K, z, y, x) too, as they are without
            rules.
        overwrite: predict again what is there.
        organ_model: finds the organ mask in studies that have none.

    Raises:
        InputError: `out` holds predictions of another model, models do not go together, or the disk
            is full.
        SomeCasesFailed: at the end, listing the studies that could not be predicted; all others are
            written.
    """
    ensemble = Ensemble.of(model)
    finder = None if organ_model is None else OrganFinder.of(organ_model, ensemble)
    out.mkdir(parents=True, exist_ok=True)
    description = (
        ensemble.describe()
        if finder is None
        else ensemble.describe() | {"organ_found_by": finder.describe()}
    )
    describe_predictions(description, ensemble.class_names, out, overwrite=overwrite)
    todo = [
        study for study in studies if overwrite or not _is_done(ensemble, study, out, probabilities)
    ]
    failures: list[CaseFailure] = []
    with progress_bar() as bar, ThreadPoolExecutor(1) as writer:
        task = bar.add_task("predicting", total=len(studies), completed=len(studies) - len(todo))
        previous: tuple[Study, Future[None]] | None = None
        for study, images in _read_ahead(ensemble, todo, finder is not None):
            found, failure = _predict(ensemble, study, images, finder)
            failures += [*failure, *_finished(previous)]
            previous = (study, writer.submit(_write, ensemble, study, found, out, probabilities))
            bar.advance(task)
        failures += _finished(previous)
    if failures:
        raise SomeCasesFailed(failures, len(studies))


def _finished(writing: tuple[Study, Future[None]] | None) -> list[CaseFailure]:
    """Waits until a study is written, so that no more than one waits in memory; why it could not
    be, if so.

    Raises:
        InputError: the disk is full: nothing that follows could be written either.
    """
    if writing is None:
        return []
    study, future = writing
    try:
        future.result()
    except OSError as error:
        if error.errno == errno.ENOSPC or "disk full" in str(error):
            raise InputError(
                f"{study.name}: {error}. Make room and run the same command again, it goes on."
            ) from None
        return [CaseFailure(study.name, f"cannot be written: {error.strerror or error}.")]
    return []


def reason_of(error: BaseException) -> str:
    """One line of what went wrong; SimpleITK puts what matters into its last."""
    return (
        str(error)
        if isinstance(error, InputError)
        else (str(error).strip().splitlines() or [type(error).__name__])[-1]
    )


@dataclass(frozen=True)
class Opened:
    """A study that was read."""

    images: dict[str, sitk.Image]
    """By modality name, the organ mask by the organ's."""
    prepared: tuple[Prepared, ...] | None
    """On the grid of each model; None where the organ mask is still to be found."""


def _read_ahead(
    ensemble: Ensemble, studies: Sequence[Study], finds_organ: bool
) -> Iterator[tuple[Study, Future[Opened]]]:
    """Each study with its images being read and put on their grids, the next one meanwhile."""
    with ThreadPoolExecutor(1) as reader:
        waiting: list[tuple[Study, Future[Opened]]] = []
        for study in studies:
            waiting.append((study, reader.submit(_read, ensemble, study, finds_organ)))
            if len(waiting) > 1:
                yield waiting.pop(0)
        yield from waiting


def _read(ensemble: Ensemble, study: Study, finds_organ: bool) -> Opened:
    images = {
        name: read_image(path) for name, path in study.images.items() if name in ensemble.modalities
    }
    if ensemble.organ is not None and ensemble.organ in study.masks:
        images[ensemble.organ] = read_mask(study.masks[ensemble.organ])
    elif ensemble.organ is not None and finds_organ:
        return Opened(images, None)
    return Opened(images, ensemble.prepare(images))


def _predict(
    ensemble: Ensemble, study: Study, reading: Future[Opened], finder: OrganFinder | None
) -> tuple[Found, list[CaseFailure]]:
    """What was found in a study, and what could not be; without a deformation there are still
    masks."""
    found, average = Found({}), Average()
    try:
        opened, organ = reading.result(), None
        if opened.prepared is None and finder is not None:
            organ = finder.find(opened.images)
            opened = Opened(opened.images, ensemble.prepare({**opened.images, finder.organ: organ}))
        for model, prepared in zip(ensemble.models, opened.prepared or (), strict=True):
            on_common_grid = probabilities_on_common_grid(model, prepared)
            average.add(on_common_grid, prepared)
        found = Found(average.decided(), inside=prepared.organ, organ=organ)
        if ensemble.registors:  # of the one model that there is then
            deformation = find_deformation(model, on_common_grid, prepared.grid, prepared.native)
            found = Found(found.predictions, deformation)
    except FAILURES as error:
        return found, [CaseFailure(study.name, reason_of(error))]
    return found, []


def _write(ensemble: Ensemble, study: Study, found: Found, out: Path, probabilities: bool) -> None:
    if found.deformation is not None:
        field_file, mask_file = deformation_files(study.name, ensemble.modalities)
        write_image(found.deformation.field, out / field_file)
        write_image(
            _postprocessed(found.deformation.mask, ensemble.kept(ensemble.modalities[0])),
            out / mask_file,
        )
    if found.organ is not None:
        write_image(found.organ, out / str(ensemble.organ) / f"{study.name}.nii.gz")
    for modality, stem in ensemble.files(study).items():
        if modality not in found.predictions:
            continue
        prediction = found.predictions[modality]
        if probabilities:
            with atomic_write(out / f"{stem}.npz") as unfinished:
                np.savez_compressed(unfinished, probabilities=prediction.probabilities)
        mask = prediction.mask
        if found.inside is not None and ensemble.restricts_lesions:
            lesions = [[label] for label in range(1, len(ensemble.class_names))]
            kernels = PAPER.at(Grid.from_image(mask).spacing_mm[1:])
            mask = image_like(
                postprocess_label_map(array(mask), found.inside, lesions, kernels=kernels),
                Grid.from_image(mask),
            )
        write_image(_postprocessed(mask, ensemble.kept(modality)), out / f"{stem}.nii.gz")


def _postprocessed(mask: sitk.Image, kept: Sequence[int]) -> sitk.Image:
    return image_like(keep_largest(array(mask), kept), Grid.from_image(mask)) if kept else mask


def _is_done(ensemble: Ensemble, study: Study, out: Path, probabilities: bool) -> bool:
    stems = list(ensemble.files(study).values())
    endings = (".nii.gz", ".npz") if probabilities else (".nii.gz",)
    files = [f"{stem}{ending}" for stem in stems for ending in endings]
    if ensemble.registors:
        files += deformation_files(study.name, ensemble.modalities)
    return bool(stems) and all((out / name).exists() for name in files)


def describe_predictions(
    description: Mapping[str, Any], class_names: Sequence[str], out: Path, *, overwrite: bool
) -> None:
    """Writes what the masks in `out` are of (prediction.json) and their classes (dataset.json).

    Raises:
        InputError: there are masks of something else, and `overwrite` is False.
    """
    path = out / "prediction.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else description
    before = {
        **{key: value for key, value in NOT_YET_KNOWN.items() if key in description},
        **before,
    }
    if not overwrite and before != description:
        raise InputError(
            f"{out}: holds predictions of another model, of other studies or with other options;"
            " choose another folder, or replace them with --overwrite."
        )
    labels = {name: label for label, name in enumerate(class_names)}
    for target, content in (
        (path, description),
        (out / "dataset.json", {"labels": labels, "file_ending": ".nii.gz"}),
    ):
        with atomic_write(target) as unfinished:
            unfinished.write_text(json.dumps(content, indent=2), encoding="utf-8")
