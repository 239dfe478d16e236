"""A study: the images of one patient from one session, with their masks if there are any, as files
or DICOM folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import image_ending, stem

MASK_SUFFIXES = ("_mask", "_seg", "_label")


LIVER = "liver"
"""Key in `Study.masks` of a liver mask beside the label map: where the tumours are looked for."""


@dataclass(frozen=True)
class Study:
    """One study; `images` and `masks` are by modality ("T1", "T2") and either may lack one.

    An ordinary study has one mask for all its images, keyed by the first modality, and perhaps a
    liver mask ("liver").
    """

    patient: str
    study: str
    images: Mapping[str, Path]
    masks: Mapping[str, Path]
    raters: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    """Masks of further raters, by rater and by modality; kept beside the dataset, nobody trains on
    them."""

    @property
    def name(self) -> str:
        """Patient and study, safe for a file name; one word where both are the same."""
        words = self.study if self.study in ("", self.patient) else f"{self.patient}_{self.study}"
        return safe_name(words or self.patient)

    @property
    def is_labelled(self) -> bool:
        """Whether there is a mask to learn from; a liver mask beside it is none."""
        return any(name != LIVER for name in self.masks)

    def files(self) -> dict[str, Path]:
        """All files by what they are: "T1", "T1 mask", "liver mask", "rater anna of T1"."""
        masks = {f"{name} mask": path for name, path in self.masks.items()}
        raters = {
            f"rater {rater} of {name}": path
            for rater, own in self.raters.items()
            for name, path in own.items()
        }
        return {**self.images, **masks, **raters}


def read_studies(path: Path, *, modalities: Sequence[str] = ("T1", "T2")) -> list[Study]:
    """Studies of a CSV or a folder, sorted by name.

    A CSV has the columns patient, study (or one of them) and for each modality t1, t1_mask, t2,
    t2_mask, with paths relative to the CSV; empty cells are absent files. A folder holds
    NAME_T1.nii.gz, NAME_T2.nii.gz, NAME_T1_mask.nii.gz, NAME_T2_mask.nii.gz side by side (any image
    ending), or nnU-Net's NAME_0000, NAME_0001, or a sub-folder for each study with T1, T2, T1_mask,
    T2_mask in it as files or DICOM folders. In folders each study is a patient of its own.

    Args:
        path: CSV file or folder.
        modalities: names of image 1 and image 2.

    Raises:
        InputError: nothing there, missing columns or files, or two studies with one name.
    """
    path = Path(path)
    if path.is_dir():
        studies = _from_folder(path, modalities)
    elif path.is_file():
        images = {name.lower(): name for name in modalities}
        studies = read_table(
            path, images, {f"{column}_mask": name for column, name in images.items()}
        )
    else:
        raise InputError(f"{path}: no such file or folder.")
    if not studies:
        raise InputError(
            f"{path}: holds no studies; expected NAME_{modalities[0]}.nii.gz and"
            f" NAME_{modalities[1]}.nii.gz, a sub-folder for each study, or a CSV with patient,"
            " study, t1, t2."
        )
    return distinct(studies, path)


def distinct(studies: Sequence[Study], path: Path) -> list[Study]:
    """The studies sorted by name; InputError if two have one name."""
    twice = [name for name, count in Counter(study.name for study in studies).items() if count > 1]
    if twice:
        raise InputError(f"{path}: two studies have the same name {twice[0]!r}; names must differ.")
    return sorted(studies, key=lambda study: study.name)


def safe_name(words: str) -> str:
    """The words with "-" in place of what a file name should not have."""
    return re.sub(r"[^\w.-]+", "-", words)


def deformation_files(case: str, modalities: tuple[str, ...]) -> tuple[str, str]:
    """Names of what `predict --deformation` writes beside the masks of a pair: the field, and mask
    1 moved onto image 2."""
    first, second = modalities
    return f"{case}_deformation.nii.gz", f"{case}_{first}_on_{second}.nii.gz"


def is_mask_name(name: str) -> bool:
    """Whether a file's stem says that it is a mask: "anna_T1_mask"."""
    return name.lower().endswith(MASK_SUFFIXES)


def sub_folders(folder: Path) -> list[Path]:
    """Folders that may hold a study, sorted: neither hidden ones nor predictions that were written
    into the folder."""
    children = sorted(
        child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")
    )
    return [child for child in children if not (child / "prediction.json").exists()]


def put(path: Path, modality: str, files: dict[str, Path], kind: str) -> None:
    """Enters the file of a modality; InputError if there is one already. `kind` is "image" or
    "mask", for the message."""
    if modality in files:
        raise InputError(
            f"{path}: is a second {modality} {kind} beside {files[modality].name}; keep one."
        )
    files[modality] = path


