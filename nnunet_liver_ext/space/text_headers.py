"""Headers of text: the lines of a NRRD or MetaImage file before its voxels.

Sources: Teem's definition of the NRRD file format; the MetaIO documentation of Kitware.
"""

from __future__ import annotations

from pathlib import Path

LONGEST_LINE = 2**16  # bytes; a longer one is voxels
MOST_LINES = 2**16  # of names of slices; in files with everything in one, voxels follow


def header_lines(path: Path) -> list[str]:
    """The lines of the header of a .nrrd, .mhd or .mha file, without their ends.

    A NRRD header ends with an empty line. That of MetaImage ends with `ElementDataFile = LOCAL`, or
    with the file.
    """
    is_nrrd = path.suffix.lower() == ".nrrd"
    lines: list[str] = []
    with path.open("rb") as file:
        while len(lines) < MOST_LINES and (line := file.readline(LONGEST_LINE)):
            text = line.decode("utf-8", errors="surrogateescape").rstrip("\r\n")
            lines.append(text)
            key, _, value = (word.strip().lower() for word in text.partition("="))
            if (is_nrrd and not text) or (key, value) == ("elementdatafile", "local"):
                break
    return lines


def header_fields(path: Path) -> dict[str, str]:
    """The fields of the header of a .nrrd, .mhd or .mha file by name.

    Names are in small letters and without spaces: NRRD allows both "data file" and "datafile".

    Returns:
        {} if the file does not begin as one of its kind.
    """
    lines = header_lines(path)
    is_nrrd = path.suffix.lower() == ".nrrd"
    if is_nrrd and not (lines and lines[0].startswith("NRRD")):
        return {}
    entries = [line.partition(":" if is_nrrd else "=") for line in lines]
    return {key.lower().replace(" ", ""): value.strip() for key, mark, value in entries if mark}
