"""One DICOM series in a folder as one 3D image, sorted by the slices' positions.

File names and instance numbers do not matter.

The spacing along z comes from the positions (SliceThickness is often another number). What cannot
be one volume is refused: two series, a missing slice, slices whose distances vary, slices sheared
by a tilted gantry, colour, multi-frame files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError, last_line
from nnunet_liver_ext.space.dicom_checks import check_one_series, check_regular
from nnunet_liver_ext.space.dicom_headers import SliceHeader, is_dicom, read_header
from nnunet_liver_ext.space.grid import Grid


def read_series(folder: Path | str, *, same_uid: bool = True) -> sitk.Image:
    """Reads a folder with one DICOM series.

    Args:
        folder: its files (not those of sub-folders); files that are no DICOM are passed over.
        same_uid: all files must have one SeriesInstanceUID. False for collections whose UIDs were
            anonymised file by file.

    Returns:
        The image, (x, y, z) with z along the slices' normal, rescaled as the files say.

    Raises:
        InputError: as `read_slice_headers`, or a file's pixels cannot be read.
    """
    slices = read_slice_headers(folder, same_uid=same_uid)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames([str(header.path) for header in slices])
    if len({header.pixel_type for header in slices}) > 1:
        reader.SetOutputPixelType(sitk.sitkFloat32)  # each file has its own rescaling
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            f"{folder}: the pixels of a DICOM file cannot be read, it may be damaged"
            f" ({last_line(error)})."
        ) from None
    grid = grid_of_slices(slices)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


def read_slice_headers(folder: Path | str, *, same_uid: bool = True) -> list[SliceHeader]:
    """The slices of the one series in a folder, ascending along their normal.

    Raises:
        InputError: no DICOM files, a single slice, two series (they differ in UID, orientation,
            spacing, size or echo time, or have two slices at one position), a missing slice,
            distances that vary by more than a tenth of their median or put a slice more than a
            quarter of a slice astray, a tilted gantry, colour, multi-frame files.
    """
    folder = Path(folder)
    slices = [read_header(path) for path in sorted(folder.iterdir()) if is_dicom(path)]
    if not slices:
        raise InputError(f"{folder}: holds no DICOM files.")
    if len(slices) == 1:
        raise InputError(f"{folder}: holds a single DICOM slice; a volume is expected.")
    check_one_series(folder, slices, same_uid)
    slices.sort(key=lambda header: header.depth_mm)
    check_regular(folder, slices)
    return slices


def read_patient_id(folder: Path) -> str:
    """PatientID of the first DICOM file in a folder; "" if there is none, or it has none.

    Raises:
        InputError: the file cannot be read.
    """
    first = next((path for path in sorted(folder.iterdir()) if is_dicom(path)), None)
    return "" if first is None else read_header(first).patient_id


def grid_of_slices(slices: Sequence[SliceHeader]) -> Grid:
    """The grid of sorted slices; the spacing along z is the mean distance of their positions."""
    first, last = slices[0], slices[-1]
    step = (last.depth_mm - first.depth_mm) / (len(slices) - 1)
    origin = tuple(float(value) for value in first.position)
    return Grid(
        (*first.size, len(slices)),
        (*first.spacing, step),
        (origin[0], origin[1], origin[2]),
        tuple(first.direction.flatten().tolist()),
    )


def read_slice(path: Path | str) -> np.ndarray:
    """The pixels (y, x) of one DICOM file, rescaled as it says, wherever it lies in space.

    Raises:
        InputError: it cannot be read, or is no single grey slice.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(
            f"{path}: cannot be read as DICOM, it is damaged or incomplete ({last_line(error)})."
        ) from None
    values = sitk.GetArrayFromImage(image)
    values = values[0] if values.ndim == 3 and len(values) == 1 else values
    if values.ndim != 2 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path}: is no single grey slice (its array is {values.shape}).")
    return values