def read_table(path: Path, images: Mapping[str, str], masks: Mapping[str, str]) -> list[Study]:
    """Studies of a CSV with the columns patient, study (or one of them), and files relative to it.

    Args:
        path: of the CSV.
        images: modality by column (small letters).
        masks: key in `Study.masks` by column.

    Raises:
        InputError: no readable CSV, no column of patients or images, a column with a name that is
            nearly one of these, or a row without patient, image or one of its files.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no readable CSV ({error}).") from None
    table.columns = [str(column).strip().lower() for column in table.columns]
    if not {"patient", "study"} & set(table.columns):
        raise InputError(
            f"{path}: has neither a column patient nor study (found {', '.join(table.columns)})."
        )
    if not set(images) & set(table.columns):
        raise InputError(f"{path}: has no image column; expected {' and '.join(images)}.")
    _check_columns(path, list(table.columns), ["patient", "study", *images, *masks])
    return [
        _from_row(path, number, row, images, masks)
        for number, row in enumerate(table.to_dict("records"), start=2)
    ]


def _check_columns(path: Path, found: Sequence[str], known: Sequence[str]) -> None:
    """A mistyped column would silently leave out a mask of every study; other columns may be
    there."""
    bare = {re.sub(r"[^a-z0-9]", "", column): column for column in known}
    for column in found:
        meant = bare.get(re.sub(r"[^a-z0-9]", "", column))
        if column not in known and meant is not None:
            raise InputError(f"{path}: the column {column!r} is probably {meant}; rename it.")


def _from_row(
    path: Path,
    number: int,
    row: Mapping[Any, str],
    images: Mapping[str, str],
    masks: Mapping[str, str],
) -> Study:
    study = row.get("study", "").strip() or row.get("patient", "").strip()
    patient = row.get("patient", "").strip() or study
    if not patient:
        raise InputError(f"{path}, row {number}: neither patient nor study is given.")

    def files(columns: Mapping[str, str]) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for column, key in columns.items():
            cell = row.get(column, "").strip()
            if cell and key in found:
                raise InputError(f"{path}, row {number}: {cell} is a second file for {key}.")
            if cell:
                found[key] = path.parent / cell
                if not found[key].exists():
                    raise InputError(f"{path}, row {number}: {cell} does not exist.")
        return found

    own = files(images)
    if not own:
        raise InputError(f"{path}, row {number}: study {study} has no image.")
    return Study(patient, study, own, files(masks))


def _from_folder(folder: Path, modalities: Sequence[str]) -> list[Study]:
    studies = _side_by_side(folder, modalities)
    inside = (_one_study(child, modalities) for child in sub_folders(folder))
    return studies + [study for study in inside if study.images]


def _side_by_side(folder: Path, modalities: Sequence[str]) -> list[Study]:
    """NAME_T1.nii.gz, NAME_T1_mask.nii.gz, or NAME_0000.nii.gz in one folder."""
    images: dict[str, dict[str, Path]] = {}
    masks: dict[str, dict[str, Path]] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file() and image_ending(path)):
        name, modality, is_mask = _parse(stem(path), modalities)
        if modality is not None and name and not name.startswith("."):
            put(
                path,
                modality,
                (masks if is_mask else images).setdefault(name, {}),
                "mask" if is_mask else "image",
            )
    alone = sorted(masks.keys() - images.keys())
    if alone:
        raise InputError(
            f"{next(iter(masks[alone[0]].values()))}: is a mask, but there is no image of"
            f" {alone[0]}."
        )
    return [Study(name, name, files, masks.get(name, {})) for name, files in images.items()]


def _one_study(folder: Path, modalities: Sequence[str]) -> Study:
    """A folder with T1.nii.gz, T1_mask.nii.gz, T2.nii.gz, ... or DICOM folders T1, T2."""
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not (path.is_dir() or image_ending(path)):
            continue
        _, modality, is_mask = _parse(f"_{stem(path) if path.is_file() else path.name}", modalities)
        if modality is not None and not path.name.startswith("."):
            put(path, modality, masks if is_mask else images, "mask" if is_mask else "image")
    return Study(folder.name, folder.name, images, masks)


def _parse(words: str, modalities: Sequence[str]) -> tuple[str, str | None, bool]:
    """(name, modality, is a mask) of a file's stem; modality None if the stem names none."""
    suffix = next((suffix for suffix in MASK_SUFFIXES if words.lower().endswith(suffix)), "")
    words = words[: len(words) - len(suffix)]
    for channel, modality in enumerate(modalities):
        for ending in (f"_{modality}", f"_{channel:04d}"):
            if words.lower().endswith(ending.lower()):
                return words[: -len(ending)], modality, bool(suffix)
    return words, None, bool(suffix)
