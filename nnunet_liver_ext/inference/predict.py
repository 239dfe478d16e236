"""Masks for new studies in files: the batch around `study_prediction`."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.console import print_notes, progress_bar
from nnunet_liver_ext.errors import (
    CASE_FAILURES,
    CaseFailure,
    InputError,
    SomeCasesFailed,
    failure_reason,
)
from nnunet_liver_ext.folder_lock import locks_folder
from nnunet_liver_ext.inference.ensemble import Ensemble
from nnunet_liver_ext.inference.mask_format import check_axes, check_format, write_mask
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.inference.prediction_json import describe_predictions
from nnunet_liver_ext.inference.study_prediction import (
    LoadedStudy,
    StudyPrediction,
    StudyPredictor,
)
from nnunet_liver_ext.postprocessing.border_lesions import PAPER
from nnunet_liver_ext.postprocessing.border_lesions_folder import record_kernels
from nnunet_liver_ext.space.images import Grid, write_image
from nnunet_liver_ext.studies.file_names import deformation_files
from nnunet_liver_ext.studies.study import Study


@locks_folder("out")
def predict_studies(
    model: Model | Sequence[Model],
    studies: Sequence[Study],
    out: Path,
    *,
    probabilities: bool = False,
    overwrite: bool = False,
    organ_model: Model | Sequence[Model] | None = None,
    file_format: str = "nii.gz",
) -> None:
    """Predicts every study and writes NAME_T1.nii.gz and NAME_T2.nii.gz (or NAME.nii.gz) to `out`.

    A model that was loaded with its registors also gives NAME_deformation.nii.gz, which moves T1
    onto T2, and NAME_T1_on_T2.nii.gz, the T1 mask moved so (`inference.pair_deformation`).

    A tumour model needs an organ mask: `Study.masks["liver"]`, or `organ_model` finds it
    (liver/NAME.nii.gz). Lesions are then restricted to the organ (`postprocessing.border_lesions`);
    prediction.json says how wide the kernels were.

    Studies of which all is there already are left alone unless `overwrite`, so an interrupted run
    continues. The next study is read while one is predicted. What is strange about the images is
    printed at the end.

    Args:
        model: a loaded model, or several whose probabilities are averaged (`inference.ensemble`).
            Where its rules say so, only the largest piece of a class is kept in a mask
            (`postprocessing.largest_piece`).
        studies: what to predict.
        out: folder for the masks, not that of the images; also gets prediction.json and
            dataset.json (class names).
        probabilities: write NAME_T1.npz with `probabilities` (K, z, y, x) too, as they are without
            rules.
        overwrite: predict again what is there.
        organ_model: finds the organ mask in studies that have none.
        file_format: of the masks, one of `mask_format.FORMATS`; deformations and organ masks are
            NIfTI.

    Raises:
        InputError: there is no such format, `out` holds the images or predictions of another model,
            models do not go together, or the disk is full.
        SomeCasesFailed: at the end, listing the studies that could not be predicted; all others are
            written.
    """
    check_format(file_format)
    _refuse_images_in(out, studies)
    predictor = StudyPredictor.of(model, organ_model)
    ensemble = predictor.ensemble
    out.mkdir(parents=True, exist_ok=True)
    replaced_format = describe_predictions(
        predictor.describe(),
        ensemble.class_names,
        out,
        overwrite=overwrite,
        file_format=file_format,
    )
    files = _MaskFiles(ensemble, out, probabilities, file_format, replaced_format)
    todo = [study for study in studies if overwrite or not files.are_there(study)]
    failures: list[CaseFailure] = []
    notes: dict[str, tuple[str, ...]] = {}
    with progress_bar() as bar, ThreadPoolExecutor(1) as writer:
        task = bar.add_task("predicting", total=len(studies), completed=len(studies) - len(todo))
        writing: tuple[Study, Future[None]] | None = None
        for study, reading in _read_ahead(predictor, todo):
            prediction, failed = _predict(predictor, study, reading, file_format)
            failures += [*failed, *_finish_writing(writing)]
            notes[study.name] = prediction.notes
            future = writer.submit(files.write, study, prediction)
            writing = (study, future)
            bar.advance(task)
        failures += _finish_writing(writing)
    print_notes(notes)
    if failures:
        raise SomeCasesFailed(failures, len(studies))


def _read_ahead(
    predictor: StudyPredictor, studies: Sequence[Study]
) -> Iterator[tuple[Study, Future[LoadedStudy]]]:
    """Each study with its images being read and put on their grids, the next one meanwhile."""
    with ThreadPoolExecutor(1) as reader:
        waiting: list[tuple[Study, Future[LoadedStudy]]] = []
        for study in studies:
            waiting.append((study, reader.submit(_load, predictor, study)))
            if len(waiting) > 1:
                yield waiting.pop(0)
        yield from waiting


def _load(predictor: StudyPredictor, study: Study) -> LoadedStudy:
    ensemble = predictor.ensemble
    paths = {name: path for name, path in study.images.items() if name in ensemble.modalities}
    masks = {name: path for name, path in study.masks.items() if name == ensemble.organ}
    return predictor.load({**paths, **masks})


def _predict(
    predictor: StudyPredictor, study: Study, reading: Future[LoadedStudy], file_format: str
) -> tuple[StudyPrediction, list[CaseFailure]]:
    """The masks of a study, none if it failed, and what could not be found."""
    try:
        loaded = reading.result()
        for name in predictor.ensemble.file_stems(study):
            check_axes(loaded.images[name], file_format)
        prediction = predictor.predict(loaded)
    except CASE_FAILURES as error:
        return StudyPrediction({}, {}), [CaseFailure(study.name, failure_reason(error))]
    missing = prediction.no_deformation
    return prediction, [CaseFailure(study.name, missing)] if missing else []


def _finish_writing(writing: tuple[Study, Future[None]] | None) -> list[CaseFailure]:
    """Waits until a study is written, so that only one waits in memory; says if it could not be.

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


