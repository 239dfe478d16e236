"""Phantom studies as files, in the layout that any user's own studies have."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from rich.progress import track

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.dataset_conversion.phantom.pair import (
    PhantomPair,
    make_pair,
)
from nnunet_liver_ext.dataset_conversion.phantom.scan_protocols import Difficulty, choose_protocol
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.folder_lock import locks_folder
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.space.images import IMAGE_ENDINGS, Grid, array, image_like, write_image

OPTIONS_FILE = "phantom.json"
COLUMNS = ("patient", "study", "t1", "t2", "t1_mask", "t2_mask")
PARTS = ("T1", "T2", "T1_mask", "T2_mask")
APPEARANCE_VERSION = (
    1  # to be raised when the same seed gives other images, so that old and new are not mixed
)


@dataclass(frozen=True)
class PlannedStudy:
    """A study that is to be made."""

    patient: str
    study: str
    seed: int
    anatomy_seed: int

    @property
    def name(self) -> str:
        return f"{self.patient}_{self.study}"


@locks_folder("folder")
def write_studies(
    folder: Path,
    *,
    pairs: int,
    seed: int = 0,
    difficulty: Difficulty = "demo",
    patients: int | None = None,
    ending: str = ".nii.gz",
    with_lesion_labels: bool = False,
    progress: bool = False,
) -> Path:
    """Writes phantom studies NAME_T1, NAME_T2, NAME_T1_mask, NAME_T2_mask and a table of them.

    Masks hold 1 for liver, lesions included, or 2 for lesions if `with_lesion_labels`. Studies that
    are there completely are kept, so an interrupted call can be repeated, and a later one can ask
    for more pairs.

    Args:
        folder: where to; created.
        pairs: number of studies.
        seed: of all of them; not negative.
        difficulty: "demo" or "study", see `make_pair`.
        patients: number of patients; those with several studies show the same anatomy, breathing
            differently. Default: one patient per study.
        ending: of the images, such as .nii.gz or .mha.
        with_lesion_labels: mark lesions in the masks.
        progress: show a progress bar.

    Returns:
        `folder`/studies.csv with the columns patient, study, t1, t2, t1_mask, t2_mask; paths
        relative to it.

    Raises:
        InputError: a number is out of range, or the folder holds studies made with other options.
    """
    folder = Path(folder)
    check_request(pairs, seed, difficulty, patients, ending)
    options: dict[str, object] = {
        "version": APPEARANCE_VERSION,
        "seed": seed,
        "difficulty": difficulty,
        "patients": patients,
        "with_lesion_labels": with_lesion_labels,
    }
    claim_folder(folder, options)
    planned = plan_studies(pairs, seed, patients)
    missing = [
        study
        for study in planned
        if not all(path.is_file() for path in _paths(folder, study, ending).values())
    ]
    for study in track(missing, "phantom studies", disable=not progress):
        pair = make_pair(study.seed, difficulty=difficulty, anatomy_seed=study.anatomy_seed)
        _write_pair(pair, _paths(folder, study, ending), with_lesion_labels)
    files = [list(_paths(folder, study, ending).values()) for study in planned]
    return write_table(folder, COLUMNS, planned, files)


def check_request(
    pairs: int, seed: int, difficulty: str, patients: int | None, ending: str
) -> None:
    """InputError unless numbers, difficulty and ending are possible."""
    if pairs < 1 or seed < 0:
        raise InputError(
            f"pairs must be at least 1 and seed not negative, they are {pairs} and {seed}."
        )
    if patients is not None and not 1 <= patients <= pairs:
        raise InputError(f"{pairs} pairs can come from 1 to {pairs} patients, not {patients}.")
    choose_protocol(difficulty)
    if ending not in IMAGE_ENDINGS:
        raise InputError(
            f"unknown kind of image {ending!r}; choose one of {', '.join(IMAGE_ENDINGS)}."
        )


def claim_folder(folder: Path, options: dict[str, object]) -> None:
    """Notes the options in the folder, or makes sure that they are the ones it was begun with."""
    path = folder / OPTIONS_FILE
    if not path.is_file():
        with atomic_write(path) as unfinished:
            unfinished.write_text(json.dumps(options, indent=2) + "\n")
        return
    before = read_json(path, remedy="choose another folder or delete it")
    differing = [
        f"{name} {before.get(name)} rather than {value}"
        for name, value in options.items()
        if before.get(name) != value
    ]
    if differing:
        raise InputError(
            f"{folder}: holds phantom studies made with {', '.join(differing)}; choose another"
            " folder or delete it."
        )


def plan_studies(pairs: int, seed: int, patients: int | None) -> list[PlannedStudy]:
    """The studies to make; study i belongs to patient i modulo the number of patients.

    So it does not depend on how many studies there will be.
    """
    planned = []
    for index in range(pairs):
        patient, visit = (index, 0) if patients is None else (index % patients, index // patients)
        planned.append(
            PlannedStudy(
                patient=f"phantom{patient + 1:03d}",
                study=f"visit{visit + 1}",
                seed=_derive_seed(seed, "study", index),
                anatomy_seed=_derive_seed(seed, "patient", patient),
            )
        )
    return planned


def _derive_seed(seed: int, kind: str, index: int) -> int:
    """A seed of its own for each study and each patient."""
    key = np.random.SeedSequence([seed, {"study": 1, "patient": 2}[kind], index])
    return int(key.generate_state(1, np.uint64)[0] >> np.uint64(1))


def _paths(folder: Path, study: PlannedStudy, ending: str) -> dict[str, Path]:
    return {part: folder / f"{study.name}_{part}{ending}" for part in PARTS}


def _write_pair(pair: PhantomPair, paths: dict[str, Path], with_lesion_labels: bool) -> None:
    masks = {"T1_mask": (pair.t1_mask, pair.t1_lesions), "T2_mask": (pair.t2_mask, pair.t2_lesions)}
    for part, (mask, lesions) in masks.items():
        write_image(mark_lesions(mask, lesions) if with_lesion_labels else mask, paths[part])
    write_image(pair.t1, paths["T1"])
    write_image(pair.t2, paths["T2"])


def mark_lesions(mask: sitk.Image, lesions: sitk.Image) -> sitk.Image:
    """The liver mask (1) with the lesions in it as 2."""
    labels = array(mask)
    labels[(labels > 0) & (array(lesions) > 0)] = 2
    return image_like(labels, Grid.from_image(mask))


def write_table(
    folder: Path,
    columns: Sequence[str],
    planned: Sequence[PlannedStudy],
    files: Sequence[Sequence[Path]],
) -> Path:
    """`folder`/studies.csv: patient, study and the files of each study, relative to the folder."""
    table = folder / "studies.csv"
    with atomic_write(table) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for study, paths in zip(planned, files, strict=True):
            writer.writerow([study.patient, study.study, *(path.name for path in paths)])
    return table
