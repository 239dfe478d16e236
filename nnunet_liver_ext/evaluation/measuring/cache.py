"""Results of single cases, kept so that an interrupted evaluation goes on where it was.

A result is used again if it was made of the same files (size and times, or size and content), read
in the same way, with the same options, classes and version.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from nnunet_liver_ext import __version__
from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.evaluation.files.find_label_maps import ImageKey
from nnunet_liver_ext.evaluation.measuring.one_case import CaseResult
from nnunet_liver_ext.space.detached_data import detached_files

FOLDER = ".cases"
BLOCK = 2**20


class Item(Protocol):
    """What is measured: the files of a case, or of a pair."""

    @property
    def key(self) -> ImageKey: ...

    @property
    def files(self) -> Mapping[str, Path]: ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the result depends on beside the contents of the files; plain JSON."""
        ...


class CaseCache:
    """One small JSON file for each case; no names of files in it."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, fresh: bool = False) -> None:
        """
        Args:
            folder: of the results; the files are in a hidden folder in it, made when it is needed.
            settings: what all results depend on; plain JSON.
            fresh: find nothing, write all.
        """
        self.folder, self.fresh = folder / FOLDER, fresh
        self.settings = {"version": __version__, **settings}

    def get(self, item: Item) -> CaseResult | None:
        """The result of this item, if it is there."""
        try:
            content = json.loads(self._path(item.key).read_text(encoding="utf-8"))
            if (
                self.fresh
                or content["depends_on"] != self._depends_on(item)
                or not _are_same(content["files"], item.files)
            ):
                return None
            result = CaseResult.from_json(content["result"])
            return result if result.key == item.key else None
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ):  # nothing there, or what another version wrote
            return None

    def put(self, item: Item, result: CaseResult, seen: Mapping[str, Any]) -> None:
        """Keeps a result, unless a file was changed while it was measured.

        Args:
            item: what was measured.
            result: of it.
            seen: `sizes_and_times` of its files before.
        """
        if seen != sizes_and_times(item.files):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        files = {what: {**seen[what], "sha256": _sha256(path)} for what, path in item.files.items()}
        content = {"depends_on": self._depends_on(item), "files": files, "result": result.to_json()}
        with atomic_write(self._path(item.key)) as unfinished:
            unfinished.write_text(json.dumps(content), encoding="utf-8")

    def _depends_on(self, item: Item) -> Any:
        return json.loads(json.dumps({**self.settings, **item.identity}))

    def _path(self, key: ImageKey) -> Path:
        name = f"{key.case}_{key.modality}"
        told_apart = hashlib.sha256(name.encode()).hexdigest()[
            :8
        ]  # "P 1" and "P-1", and "p1" and "P1" on some disks
        return self.folder / (re.sub(r"[^\w.-]+", "-", name) + f"_{told_apart}.json")


def sizes_and_times(files: Mapping[str, Path]) -> dict[str, dict[str, int]]:
    """Of each file, or of all files in a folder of DICOM slices."""
    return {what: _size_and_times(path) for what, path in files.items()}


def _are_same(known: Mapping[str, Mapping[str, Any]], files: Mapping[str, Path]) -> bool:
    return known.keys() == files.keys() and all(
        _is_same(known[what], path) for what, path in files.items()
    )


def _is_same(known: Mapping[str, Any], path: Path) -> bool:
    now = _size_and_times(path)
    if known["size"] != now["size"]:
        return False
    return all(known[name] == now[name] for name in now) or known["sha256"] == _sha256(path)


def _files(path: Path) -> list[Path]:
    """A file, with those that its voxels are in if it is a header; or all files in a folder."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    return [path, *(file for file in detached_files(path) if file.is_file())]


def _size_and_times(path: Path) -> dict[str, int]:
    """ctime too: unpacked archives may have equal sizes and modification times."""
    states = [file.stat() for file in _files(path)]
    return {
        "size": sum(state.st_size for state in states),
        "mtime_ns": max((state.st_mtime_ns for state in states), default=0),
        "ctime_ns": max((state.st_ctime_ns for state in states), default=0),
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for file in _files(path):
        with file.open("rb") as content:
            while block := content.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()
