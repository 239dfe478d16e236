"""What the header of one DICOM slice says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError, last_line
from nnunet_liver_ext.space.grid import nearest_rotation

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
NOT_SQUARE = 0.01
"""Largest cosine between rows and columns, and largest error of the length of their unit
vectors."""


@dataclass(frozen=True)
class SliceHeader:
    """What the header of one DICOM file says."""

    path: Path
    series_uid: str
    position: tuple[float, ...]
    """Centre of the first voxel, mm, LPS."""
    orientation: tuple[float, ...]
    """Unit vectors along a row and along a column."""
    spacing: tuple[float, float]
    """mm between columns, mm between rows: (x, y)."""
    size: tuple[int, int]
    """Columns, rows."""
    channels: int
    pixel_type: int
    echo_time_ms: float | None
    patient_id: str = ""
    """Empty if the file has none."""

    @property
    def direction(self) -> np.ndarray:
        """Axes of a row, of a column and of their normal as columns (3, 3).

        They are the nearest to the header's that are at right angles: its numbers are rounded.
        """
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        return nearest_rotation(np.stack([row, column, np.cross(row, column)], axis=1))

    @property
    def normal(self) -> np.ndarray:
        """Unit vector at right angles to rows and columns."""
        return self.direction[:, 2]

    @property
    def depth_mm(self) -> float:
        """Position along the normal."""
        return float(np.dot(self.position, self.normal))


def is_dicom(path: Path) -> bool:
    """Whether a file looks like a DICOM slice, by its ending or its content.

    Hidden files and a DICOMDIR do not.
    """
    if not path.is_file() or path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    return (
        path.suffix.lower() in DICOM_SUFFIXES
        or sitk.ImageFileReader.GetImageIOFromFileName(str(path)) == "GDCMImageIO"
    )


def read_header(path: Path) -> SliceHeader:
    """Reads what a DICOM slice says of itself; InputError if it cannot be read."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        return _parse_header(reader, path)
    except RuntimeError as error:
        raise InputError(
            f"{path}: cannot be read as DICOM, it is damaged or incomplete ({last_line(error)})."
        ) from None


def _parse_header(reader: sitk.ImageFileReader, path: Path) -> SliceHeader:
    def numbers(tag: str, name: str, count: int) -> tuple[float, ...]:
        text = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
        try:
            values = tuple(float(word) for word in text.split("\\"))
        except ValueError:
            values = ()
        if len(values) != count or not np.isfinite(values).all():
            raise InputError(f"{path}: has no usable {name}, so its place in space is unknown.")
        return values

    size = reader.GetSize()
    if len(size) > 2 and size[2] > 1:
        raise InputError(
            f"{path}: is a multi-frame DICOM file; convert it to NIfTI first (for example with"
            " dcm2niix)."
        )
    orientation = numbers("0020|0037", "ImageOrientationPatient", 6)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    errors = [row @ column, np.linalg.norm(row) - 1, np.linalg.norm(column) - 1]
    if not np.abs(errors).max() <= NOT_SQUARE:  # neither if it is NaN
        raise InputError(
            f"{path}: its ImageOrientationPatient is no pair of unit vectors at a right angle:"
            f" {orientation}."
        )
    between_rows, between_columns = numbers("0028|0030", "PixelSpacing", 2)
    if min(between_rows, between_columns) <= 0:
        raise InputError(
            f"{path}: its pixels are {between_columns:g} x {between_rows:g} mm (x y); correct its"
            " PixelSpacing."
        )
    return SliceHeader(
        path=path,
        series_uid=_read_text(reader, "0020|000e"),
        position=numbers("0020|0032", "ImagePositionPatient", 3),
        orientation=orientation,
        spacing=(between_columns, between_rows),
        size=(size[0], size[1]),
        channels=reader.GetNumberOfComponents(),
        pixel_type=reader.GetPixelID(),
        echo_time_ms=numbers("0018|0081", "EchoTime", 1)[0]
        if _read_text(reader, "0018|0081")
        else None,
        patient_id=_read_text(reader, "0010|0020"),
    )


def _read_text(reader: sitk.ImageFileReader, tag: str) -> str:
    return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""