def _refuse_images_in(out: Path, studies: Sequence[Study]) -> None:
    """Masks are named as their images: images in `out` would be taken for masks or replaced."""
    for study in studies:
        for image in study.images.values():
            if image.resolve().parent == out.resolve():
                raise InputError(
                    f"{out}: holds the image {image.name}, which a mask could not be told from;"
                    " choose another folder for the masks."
                )


@dataclass(frozen=True)
class _MaskFiles:
    """What is written of each study."""

    ensemble: Ensemble
    out: Path
    probabilities: bool
    file_format: str
    replaced_format: str
    """Of earlier masks, which the new ones replace."""

    def write(self, study: Study, prediction: StudyPrediction) -> None:
        if prediction.deformation is not None:
            field_file, mask_file = deformation_files(study.name, self.ensemble.modalities)
            write_image(prediction.deformation.field, self.out / field_file)
            write_image(prediction.deformation.mask, self.out / mask_file)
        if prediction.organ is not None:
            folder = self.out / str(self.ensemble.organ)
            write_image(prediction.organ, folder / f"{study.name}.nii.gz")
        for modality, stem in self.ensemble.file_stems(study).items():
            if modality in prediction.masks:
                self._write_image(stem, prediction, modality)

    def _write_image(self, stem: str, prediction: StudyPrediction, modality: str) -> None:
        if self.probabilities:
            with atomic_write(self.out / f"{stem}.npz") as unfinished:
                np.savez_compressed(unfinished, probabilities=prediction.probabilities[modality])
        mask = prediction.masks[modality]
        if self.ensemble.restricts_lesions:
            in_plane_mm = Grid.from_image(mask).spacing_mm[1:]
            record_kernels(self.out, stem, PAPER.at(in_plane_mm), in_plane_mm)
        write_mask(mask, self.out / f"{stem}.{self.file_format}")
        if self.replaced_format != self.file_format:
            (self.out / f"{stem}.{self.replaced_format}").unlink(missing_ok=True)

    def are_there(self, study: Study) -> bool:
        """Whether all files of a study are there."""
        stems = list(self.ensemble.file_stems(study).values())
        endings = (self.file_format, "npz") if self.probabilities else (self.file_format,)
        files = [f"{stem}.{ending}" for stem in stems for ending in endings]
        if self.ensemble.registors:
            files += deformation_files(study.name, self.ensemble.modalities)
        return bool(stems) and all((self.out / name).exists() for name in files)
