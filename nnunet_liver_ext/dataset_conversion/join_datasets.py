"""Two converted datasets as one: the first, and patients of the second moved into training.

How well a model of one place works at another, and how many patients of the other it needs to do
so: the second dataset's training patients are moved to the joined dataset's training set or, all
that are not moved, to its test set. Files are copied as they are, so both must have been converted
alike.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.console import progress_bar
from nnunet_liver_ext.dataset_conversion.resume_conversion import (
    CASE_FILE,
    FILES,
    FOLDERS,
    remove_dataset,
)
from nnunet_liver_ext.dataset_conversion.splits import check_folds, choose_hold_out, make_splits
from nnunet_liver_ext.dataset_conversion.write_dataset import new_dataset_folder
from nnunet_liver_ext.dataset_json.manifest import Manifest, ManifestCase
from nnunet_liver_ext.environment import dataset_folder
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.folder_lock import locked_folder
from nnunet_liver_ext.json_files import read_json

ALIKE = ("channel_names", "labels", "file_ending", "pair", "preregistered", "organ_mask")
"""Entries of dataset.json that must be equal."""
CONVERTED_ALIKE = ("layout", "modalities", "spacing", "interpolation", "intensities")
"""Entries of its `conversion` that must be equal."""


@dataclass(frozen=True)
class _Dataset:
    """A converted dataset."""

    folder: Path
    manifest: Manifest
    content: Mapping[str, Any]
    """Its dataset.json."""

    @classmethod
    def load(cls, dataset: int | str) -> _Dataset:
        folder = dataset_folder(dataset, "raw")
        missing = f"{folder}: has no dataset.json, its conversion is not finished; convert again."
        content = read_json(folder / "dataset.json", missing=missing)
        return cls(folder, Manifest.load(folder), content)


@dataclass(frozen=True)
class JoinedDataset:
    """What has been written."""

    folder: Path
    moved: list[str]
    """Patients of the second dataset that train, by their pseudonyms there."""
    num_training: int
    num_test: int


def join_datasets(
    first: int | str,
    second: int | str,
    *,
    dataset_id: int,
    name: str,
    move: Sequence[str] | int | float,
    folds: int = 5,
    repeats: int = 1,
    seed: int = 0,
    distinct_patients: bool = False,
    overwrite: bool = False,
) -> JoinedDataset:
    """Joins two converted datasets of nnUNet_raw into a new one.

    All of the first stays on its side. The second's training patients train if they are moved, and
    are test cases (imagesTs, labelsTs) otherwise; its test cases stay test cases. With one seed,
    the patients of a smaller number are among those of every larger one.

    Args:
        first, second: number or name.
        dataset_id, name: of the new dataset.
        move: patients of the second: pseudonyms or own names, a number, or a share below 1.
        folds, repeats, seed: cross-validation by patient; the seed also draws who is moved.
        distinct_patients: patients of both datasets with one name are different people.
        overwrite: replace the dataset that is there.

    Raises:
        InputError: the datasets are not alike, hold the same patients or images, or as
            `write_dataset`.
    """
    one, two = _Dataset.load(first), _Dataset.load(second)
    _check_alike(one, two)
    _check_patients(one, two, distinct_patients)
    moved = _choose_moved(two, move, seed)
    folder = new_dataset_folder(dataset_id, name)
    if folder in (one.folder, two.folder):
        raise InputError(f"{folder}: is one of the datasets that are joined; choose another -d.")
    manifest, names = _join_manifests(one, two, moved, {"folds": folds, "repeats": repeats})
    manifest.splitting |= {"seed": seed, "hold_out": 0}
    groups = manifest.training_groups()
    check_folds(len(set(groups.values())), folds)
    splits = make_splits(groups, folds=folds, repeats=repeats, seed=seed)
    content = _join_descriptions(one, two, names) | {"numTraining": len(groups)}
    with locked_folder(folder):
        there = [entry for entry in (*FILES, *FOLDERS) if (folder / entry).exists()]
        if there and not overwrite:
            raise InputError(
                f"{folder}: holds a dataset; choose another -d, or replace it with --overwrite."
            )
        _write(folder, manifest, {one.folder: {}, two.folder: names}, splits, content)
    return JoinedDataset(folder, moved, len(groups), len(manifest.cases) - len(groups))


def _check_alike(one: _Dataset, two: _Dataset) -> None:
    different = [key for key in ALIKE if one.content.get(key) != two.content.get(key)]
    conversions = [dataset.content.get("conversion", {}) for dataset in (one, two)]
    different += [
        key for key in CONVERTED_ALIKE if conversions[0].get(key) != conversions[1].get(key)
    ]
    if different:
        raise InputError(
            f"{one.folder} and {two.folder.name} cannot be joined: they differ in"
            f" {', '.join(different)} (dataset.json); convert both alike."
        )


def _check_patients(one: _Dataset, two: _Dataset, distinct: bool) -> None:
    """A patient of both would be on both sides of a split."""
    both = sorted(
        {case.patient for case in one.manifest.cases.values()}
        & {case.patient for case in two.manifest.cases.values()}
    )
    if both and not distinct:
        raise InputError(
            f"{one.folder} and {two.folder.name}: both have a patient {both[0]} ({len(both)} such"
            " names); if these are different people, say so with --distinct-patients."
        )
    hashes = {
        (source.size, source.sha256): case.name
        for case in one.manifest.cases.values()
        for key, source in case.sources.items()
        if not key.endswith(" mask")
    }
    for case in two.manifest.cases.values():
        for key, source in case.sources.items():
            same = hashes.get((source.size, source.sha256))
            if same is not None and not key.endswith(" mask"):
                raise InputError(
                    f"{two.folder}: the {key} image of {case.name} is one of {same} in"
                    f" {one.folder.name}, so both are the same patient; leave out one of them."
                )


def _choose_moved(two: _Dataset, move: Sequence[str] | int | float, seed: int) -> list[str]:
    """Pseudonyms, in the second dataset, of the patients to train on."""
    training = [case for case in two.manifest.cases.values() if case.folder == "Tr"]
    own_names = {case.patient: case.group for case in training}
    known = sorted(set(own_names.values()))
    if isinstance(move, (int, float)):
        if move > len(known):
            raise InputError(
                f"--move {move:g}: {two.folder.name} has {len(known)} training patients."
            )
        wanted: Sequence[str] | int | float = move
    else:
        wanted = [name if name in known else own_names.get(name, name) for name in move]
        unknown = sorted(set(wanted) - set(known))
        if unknown:
            raise InputError(
                f"--move-patient: {', '.join(unknown)} are no training patients of"
                f" {two.folder.name}."
            )
    return sorted(choose_hold_out(known, wanted, seed=seed, others=True))


def _join_manifests(
    one: _Dataset, two: _Dataset, moved: Sequence[str], splitting: dict[str, Any]
) -> tuple[Manifest, dict[str, str]]:
    """The manifest of both, and the new pseudonym of each case of the second."""
    offset = len(one.manifest.names)
    own_names = {
        group: f"{two.folder.name}: {patient}" if patient in one.manifest.names else patient
        for patient, group in ((p, two.manifest.group(p)) for p in two.manifest.names)
        if group is not None
    }
    groups = {
        group: f"P{offset + number:03d}" for number, group in enumerate(sorted(own_names), start=1)
    }
    names: dict[str, str] = {}
    joined = Manifest(
        {**one.manifest.settings, "dataset": "join"}, splitting, dict(one.manifest.names)
    )
    for studies in two.manifest.names.values():
        for study, pseudonym in studies.items():
            group, _, number = pseudonym.partition("_")
            names[pseudonym] = f"{groups[group]}_{number}"
            joined.names.setdefault(own_names[group], {})[study] = names[pseudonym]
    joined.cases = dict(one.manifest.cases)
    for case in two.manifest.cases.values():
        joined.cases[names[case.name]] = _renamed(case, names, groups, own_names, moved)
    held_out = {
        own_names[case.group] for case in two.manifest.cases.values() if case.folder == "Tr"
    }
    held_out -= {own_names[group] for group in moved}
    joined.held_out = sorted({*one.manifest.held_out, *held_out})
    return joined, names


def _renamed(
    case: ManifestCase,
    names: Mapping[str, str],
    groups: Mapping[str, str],
    own_names: Mapping[str, str],
    moved: Sequence[str],
) -> ManifestCase:
    stays = case.folder == "Tr" and case.group in moved
    return replace(
        case,
        name=names[case.name],
        group=groups[case.group],
        patient=own_names[case.group],
        folder="Tr" if stays else "Ts",
    )


def _join_descriptions(one: _Dataset, two: _Dataset, names: Mapping[str, str]) -> dict[str, Any]:
    """dataset.json of both; what the two say differently, such as licences, is by dataset."""
    content = dict(one.content)
    structure = {*ALIKE, "conversion", "incomplete", "numTraining"}
    for key in sorted({*one.content, *two.content} - structure):
        if one.content.get(key) != two.content.get(key):
            content[key] = {
                dataset.folder.name: dataset.content[key]
                for dataset in (one, two)
                if key in dataset.content
            }
    of_second = {names[case]: entry for case, entry in two.content.get("incomplete", {}).items()}
    incomplete = {**one.content.get("incomplete", {}), **of_second}
    return content | ({"incomplete": incomplete} if incomplete else {})


def _write(
    folder: Path,
    manifest: Manifest,
    sources: Mapping[Path, Mapping[str, str]],
    splits: Any,
    content: Mapping[str, Any],
) -> None:
    """Copies the files of all cases, whose names are new where `sources` has one; JSON at last."""
    copies = [
        (path, folder / _target(path.relative_to(source), names, manifest))
        for source, names in sources.items()
        for kind in FOLDERS
        for path in sorted((source / kind).rglob("*"))
        if CASE_FILE.fullmatch(path.name)
    ]
    remove_dataset(folder)
    try:
        with progress_bar() as bar:
            task = bar.add_task("joining", total=len(copies))
            for path, target in copies:
                with atomic_write(target) as unfinished:
                    shutil.copyfile(path, unfinished)
                bar.advance(task)
        manifest.save(folder)
        for file, entries in (("splits_final.json", splits), ("dataset.json", content)):
            with atomic_write(folder / file) as unfinished:
                unfinished.write_text(json.dumps(entries, indent=2))
    except BaseException as error:
        remove_dataset(folder)
        if isinstance(error, OSError):
            reason = error.strerror or error
            raise InputError(f"{folder}: cannot be written ({reason}).") from error
        raise


def _target(path: Path, names: Mapping[str, str], manifest: Manifest) -> Path:
    """Where a file of a dataset goes in the joined one, both relative to the dataset's folder."""
    match = CASE_FILE.fullmatch(path.name)
    case = match[1] if match else ""
    new = names.get(case, case)
    kind, *further = path.parts[:-1]
    if kind[-2:] in ("Tr", "Ts"):
        kind = kind[:-2] + manifest.cases[new].folder
    return Path(kind, *further, new + path.name[len(case) :])
