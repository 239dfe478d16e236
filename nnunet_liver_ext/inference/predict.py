"""Masks for new studies, each on its image's own grid: the batch around `native`."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_liver_ext.console import progress_bar
from nnunet_liver_ext.errors import CaseFailure, InputError, SomeCasesFailed
from nnunet_liver_ext.images import read_image, replaced, write_image
from nnunet_liver_ext.inference.deformation import Deformation, find_deformation
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.inference.native import (
    Prediction,
    Prepared,
    on_native_grids,
    prepare,
    probabilities_on_common_grid,
)
from nnunet_liver_ext.studies import Study, deformation_files

FAILURES = (InputError, OSError, RuntimeError, MemoryError)
"""What may go wrong with one study while the others go on; CUDA's out-of-memory is a RuntimeError."""


@dataclass(frozen=True)
class Found:
    """All that was found in one study."""

    predictions: dict[str, Prediction]
    """By modality name."""
    deformation: Deformation | None = None
    """Of image 1 onto image 2."""


def predict_studies(
    model: Model, studies: Sequence[Study], out: Path, *, probabilities: bool = False, overwrite: bool = False
) -> None:
    """Predicts every study and writes NAME_T1.nii.gz, NAME_T2.nii.gz into `out`.

    A model that was loaded with its registors also gives NAME_deformation.nii.gz, which moves T1 onto T2, and
    NAME_T1_on_T2.nii.gz, the T1 mask moved so (`inference.deformation`).

    Studies of which all is there already are left alone unless `overwrite`, so an interrupted run continues. The next
    study is read while one is predicted.

    Args:
        model: a loaded model.
        studies: what to predict.
        out: folder for the masks; also gets prediction.json and dataset.json (class names).
        probabilities: write NAME_T1.npz with `probabilities` (K, z, y, x) too.
        overwrite: predict again what is there.

    Raises:
        InputError: `out` holds predictions of another model, or the disk is full.
        SomeCasesFailed: at the end, listing the studies that could not be predicted; all others are written.
    """
    out.mkdir(parents=True, exist_ok=True)
    _describe(model, out, overwrite=overwrite)
    todo = [study for study in studies if overwrite or not _is_done(model, study, out, probabilities)]
    failures: list[CaseFailure] = []
    with progress_bar() as bar, ThreadPoolExecutor(1) as writer:
        task = bar.add_task("predicting", total=len(studies), completed=len(studies) - len(todo))
        previous: tuple[Study, Future[None]] | None = None
        for study, prepared in _read_ahead(model, todo):
            found, failure = _predict(model, study, prepared)
            failures += [*failure, *_finished(previous)]
            previous = (study, writer.submit(_write, model, study, found, out, probabilities))
            bar.advance(task)
        failures += _finished(previous)
    if failures:
        raise SomeCasesFailed(failures, len(studies))


def _finished(writing: tuple[Study, Future[None]] | None) -> list[CaseFailure]:
    """Waits until a study is written, so that no more than one waits in memory; why it could not be, if so.

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
            raise InputError(f"{study.name}: {error}. Make room and run the same command again, it goes on.") from None
        return [CaseFailure(study.name, f"cannot be written: {error.strerror or error}.")]
    return []


def _reason(error: BaseException) -> str:
    """One line of what went wrong; SimpleITK puts what matters into its last."""
    return str(error) if isinstance(error, InputError) else (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _read_ahead(model: Model, studies: Sequence[Study]) -> Iterator[tuple[Study, Future[Prepared]]]:
    """Each study with its images being read and put on their grid, the next one meanwhile."""
    with ThreadPoolExecutor(1) as reader:
        waiting: list[tuple[Study, Future[Prepared]]] = []
        for study in studies:
            waiting.append((study, reader.submit(_read, model, study)))
            if len(waiting) > 1:
                yield waiting.pop(0)
        yield from waiting


def _read(model: Model, study: Study) -> Prepared:
    images = {name: read_image(path) for name, path in study.images.items() if name in model.modalities}
    return prepare(model, images)


def _predict(model: Model, study: Study, reading: Future[Prepared]) -> tuple[Found, list[CaseFailure]]:
    """What was found in a study, and what could not be; without a deformation there are still masks."""
    found = Found({})
    try:
        prepared = reading.result()
        on_common_grid = probabilities_on_common_grid(model, prepared)
        found = Found(on_native_grids(on_common_grid, prepared))
        if model.registors:
            found = Found(found.predictions, find_deformation(model, on_common_grid, prepared.grid, prepared.native))
    except FAILURES as error:
        return found, [CaseFailure(study.name, _reason(error))]
    return found, []


def _write(model: Model, study: Study, found: Found, out: Path, probabilities: bool) -> None:
    if found.deformation is not None:
        field_file, mask_file = deformation_files(study.name, model.modalities)
        write_image(found.deformation.field, out / field_file)
        write_image(found.deformation.mask, out / mask_file)
    for modality, prediction in found.predictions.items():
        if probabilities:
            with replaced(out / f"{study.name}_{modality}.npz") as unfinished:
                np.savez_compressed(unfinished, probabilities=prediction.probabilities)
        write_image(prediction.mask, out / f"{study.name}_{modality}.nii.gz")


def _is_done(model: Model, study: Study, out: Path, probabilities: bool) -> bool:
    names = model.modalities if model.pair is not None else model.modalities[1:]
    stems = [f"{study.name}_{name}" for name in names if name in study.images]
    endings = (".nii.gz", ".npz") if probabilities else (".nii.gz",)
    files = [f"{stem}{ending}" for stem in stems for ending in endings]
    if model.registors:
        files += deformation_files(study.name, model.modalities)
    return bool(stems) and all((out / name).exists() for name in files)


def _describe(model: Model, out: Path, *, overwrite: bool) -> None:
    """Writes which model the masks are of, and refuses to mix the masks of two."""
    description, path = model.describe(), out / "prediction.json"
    if path.exists() and not overwrite and json.loads(path.read_text()) != description:
        raise InputError(
            f"{out}: holds predictions of another model or with other options; choose another folder, or replace them "
            "with --overwrite."
        )
    labels = {name: label for label, name in enumerate(model.class_names)}
    for target, content in ((path, description), (out / "dataset.json", {"labels": labels, "file_ending": ".nii.gz"})):
        with replaced(target) as unfinished:
            unfinished.write_text(json.dumps(content, indent=2))
