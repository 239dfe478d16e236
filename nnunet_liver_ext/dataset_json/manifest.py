"""pairs.json of a converted dataset: the source files and the native grids of each case.

It stays in the raw dataset: case names are pseudonyms, but the relative paths of the sources may
name a patient.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.space.detached_data import detached_files
from nnunet_liver_ext.space.images import Grid
from nnunet_liver_ext.studies.study import Study

MANIFEST_FILE = "pairs.json"
FORMAT = 1


@dataclass(frozen=True)
class SourceFile:
    """A file, or a folder of DICOM files, that a case was made from."""

    path: str
    """Relative to the folder that all studies share."""
    size: int
    """Bytes, of all files in a folder; without detached voxels."""
    sha256: str
    voxels_sha256: str = ""
    """SHA-256 of the files that hold the voxels of a header, if there are any."""

    @classmethod
    def from_path(cls, path: Path, root: Path) -> SourceFile:
        """Size and SHA-256 of a file, or of all files in a folder with their names.

        Detached voxels have a hash of their own.
        """
        place = Path(os.path.relpath(path, root)).as_posix()
        if path.is_dir():
            return cls(
                place,
                *_hash_files(sorted(file for file in path.rglob("*") if file.is_file()), path),
            )
        voxels = detached_files(path)
        return cls(
            place,
            *_hash_files([path]),
            voxels_sha256=_hash_files(voxels, path.parent)[1] if voxels else "",
        )

    def has_content_of(self, other: SourceFile) -> bool:
        """Whether both have the same bytes, wherever they lie.

        Earlier versions did not note detached voxels.
        """
        if self.voxels_sha256 and other.voxels_sha256 and self.voxels_sha256 != other.voxels_sha256:
            return False
        return (self.size, self.sha256) == (other.size, other.sha256)

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "voxels_sha256" or value}


@dataclass(frozen=True)
class ManifestCase:
    """One converted study."""

    name: str
    """Pseudonym, like "P001_S1"."""
    group: str
    """Pseudonym of the patient, like "P001": cases of one group stay on one side of every split."""
    patient: str
    study: str
    folder: str
    """"Tr" (imagesTr, labelsTr) or "Ts" (imagesTs, and labelsTs if there are masks)."""
    sources: Mapping[str, SourceFile]
    """Files by "T1", "T1 mask", "T2", "T2 mask", as `Study.files` names them."""
    native_grids: Mapping[str, Grid]
    """Grids by modality."""
    grid: Grid
    """The common grid of what was written."""
    notes: tuple[str, ...] = ()
    """What is strange about the images, a sentence each; earlier versions noted nothing."""

    def to_json(self) -> dict[str, Any]:
        return {
            "group": self.group,
            "patient": self.patient,
            "study": self.study,
            "folder": self.folder,
            "sources": {name: source.to_json() for name, source in self.sources.items()},
            "native_grids": {name: grid.to_json() for name, grid in self.native_grids.items()},
            "grid": self.grid.to_json(),
        } | ({"notes": list(self.notes)} if self.notes else {})

    @classmethod
    def from_json(cls, name: str, entry: Mapping[str, Any]) -> ManifestCase:
        return cls(
            name=name,
            group=entry["group"],
            patient=entry["patient"],
            study=entry["study"],
            folder=entry["folder"],
            sources={key: SourceFile(**source) for key, source in entry["sources"].items()},
            native_grids={key: Grid.from_json(grid) for key, grid in entry["native_grids"].items()},
            grid=Grid.from_json(entry["grid"]),
            notes=tuple(entry.get("notes", ())),
        )


@dataclass
class Manifest:
    """All cases of a converted dataset by name, and the settings they were converted with."""

    settings: dict[str, Any]
    splitting: dict[str, Any] = field(default_factory=dict)
    """How patients are split: folds, repeats, seed and what was asked to be held out; `own` is what
    was asked of `nnunet_liver splits`, if its splits are no cross-validation of all cases."""
    names: dict[str, dict[str, str]] = field(default_factory=dict)
    """Pseudonym of every study that was ever asked for, by patient and study; a name is never given
    twice."""
    held_out: list[str] = field(default_factory=list)
    """Patients (own names) of the test set."""
    cases: dict[str, ManifestCase] = field(default_factory=dict)
    """Converted cases by pseudonym."""

    def add_names(self, studies: Sequence[Study]) -> None:
        """Gives pseudonyms to studies that have none: P001_S1 is study 1 of patient 1."""
        for study in sorted(studies, key=lambda study: (study.patient, study.study)):
            names = self.names.get(study.patient, {})
            if study.study not in names:
                group = self.group(study.patient) or f"P{len(self.names) + 1:03d}"
                self.names[study.patient] = {**names, study.study: f"{group}_S{len(names) + 1}"}

    def group(self, patient: str) -> str | None:
        """Pseudonym of a patient, None if unknown."""
        return next((name.partition("_")[0] for name in self.names.get(patient, {}).values()), None)

    def name(self, study: Study) -> str:
        """Pseudonym of a study; `add_names` comes first."""
        return self.names[study.patient][study.study]

    def knows(self, study: Study) -> bool:
        return study.study in self.names.get(study.patient, {})

    def training_groups(self) -> dict[str, str]:
        """Patient (pseudonym) of each case in imagesTr."""
        return {name: case.group for name, case in self.cases.items() if case.folder == "Tr"}

    def save(self, folder: Path) -> None:
        content = {
            "format": FORMAT,
            "settings": self.settings,
            "splitting": self.splitting,
            "names": self.names,
            "held_out": self.held_out,
            "cases": {name: self.cases[name].to_json() for name in sorted(self.cases)},
        }
        with atomic_write(folder / MANIFEST_FILE) as unfinished:
            unfinished.write_text(json.dumps(content, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Reads pairs.json of a converted dataset.

        Raises:
            InputError: there is none, it is damaged, or a later version wrote it.
        """
        path = folder / MANIFEST_FILE
        content = read_json(
            path,
            missing=f"{folder}: has no {MANIFEST_FILE}; nnunet_liver convert did not write it.",
            remedy="convert again",
        )
        try:
            if content["format"] > FORMAT:
                raise InputError(
                    f"{path}: was written by a later version; install that version or a later one."
                )
            cases = {
                name: ManifestCase.from_json(name, entry)
                for name, entry in content["cases"].items()
            }
            return cls(
                content["settings"],
                content["splitting"],
                content["names"],
                content["held_out"],
                cases,
            )
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{path}: is damaged ({type(error).__name__}: {error}); convert again."
            ) from None


def _hash_files(files: Sequence[Path], named_from: Path | None = None) -> tuple[int, str]:
    """Bytes and SHA-256 of files.

    With `named_from` their names from that folder on count too, of a missing file its name alone.
    """
    digest, size = hashlib.sha256(), 0
    for file in files:
        if named_from is not None:
            digest.update(
                Path(os.path.relpath(file, named_from)).as_posix().encode(errors="surrogateescape")
            )
            if not file.is_file():
                continue
        with file.open("rb") as content:
            while block := content.read(2**20):
                digest.update(block)
                size += len(block)
    return size, digest.hexdigest()
