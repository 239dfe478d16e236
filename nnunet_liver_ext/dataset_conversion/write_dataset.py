"""The one writer of nnU-Net raw datasets: names, folders, manifest and splits.

All converters share it. What is strange about cases is printed at the end and kept in pairs.json.

A run that was killed is repeated as it was and goes on: every file is complete or absent,
pairs.json is written after each case, dataset.json last.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_liver_ext.console import print_notes, progress_bar
from nnunet_liver_ext.dataset_conversion.case_notes import collect_notes
from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.dataset_description import write_description
from nnunet_liver_ext.dataset_conversion.image_reader import ImageReader, PlainReader
from nnunet_liver_ext.dataset_conversion.intensity_ranges import intensities_with_ranges
from nnunet_liver_ext.dataset_conversion.resume_conversion import (
    check_unchanged,
    open_manifest,
    remove_dataset,
    remove_strays,
)
from nnunet_liver_ext.dataset_conversion.splits import (
    Splitting,
    check_folds,
    choose_hold_out,
)
from nnunet_liver_ext.dataset_conversion.write_case import CaseJob, convert_case, is_converted
from nnunet_liver_ext.dataset_json.manifest import Manifest, ManifestCase
from nnunet_liver_ext.environment import nnunet_folder
from nnunet_liver_ext.errors import CaseFailure, InputError, SomeCasesFailed
from nnunet_liver_ext.folder_lock import locked_folder
from nnunet_liver_ext.studies.study import Study
from nnunet_liver_ext.workers import run_in_processes


def write_dataset(
    studies: Sequence[Study],
    *,
    dataset_id: int,
    name: str,
    settings: ConversionSettings | None = None,
    hold_out: Sequence[str] | int | float = 0,
    folds: int = 5,
    repeats: int = 1,
    seed: int = 0,
    processes: int = 4,
    overwrite: bool = False,
    add: bool = False,
    reader: ImageReader | None = None,
    notes: Mapping[str, Any] | None = None,
    source_root: Path | None = None,
) -> Path:
    """Converts studies into `DatasetNNN_Name` in nnUNet_raw.

    Args:
        studies: what to convert; those without masks become an inference set (imagesTs).
        dataset_id: NNN, 1..999.
        name: Name.
        settings: layout, labels, grid, intensities.
        hold_out: patients for the test set (imagesTs, labelsTs): names, a number, or a share below
            1; with `add`, of the new patients.
        folds, repeats, seed: cross-validation by patient, written as splits_final.json.
        processes: worker processes.
        overwrite: replace the dataset that is there.
        add: convert new and changed studies into the dataset that is there.
        reader: how files become images; `PlainReader` by default.
        notes: further entries of dataset.json (licence, reference, ...).
        source_root: what the sources' paths in pairs.json are relative to, if all lie in it; else
            the folder that all share.

    Returns:
        The dataset's folder.

    Raises:
        InputError: nnUNet_raw is not set, another dataset is there, another process writes it, it
            cannot be written, or the splits are impossible.
        SomeCasesFailed: at the end, listing the studies that could not be converted; all others are
            there.
    """
    settings = settings or ConversionSettings()
    if overwrite and add:
        raise InputError("--overwrite and --add exclude each other: choose one.")
    folder = new_dataset_folder(dataset_id, name)
    _check_distinct(studies)
    splitting = Splitting(folds, repeats, seed, hold_out)
    with locked_folder(folder):
        new_dataset_folder(dataset_id, name)  # again: another may have the number by now
        manifest = open_manifest(folder, studies, settings, splitting, overwrite=overwrite, add=add)
        fresh = [study for study in studies if not manifest.knows(study)]
        _hold_out(manifest, studies, splitting)
        manifest.add_names(studies)
        jobs = _make_jobs(studies, manifest, settings, reader or PlainReader(), folder, source_root)
        _check_folds(manifest, jobs, folds)
        todo = [job for job in jobs if not _is_done(job, manifest)]
        if not add and not overwrite:
            check_unchanged(folder, todo, manifest, fresh)
        try:
            if settings.intensities.kind == "dataset":
                settings = replace(
                    settings, intensities=intensities_with_ranges(manifest, jobs, processes)
                )
                todo = [replace(job, settings=settings) for job in todo]
            if overwrite:
                remove_dataset(folder)
            failures = _convert(todo, manifest, folder, processes, total=len(jobs))
            print_notes(collect_notes(manifest, studies))
            write_description(folder, manifest, settings, splitting, dict(notes or {}), failures)
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be written ({error.strerror or error}); mend that and run the"
                " same command again, it goes on."
            ) from error
    if failures:
        raise SomeCasesFailed(failures, len(studies))
    return folder


def _make_jobs(
    studies: Sequence[Study],
    manifest: Manifest,
    settings: ConversionSettings,
    reader: ImageReader,
    folder: Path,
    source_root: Path | None,
) -> list[CaseJob]:
    """What there is to do for each study if nothing is done yet."""
    root = _source_root(studies, source_root)
    return [
        CaseJob(
            study,
            manifest.name(study),
            study.patient in manifest.held_out,
            settings,
            reader,
            folder,
            root,
        )
        for study in studies
    ]


def _is_done(job: CaseJob, manifest: Manifest) -> bool:
    return job.case in manifest.cases and is_converted(job, manifest.cases[job.case])


def new_dataset_folder(dataset_id: int, name: str) -> Path:
    """Where a dataset is written.

    Raises:
        InputError: nnUNet_raw is not set, the number or the name cannot be, or another dataset has
            the number.
    """
    if not 1 <= dataset_id <= 999:
        raise InputError(f"a dataset number lies in 1..999, found {dataset_id}.")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(f"{name!r} is no name for a dataset: use letters, digits, - and _.")
    folder = nnunet_folder("raw") / f"Dataset{dataset_id:03d}_{name}"
    others = [
        path
        for path in folder.parent.glob(f"Dataset{dataset_id:03d}_*")
        if path.name != folder.name
    ]
    if others:
        raise InputError(
            f"{others[0]}: has the number {dataset_id} already; choose another with -d, or the same"
            " --name."
        )
    return folder


def _check_distinct(studies: Sequence[Study]) -> None:
    for (patient, study), count in Counter(
        (study.patient, study.study) for study in studies
    ).items():
        if count > 1:
            raise InputError(
                f"two studies are {patient} {study}: give each study of a patient its own name."
            )


def _source_root(studies: Sequence[Study], wanted: Path | None) -> Path:
    """The folder that paths of sources are relative to.

    The paths never lead out of it, so they do not tell where on this machine the sources are.
    """
    files = [path.absolute() for study in studies for path in study.files().values()]
    if wanted is not None and all(path.is_relative_to(wanted.absolute()) for path in files):
        return wanted.absolute()
    return Path(os.path.commonpath([path.parent for path in files])) if files else Path()


# ---------------------------------------------------------------------- sides


def _hold_out(manifest: Manifest, studies: Sequence[Study], splitting: Splitting) -> None:
    """Chooses among new patients with masks; those that are there stay on their side."""
    new = sorted({study.patient for study in studies if study.is_labelled} - manifest.names.keys())
    wanted = splitting.hold_out
    if not isinstance(wanted, (int, float)):
        wanted = [patient for patient in wanted if patient not in manifest.held_out]
        late = sorted(set(wanted) & manifest.names.keys())
        if late:
            raise InputError(
                f"--hold-out: {', '.join(late)} cannot leave the training set; convert anew with"
                " --overwrite."
            )
    others = any(case.folder == "Tr" for case in manifest.cases.values())
    if wanted and (new or isinstance(wanted, list)):
        manifest.held_out = sorted(
            {*manifest.held_out, *choose_hold_out(new, wanted, seed=splitting.seed, others=others)}
        )


def _check_folds(manifest: Manifest, jobs: Sequence[CaseJob], folds: int) -> None:
    """Impossible splits are found before hours of conversion."""
    patients = {job.study.patient for job in jobs if job.part == "Tr"}
    patients |= {case.patient for case in manifest.cases.values() if case.folder == "Tr"}
    if patients:
        check_folds(len(patients), folds)


# ---------------------------------------------------------------------- conversion


def _convert(
    todo: Sequence[CaseJob], manifest: Manifest, folder: Path, processes: int, *, total: int
) -> list[CaseFailure]:
    if not todo:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").unlink(missing_ok=True)
    for job in todo:
        manifest.cases.pop(job.case, None)
    manifest.save(folder)
    remove_strays(folder, manifest)
    failures = []
    with progress_bar() as bar:
        task = bar.add_task("converting", total=total, completed=total - len(todo))
        for _, result in run_in_processes(convert_case, todo, processes):
            if isinstance(result, ManifestCase):
                manifest.cases[result.name] = result
                manifest.save(folder)
            else:
                failures.append(result)
            bar.advance(task)
    return sorted(failures, key=lambda failure: failure.case)
