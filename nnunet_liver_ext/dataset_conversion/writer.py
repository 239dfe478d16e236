"""The one writer of nnU-Net raw datasets: names, folders, manifest, splits; what the converters of single datasets share.

A run that was killed is repeated as it was and goes on: every file is complete or absent, pairs.json is written after each
case, dataset.json last.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from nnunet_liver_ext.dataset_conversion.case_conversion import PlainReader, Reader, Settings, convert_study
from nnunet_liver_ext.dataset_conversion.manifest import FILE_NAME, Case, Manifest, Source, study_key
from nnunet_liver_ext.dataset_conversion.splits import choose_hold_out, extend_splits, make_splits
from nnunet_liver_ext.environment import nnunet_folder
from nnunet_liver_ext.errors import CaseFailure, InputError, SomeCasesFailed
from nnunet_liver_ext.images import replaced, write_image
from nnunet_liver_ext.studies import Study

OURS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs", "transforms", "dataset.json", "splits_final.json", FILE_NAME)
"""What a converted dataset consists of; nothing else is ever deleted."""


def write_dataset(
    studies: Sequence[Study],
    *,
    dataset_id: int,
    name: str,
    settings: Settings | None = None,
    hold_out: Sequence[str] | int | float = 0,
    folds: int = 5,
    repeats: int = 1,
    seed: int = 0,
    processes: int = 4,
    overwrite: bool = False,
    add: bool = False,
    reader: Reader | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Converts studies into `DatasetNNN_Name` in nnUNet_raw.

    Args:
        studies: what to convert; those without masks become an inference set (imagesTs).
        dataset_id: NNN, 1..999.
        name: Name.
        settings: labels, common grid, pre-registration.
        hold_out: patients for the test set (imagesTs, labelsTs): names, a number, or a share below 1.
        folds, repeats, seed: cross-validation by patient, written as splits_final.json.
        processes: worker processes.
        overwrite: replace the dataset that is there.
        add: convert new and changed studies into the dataset that is there.
        reader: how files become images; `PlainReader` by default.
        notes: further entries of dataset.json (licence, reference, ...).

    Returns:
        The dataset's folder.

    Raises:
        InputError: nnUNet_raw is not set, another dataset is there, or the splits are impossible.
        SomeCasesFailed: at the end, listing the studies that could not be converted; all others are there.
    """
    if not 1 <= dataset_id <= 999:
        raise InputError(f"a dataset number lies in 1..999, found {dataset_id}.")
    settings = settings or Settings()
    folder = nnunet_folder("raw") / f"Dataset{dataset_id:03d}_{name}"
    _check_number_is_free(folder, dataset_id)
    manifest = _open(folder, settings, studies, overwrite=overwrite, add=add)
    plan = _plan(studies, manifest, hold_out, seed)
    _check_folds(studies, manifest, folds, plan)
    jobs = [
        _Job(study, *plan[study_key(study.patient, study.study)], settings, reader or PlainReader(), folder)
        for study in studies
    ]
    _check_nothing_changed_unasked(folder, jobs, manifest, add=add)
    failures = _convert_all(jobs, manifest, folder, processes)
    _finish(folder, manifest, settings, folds=folds, repeats=repeats, seed=seed, notes=notes or {})
    if failures:
        raise SomeCasesFailed(failures, len(studies))
    return folder


@dataclass(frozen=True)
class _Job:
    """One study to convert: everything that a worker process needs."""

    study: Study
    case: str
    held_out: bool
    settings: Settings
    reader: Reader
    folder: Path

    @property
    def part(self) -> str:
        return "Ts" if self.held_out or not self.study.masks else "Tr"

    @property
    def files(self) -> dict[str, Path]:
        masks = {f"{name} mask": path for name, path in self.study.masks.items()}
        return {**self.study.images, **masks}

    def outputs(self) -> list[Path]:
        images = [self.folder / f"images{self.part}" / f"{self.case}_{channel:04d}.nii.gz" for channel in range(2)]
        labels = [self.folder / f"labels{self.part}" / f"{self.case}.nii.gz"] if self.study.masks else []
        return images + labels


# ---------------------------------------------------------------------- what is there already


