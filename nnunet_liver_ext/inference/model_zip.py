"""Unpacking a model's zip, which may be a stranger's: nothing outside its folder, no bombs."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PureWindowsPath

from nnunet_liver_ext.errors import InputError

GIB = 2**30
LARGEST = 64 * GIB
"""Of a model, unpacked; five folds of nnU-Net's largest network are about 8 GiB."""
HIGHEST_RATIO = 50
"""Unpacked by packed; weights hardly shrink, and JSON shrinks to a tenth or so."""
MOST_FILES = 100_000


def extract_model(archive: Path, folder: Path) -> None:
    """Unpacks a zip of a model into a folder.

    Raises:
        InputError: the zip is damaged or encrypted, holds links or paths that lead out of the
            folder, or is larger than models are, or than the disk.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            members = content.infolist()
            _check_names(archive, members)
            _check_size(archive, members, shutil.disk_usage(folder).free)
            content.extractall(folder)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise InputError(f"{archive}: cannot be unpacked ({error}); copy it again.") from None


def _check_names(archive: Path, members: list[zipfile.ZipInfo]) -> None:
    for member in members:
        path = PureWindowsPath(member.filename)  # takes / and \ apart, and knows drives
        if path.anchor or ".." in path.parts:
            raise InputError(
                f"{archive}: holds {member.filename}, which leads out of its folder; a model's zip"
                " of nnUNetv2_export_model_to_zip does not."
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise InputError(
                f"{archive}: holds the link {member.filename}; pack the file that it leads to."
            )


def _check_size(archive: Path, members: list[zipfile.ZipInfo], free: int) -> None:
    packed, unpacked = archive.stat().st_size, sum(member.file_size for member in members)
    size = f"{unpacked / GIB:.1f} GiB in {len(members)} files"
    if unpacked > LARGEST or len(members) > MOST_FILES or unpacked > HIGHEST_RATIO * packed:
        raise InputError(
            f"{archive}: would become {size}, {unpacked / packed:.0f} times its own size; models do"
            f" not (at most {LARGEST / GIB:.0f} GiB, {MOST_FILES} files, {HIGHEST_RATIO} times):"
            " unpack it yourself if you trust it."
        )
    if unpacked > free:
        raise InputError(
            f"{archive}: would become {size}, the temporary folder has {free / GIB:.1f} GiB; set"
            " TMPDIR to a folder on a larger disk."
        )
