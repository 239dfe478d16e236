"""Searches a dataset's folder: files and folders at any depth, and the order of numbered names.

What unpacking leaves behind (`__MACOSX`, `._volume-5.nii`, `.DS_Store`) is passed over, folders may
be doubled, and links are followed, each folder once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path


def files_below(root: Path) -> Iterator[Path]:
    """All files below a folder, sorted folder by folder."""
    for folder, names in _folders_with_files(root):
        yield from (folder / name for name in names)


def folders_below(root: Path, name: str) -> list[Path]:
    """All folders of a name below a folder, sorted; that folder itself counts, too.

    Links are followed to folders that were not yet seen.
    """
    return [folder for folder, _ in _folders_with_files(root) if folder.name == name]


def is_junk(name: str) -> bool:
    """Whether a file or folder is what macOS adds to an archive, or hidden."""
    return name.startswith(".") or name == "__MACOSX"


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Key that sorts names as people do: 2 before 10, letters without regard to capitals."""
    words = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(word), "") if word[0].isdigit() else (1, 0, word.lower()) for word in words]


def _folders_with_files(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every folder with the names of its files, the root first."""
    seen = set()
    for folder, children, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            children.clear()
            continue
        seen.add(real)
        children[:] = sorted(child for child in children if not is_junk(child))
        yield Path(folder), sorted(name for name in names if not is_junk(name))