def _open(folder: Path, settings: Settings, studies: Sequence[Study], *, overwrite: bool, add: bool) -> Manifest:
    """The manifest to go on with: of the dataset that is there, or a new one."""
    if overwrite:
        for entry in OURS:
            _remove(folder / entry)
    if not (folder / FILE_NAME).exists():
        foreign = [entry for entry in OURS if (folder / entry).exists()]
        if foreign:
            raise InputError(
                f"{folder}: holds a dataset that nnunet_liver did not write ({foreign[0]}); choose another number, "
                "or replace it with --overwrite."
            )
        return Manifest(_comparable(settings))
    manifest = Manifest.load(folder)
    different = sorted(key for key, value in _comparable(settings).items() if manifest.settings.get(key) != value)
    if different:
        raise InputError(
            f"{folder}: was converted with another {' and '.join(different)}; "
            "use the same, choose another number, or replace it with --overwrite."
        )
    asked = {study_key(study.patient, study.study) for study in studies}
    if not add and (set(manifest.names) - asked):
        raise InputError(
            f"{folder}: holds studies that are not asked for now (such as {sorted(set(manifest.names) - asked)[0]}); "
            "add to it with --add, choose another number, or replace it with --overwrite."
        )
    return manifest


def _check_nothing_changed_unasked(folder: Path, jobs: Sequence[_Job], manifest: Manifest, *, add: bool) -> None:
    """A finished dataset changes only if asked to."""
    if add or not (folder / "dataset.json").exists():
        return
    new = [job for job in jobs if job.case not in manifest.cases]
    changed = [job for job in jobs if job.case in manifest.cases and not _is_unchanged(job, manifest.cases[job.case])]
    for what, found in (("is new", new), ("has changed", changed)):
        if found:
            raise InputError(
                f"{folder}: study {found[0].study.name} {what} since this dataset was converted; "
                "take it in with --add, or convert anew with --overwrite."
            )


def _is_unchanged(job: _Job, case: Case) -> bool:
    """The case was made from these very files and everything it consists of is there."""
    if case.folder != job.part or set(case.sources) != set(job.files) or not all(path.exists() for path in job.outputs()):
        return False
    root = _root(job.folder)
    return all(Source.of(path, root) == case.sources[name] for name, path in job.files.items())


def _check_number_is_free(folder: Path, dataset_id: int) -> None:
    others = [path for path in folder.parent.glob(f"Dataset{dataset_id:03d}_*") if path.name != folder.name]
    if others:
        raise InputError(f"{others[0]}: has the number {dataset_id} already; choose another with -d, or the same --name.")


# ---------------------------------------------------------------------- names and sides


def _plan(
    studies: Sequence[Study], manifest: Manifest, hold_out: Sequence[str] | int | float, seed: int
) -> dict[str, tuple[str, bool]]:
    """(pseudonym, held out) of every study; what the manifest has stays as it is."""
    known = {key.rpartition("/")[0]: name.partition("_")[0] for key, name in manifest.names.items()}
    for patient in sorted({study.patient for study in studies} - set(known)):
        known[patient] = f"P{len(known) + 1:03d}"
    new_patients = [study.patient for study in studies if not _has_patient(manifest, study.patient)]
    if new_patients and hold_out:
        manifest.held_out = sorted({*manifest.held_out, *choose_hold_out(new_patients, hold_out, seed=seed)})
    for study in sorted(studies, key=lambda study: (study.patient, study.study)):
        key = study_key(study.patient, study.study)
        if key not in manifest.names:
            number = 1 + sum(other.rpartition("/")[0] == study.patient for other in manifest.names)
            manifest.names[key] = f"{known[study.patient]}_S{number}"
    return {
        key: (manifest.names[key], study.patient in manifest.held_out)
        for study in studies
        for key in [study_key(study.patient, study.study)]
    }


def _has_patient(manifest: Manifest, patient: str) -> bool:
    return any(key.rpartition("/")[0] == patient for key in manifest.names)


def _check_folds(studies: Sequence[Study], manifest: Manifest, folds: int, plan: Mapping[str, tuple[str, bool]]) -> None:
    """Impossible splits are found before hours of conversion."""
    training = {study.patient for study in studies if study.masks and study.patient not in manifest.held_out}
    training |= {case.patient for case in manifest.cases.values() if case.folder == "Tr"}
    if training:
        make_splits({patient: patient for patient in training}, folds=folds)


# ---------------------------------------------------------------------- conversion


