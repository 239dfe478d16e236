"""What is in a dataset's folder already, and whether a conversion may go on with it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.splits import Splitting
from nnunet_liver_ext.dataset_conversion.write_case import CaseJob
from nnunet_liver_ext.dataset_json.manifest import MANIFEST_FILE, Manifest
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.intensities import Intensities
from nnunet_liver_ext.studies.study import Study

FOLDERS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs", "transforms", "ratersTr", "ratersTs")
CASE_FILE = re.compile(r"(P\d{3,}_S\d+)(?:_\d{4})?\.(?:nii\.gz|h5)")
FILES = ("dataset.json", "splits_final.json", MANIFEST_FILE)
NOT_YET_WRITTEN: Mapping[str, Any] = {
    "layout": None,
    "intensities": None,
    "organ": None,
}
"""What pairs.json of earlier versions does not say of its settings; the layout follows from
`preregistered`."""
NOT_KNOWN = ("dataset", "reading")
"""What it does not say and nothing else tells: compared only where it is written."""


def open_manifest(
    folder: Path,
    studies: Sequence[Study],
    settings: ConversionSettings,
    splitting: Splitting,
    *,
    overwrite: bool,
    add: bool,
) -> Manifest:
    """The manifest to go on with: of the dataset that is there, or a new one.

    Raises:
        InputError: another dataset is there (other settings, other splitting, other studies, or not
            written by us).
    """
    new = Manifest(_settings_to_compare(settings), splitting.to_json())
    if overwrite:
        return new
    if not (folder / MANIFEST_FILE).exists():
        foreign = [entry for entry in (*FOLDERS, *FILES) if (folder / entry).exists()]
        if foreign:
            raise InputError(
                f"{folder}: holds a dataset that nnunet_liver did not write ({foreign[0]}); choose"
                " another number, or replace it with --overwrite."
            )
        return new
    manifest = Manifest.load(folder)
    if not manifest.cases:
        return new
    different = _different_settings(_upgrade_settings(manifest.settings), new.settings)
    different += _different_keys(
        manifest.splitting, new.splitting, but=("hold_out",) if add else ()
    )
    if different:
        raise InputError(
            f"{folder}: was converted with another {' and '.join(different)}; "
            "use the same, choose another number, or replace it with --overwrite."
        )
    if not add:
        _check_no_other_studies(folder, manifest, studies)
    return manifest


def _check_no_other_studies(folder: Path, manifest: Manifest, studies: Sequence[Study]) -> None:
    asked = {(study.patient, study.study) for study in studies}
    others = sorted(
        {(patient, study) for patient, names in manifest.names.items() for study in names} - asked
    )
    if others:
        raise InputError(
            f"{folder}: holds studies that are not asked for now (such as"
            f" {' '.join(dict.fromkeys(others[0]))}); add to it with --add, choose another number,"
            " or replace it with --overwrite."
        )


def _different_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of settings that are not alike; those of a reader's options are the options' names."""
    unknown = [key for key in NOT_KNOWN if key not in before]
    different = _different_keys(before, now, but=("reading", *unknown))
    if "reading" in unknown or "dataset" in different:
        return different
    later = [name for name in now["reading"] if name not in before["reading"]]
    return different + [
        f"--{name}" for name in _different_keys(before["reading"], now["reading"], but=later)
    ]


def _different_keys(
    before: Mapping[str, Any], now: Mapping[str, Any], but: Sequence[str] = ()
) -> list[str]:
    return sorted(key for key in now if key not in but and before.get(key) != now[key])


def _upgrade_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of pairs.json as this version writes them, without measured ranges."""
    complete = {**NOT_YET_WRITTEN, **settings}
    if complete["layout"] is None:
        complete["layout"] = "preregistered" if settings.get("preregistered") else "pairs"
    intensities = Intensities.from_json(complete["intensities"]).to_json()
    intensities.pop("ranges", None)
    return {**complete, "intensities": intensities}


def _settings_to_compare(settings: ConversionSettings) -> dict[str, Any]:
    """The settings as pairs.json keeps them, without the version."""
    entries = settings.to_json() | {
        "classes": list(settings.classes),
        "ignored_labels": (
            "all" if settings.ignored_labels == "all" else list(settings.ignored_labels)
        ),
        "organ": None if settings.organ is None else list(settings.organ),
        "dataset": settings.dataset,
        "reading": dict(settings.reading),
    }
    return {key: value for key, value in entries.items() if key not in ("version", "task")}


def check_unchanged(
    folder: Path, todo: Sequence[CaseJob], manifest: Manifest, fresh: Sequence[Study]
) -> None:
    """A finished dataset changes only if asked to; studies that failed before are tried again."""
    if not (folder / "dataset.json").exists():
        return
    for job in todo:
        if job.study in fresh or job.case in manifest.cases:
            what = "is new" if job.study in fresh else "has changed"
            raise InputError(
                f"{folder}: study {job.study.name} {what} since this dataset was converted; "
                "take it in with --add, or convert anew with --overwrite."
            )


def remove_dataset(folder: Path) -> None:
    """Removes the files of a dataset, nothing else.

    dataset.json goes first, so that a part is never taken for a whole.
    """
    for entry in FILES:
        (folder / entry).unlink(missing_ok=True)
    for entry in FOLDERS:
        if (folder / entry).is_dir():
            shutil.rmtree(folder / entry)


def remove_strays(folder: Path, manifest: Manifest) -> None:
    """Removes what a killed run left, half-written or unknown to pairs.json.

    nnU-Net would take such files for cases.
    """
    for place in (folder, *(folder / name for name in FOLDERS), *folder.glob("raters*/*")):
        for path in place.glob("*"):
            case = CASE_FILE.fullmatch(path.name)
            if path.name.startswith(".unfinished_") or (case and case[1] not in manifest.cases):
                path.unlink()
