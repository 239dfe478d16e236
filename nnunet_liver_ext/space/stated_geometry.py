"""What the header of an image file says of its place in space, and whether that can be used.

ITK takes what is missing or impossible for 1 mm and the origin, without complaint, and of two
places that a NIfTI file states it takes one. So the header is asked before.

Sources: nifti1.h of the NIfTI-1 standard ("3D image orientation and location in space"); Teem's
definition of the NRRD file format; the MetaIO documentation of Kitware.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.nifti_header import is_nifti, read_nifti_header
from nnunet_liver_ext.space.text_headers import header_fields

MILLIMETRES = ("", "mm", "millimeter", "millimeters", "millimetre", "millimetres")
PATIENT_SPACES = re.compile(
    r"(r|l)(a|p)s|(right|left)-(anterior|posterior)-superior", flags=re.IGNORECASE
)
"""Spaces of NRRD whose axes are the patient's, those that ITK understands."""


@dataclass(frozen=True)
class StatedGeometry:
    """What a file says of its place in space."""

    spacing: tuple[float, ...]
    """Of its axes (x, y, z) as it is written, be it 0 or NaN; () if it says nothing."""
    field: str
    """Where the header says so."""
    unit: str
    """Of the spacing, "mm" or "" wherever ITK reads millimetres."""
    in_scanner: bool
    """Whether it says where in the scanner the image lies."""


def read_stated_geometry(path: Path) -> StatedGeometry | None:
    """What the header says; the voxels are not read.

    Returns:
        None for DICOM, whose slices are asked elsewhere, and for what is no image of a known kind.

    Raises:
        InputError: the header of a NIfTI file is damaged.
    """
    if not path.is_file():
        return None
    if is_nifti(path):
        header = read_nifti_header(path)
        return StatedGeometry(
            header.spacing, "pixdim", "mm", bool(header.qform_code or header.sform_code)
        )
    read = {".nrrd": _read_nrrd, ".mha": _read_metaimage, ".mhd": _read_metaimage}
    fields = header_fields(path) if path.suffix.lower() in read else {}
    try:
        return read[path.suffix.lower()](fields) if fields else None
    except ValueError:  # not a number: ITK says what is wrong with it
        return None


def has_scanner_coordinates(path: Path) -> bool:
    """Whether an image says where in the scanner it lies; DICOM slices always do."""
    stated = read_stated_geometry(path)
    return stated is None or stated.in_scanner


def check_stated_geometry(path: Path) -> None:
    """Refuses a file that cannot be where its header says.

    Raises:
        InputError: a spacing is 0, negative or not finite, or not in mm, or a NIfTI file states two
            places or a sheared one.
    """
    stated = read_stated_geometry(path)
    if stated is None:
        return
    if not all(0 < mm < np.inf for mm in stated.spacing):  # neither if it is NaN
        numbers = " x ".join(f"{mm:g}" for mm in stated.spacing)
        raise InputError(
            f"{path}: its voxels are {numbers} mm (x y z); correct the header ({stated.field})."
        )
    if stated.unit.lower() not in MILLIMETRES:
        raise InputError(
            f"{path}: its voxels are measured in {stated.unit}; write the file again with"
            " millimetres."
        )
    if is_nifti(path):
        read_nifti_header(path).check_one_place(path)


def _read_nrrd(fields: dict[str, str]) -> StatedGeometry:
    axes = int(fields["dimension"])
    units = _quoted(fields.get("spaceunits", "")) or _quoted(fields.get("units", ""))
    in_scanner = bool(PATIENT_SPACES.fullmatch(fields.get("space", ""))) and (
        "spaceorigin" in fields
    )
    field, spacing = "spacings", [float(word) for word in fields.get("spacings", "").split()]
    if "spacedirections" in fields:
        field = "space directions"
        spacing = [_length(vector) for vector in _vectors(fields["spacedirections"])]
    if axes > 3:  # an axis of colours has none
        spacing = [mm for mm in spacing if not np.isnan(mm)]
    unit = next((unit for unit in units if unit.lower() not in MILLIMETRES), "mm")
    return StatedGeometry(tuple(spacing), field, unit, in_scanner)


def _vectors(text: str) -> list[str]:
    """ "none (1,0,0) (0,1,0)" as words."""
    return re.findall(r"none|\([^)]*\)", text)


def _length(vector: str) -> float:
    """Length of "(1,0,0)"; NaN for "none"."""
    if vector == "none":
        return float("nan")
    return float(np.linalg.norm([float(word) for word in vector.strip("()").split(",")]))


def _quoted(text: str) -> list[str]:
    """'"mm" "mm"' as words."""
    return [word.strip() for word in re.findall(r'"([^"]*)"', text)]


def _read_metaimage(fields: dict[str, str]) -> StatedGeometry:
    field = next((name for name in ("ElementSpacing", "ElementSize") if name.lower() in fields), "")
    spacing = tuple(float(word) for word in fields.get(field.lower(), "").split())
    in_scanner = any(name in fields for name in ("offset", "position", "origin"))
    return StatedGeometry(spacing, field, fields.get("distanceunits", ""), in_scanner)
