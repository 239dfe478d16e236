"""Which files hold the voxels of an image whose header lies apart from them.

That is possible in MetaImage (`ElementDataFile`) and in NRRD (`data file`).

Sources: the MetaIO documentation of Kitware; Teem's definition of the NRRD file format, section on
detached headers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nnunet_liver_ext.space.text_headers import header_lines


def detached_files(path: Path) -> list[Path]:
    """The files with the voxels of an image, in the order in which its header names them.

    Args:
        path: of an image; only the endings .mhd, .mha and .nrrd are looked into.

    Returns:
        Whether they exist or not; [] if the voxels are in the same file, or the header cannot be
        understood.
    """
    kind = path.suffix.lower()
    if kind not in (".mhd", ".mha", ".nrrd"):
        return []
    lines = header_lines(path)
    names = _names_in_nrrd(lines) if kind == ".nrrd" else _names_in_metaimage(lines)
    return [path.parent / name for name in names]


def _names_in_metaimage(lines: Sequence[str]) -> list[str]:
    """`ElementDataFile` is the last line of a header, but for a list of names."""
    slices = 1
    for index, line in enumerate(lines):
        key, _, value = (word.strip() for word in line.partition("="))
        if key == "DimSize" and value.split()[-1:] and value.split()[-1].isdigit():
            slices = int(value.split()[-1])
        if key == "ElementDataFile":
            return (
                [] if value.lower() == "local" else _expand_names(value, lines[index + 1 :], slices)
            )
    return []


def _names_in_nrrd(lines: Sequence[str]) -> list[str]:
    """A header ends with an empty line; what follows are voxels."""
    for index, line in enumerate(lines):
        key, _, value = (word.strip() for word in line.partition(":"))
        if not line:
            break
        if key.lower() in ("data file", "datafile"):
            return _expand_names(value, lines[index + 1 :], slices=1)
    return []


def _expand_names(value: str, below: Sequence[str], slices: int) -> list[str]:
    """The names that an entry stands for.

    It is one name, or LIST (then names are on the lines below), or a pattern with its first and
    last number and their step.
    """
    if re.fullmatch(r"LIST(\s+[0-9]+D?)?", value):
        return [line.strip() for line in below if line.strip()]
    pattern, *numbers = value.split() or [""]
    if not re.fullmatch(r"[^%]*%[0-9]*[di][^%]*", pattern):
        return [value] if value else []
    if not all(re.fullmatch(r"-?[0-9]+", number) for number in numbers):
        return []
    given = [int(number) for number in numbers]
    first, last, step = [*given, *(1, slices, 1)[len(given) :]][:3]
    if step == 0:
        return []
    return [pattern % number for number in range(first, last + (1 if step > 0 else -1), step)]