def _convert_all(jobs: Sequence[_Job], manifest: Manifest, folder: Path, processes: int) -> list[CaseFailure]:
    todo = [job for job in jobs if job.case not in manifest.cases or not _is_unchanged(job, manifest.cases[job.case])]
    if not todo:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").unlink(missing_ok=True)
    manifest.save(folder)
    failures = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("converting", total=len(jobs), completed=len(jobs) - len(todo))
        for job, result in _run(todo, processes):
            if isinstance(result, Case):
                manifest.cases[result.name] = result
            else:
                manifest.cases.pop(job.case, None)
                failures.append(result)
            manifest.save(folder)
            bar.advance(task)
    return sorted(failures, key=lambda failure: failure.case)


def _run(jobs: Sequence[_Job], processes: int) -> Iterator[tuple[_Job, Case | CaseFailure]]:
    if processes == 1 or len(jobs) == 1:
        for job in jobs:
            yield job, _convert(job)
        return
    threads = max(1, (os.cpu_count() or 1) // processes)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(processes, len(jobs)), context, sitk.ProcessObject.SetGlobalDefaultNumberOfThreads, (threads,)
    ) as pool:
        waiting = {pool.submit(_convert, job): job for job in jobs}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _convert(job: _Job) -> Case | CaseFailure:
    """Converts one study and writes it; of a study that fails nothing stays."""
    try:
        root = _root(job.folder)
        sources = {name: Source.of(path, root) for name, path in job.files.items()}
        converted = convert_study(job.study, job.settings, job.reader)
        images = [*converted.channels, *([] if converted.label is None else [converted.label])]
        for image, path in zip(images, job.outputs(), strict=True):
            write_image(image, path)
        if converted.transform is not None:
            with replaced(job.folder / "transforms" / f"{job.case}.h5", suffix=".h5") as unfinished:
                sitk.WriteTransform(converted.transform, str(unfinished))
    except (InputError, OSError, RuntimeError) as error:
        for path in [*job.outputs(), job.folder / "transforms" / f"{job.case}.h5"]:
            path.unlink(missing_ok=True)
        return CaseFailure(job.study.name, str(error))
    group = job.case.partition("_")[0]
    return Case(
        job.case, group, job.study.patient, job.study.study, job.part, sources, converted.native_grids, converted.grid
    )


def _root(folder: Path) -> Path:
    """What the sources' paths are relative to: the folder of raw datasets."""
    return folder.parent


# ---------------------------------------------------------------------- dataset.json and splits


def _finish(
    folder: Path, manifest: Manifest, settings: Settings, *, folds: int, repeats: int, seed: int, notes: Mapping[str, Any]
) -> None:
    groups = {name: case.group for name, case in manifest.cases.items() if case.folder == "Tr"}
    if len(set(groups.values())) >= folds:
        path = folder / "splits_final.json"
        before = json.loads(path.read_text()) if path.exists() else None
        if before is not None and len(before) == folds * repeats:
            splits = extend_splits(before, groups, folds=folds)
        else:
            splits = make_splits(groups, folds=folds, repeats=repeats, seed=seed)
        _write_json(splits, path)
    content = _dataset_json(settings, len(groups)) | dict(notes)
    path = folder / "dataset.json"
    if not path.exists() or json.loads(path.read_text()) != content:
        _write_json(content, path)


def _dataset_json(settings: Settings, num_training: int) -> dict[str, Any]:
    first, second = settings.modalities
    common = {"numTraining": num_training, "file_ending": ".nii.gz", "conversion": settings.to_json()}
    if settings.preregister:
        return {
            "channel_names": {"0": second, "1": f"{first} warped"},
            "labels": {"background": 0, **{name: label for label, name in enumerate(settings.labels, start=1)}},
            "preregistered": {"fixed": second, "moving": first},
            **common,
        }
    return {
        "channel_names": {"0": first, "1": second},
        "labels": settings.pair.dataset_labels(),
        "pair": settings.pair.to_json(),
        **common,
    }


def _comparable(settings: Settings) -> dict[str, Any]:
    """The settings as pairs.json keeps them, without the version."""
    entries = settings.to_json()
    del entries["version"]
    return entries | {"modalities": list(settings.modalities), "ignored_labels": list(settings.ignored_labels)}


def _write_json(content: Any, path: Path) -> None:
    with replaced(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
