"""One DICOM series in a folder as one 3D image, sorted by the slices' positions.

File names and instance numbers do not matter.

The spacing along z comes from the positions (SliceThickness is often another number). What cannot
be one volume is refused: two series, a missing slice, slices whose distances vary, slices sheared
by a tilted gantry, colour, multi-frame files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError, last_line
from nnunet_liver_ext.space.grid import Grid

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
UNEVEN = 0.1
"""Gaps between slices may differ from their median by this share of it."""
ASTRAY = 0.25
"""A slice may lie this share of a gap from where even gaps would put it: small differences of the
gaps can add up."""
NOT_SQUARE = 0.01
"""Largest cosine between rows and columns, and largest error of the length of their unit
vectors."""
STRAIGHTEN = (
    "convert it to NIfTI with a tool that corrects this (dcm2niix does) and give the NIfTI file"
    " instead"
)


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

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def depth_mm(self) -> float:
        """Position along the normal."""
        return float(np.dot(self.position, self.normal))


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
    slices = [_read_header(path) for path in sorted(folder.iterdir()) if is_dicom(path)]
    if not slices:
        raise InputError(f"{folder}: holds no DICOM files.")
    if len(slices) == 1:
        raise InputError(f"{folder}: holds a single DICOM slice; a volume is expected.")
    _check_one_series(folder, slices, same_uid)
    slices.sort(key=lambda header: header.depth_mm)
    _check_regular(folder, slices)
    return slices


def grid_of_slices(slices: Sequence[SliceHeader]) -> Grid:
    """The grid of sorted slices; the spacing along z is the mean distance of their positions."""
    first, last = slices[0], slices[-1]
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    direction = np.stack([row, column, first.normal], axis=1)
    step = (last.depth_mm - first.depth_mm) / (len(slices) - 1)
    origin = tuple(float(value) for value in first.position)
    return Grid(
        (*first.size, len(slices)),
        (*first.spacing, step),
        (origin[0], origin[1], origin[2]),
        tuple(direction.flatten().tolist()),
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


def _read_header(path: Path) -> SliceHeader:
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
        if len(values) != count:
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
    )


def _read_text(reader: sitk.ImageFileReader, tag: str) -> str:
    return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""


def _check_one_series(folder: Path, slices: Sequence[SliceHeader], same_uid: bool) -> None:
    colour = next((header for header in slices if header.channels != 1), None)
    if colour is not None:
        raise InputError(
            f"{colour.path}: has {colour.channels} values per voxel (colour); one is expected."
        )
    marks: dict[str, Callable[[SliceHeader], object]] = {
        "size": lambda header: header.size,
        "pixel spacing": lambda header: tuple(round(value, 3) for value in header.spacing),
        "orientation": lambda header: tuple(round(value, 2) + 0.0 for value in header.orientation),
        "echo time": lambda header: (
            header.echo_time_ms if header.echo_time_ms is None else round(header.echo_time_ms, 2)
        ),
    }
    if same_uid:
        marks["SeriesInstanceUID"] = lambda header: header.series_uid
    for name, mark in marks.items():
        values = list(dict.fromkeys(mark(header) for header in slices))
        if len(values) > 1:
            raise InputError(
                f"{folder}: holds {len(values)} series that differ in {name} ({values[0]} and"
                f" {values[1]}); keep one series in a folder."
            )


def _check_regular(folder: Path, slices: Sequence[SliceHeader]) -> None:
    """Slices must have one distance and lie above each other."""
    depths = np.array([header.depth_mm for header in slices])
    gaps = np.diff(depths)
    step = float(np.median(gaps))
    if gaps.min() < 1e-3:
        where = int(gaps.argmin())
        names = f"{slices[where].path.name} and {slices[where + 1].path.name}"
        raise InputError(
            f"{folder}: {names} are at the same position, so this is more than one series; keep"
            " one."
        )
    widest = int(np.abs(gaps - step).argmax())
    if abs(gaps[widest] - step) > UNEVEN * step:
        names = f"{slices[widest].path.name} and {slices[widest + 1].path.name}"
        raise InputError(
            f"{folder}: a slice is missing or slices are uneven: {gaps[widest]:.4g} mm between"
            f" {names}, {step:.4g} mm between most others; fetch what is missing, or {STRAIGHTEN}."
        )
    even = np.linspace(depths[0], depths[-1], len(depths))
    astray = int(np.abs(depths - even).argmax())
    if abs(depths[astray] - even[astray]) > ASTRAY * step:
        raise InputError(
            f"{folder}: the distance of its slices varies from {gaps.min():.4g} to {gaps.max():.4g}"
            f" mm, so that {slices[astray].path.name} lies {abs(depths[astray] - even[astray]):.2g}"
            f" mm from its place in a regular volume; {STRAIGHTEN}."
        )
    _check_straight(folder, slices, step)


def _check_straight(folder: Path, slices: Sequence[SliceHeader], step: float) -> None:
    """Refuses slices that do not lie above each other along their normal.

    A tenth of a slice is tolerated.
    """
    positions = np.array([header.position for header in slices])
    along = positions - positions[0]
    normal = slices[0].normal
    sideways = np.linalg.norm(along - np.outer(along @ normal, normal), axis=1).max()
    if sideways > max(UNEVEN * step, 0.5 * min(slices[0].spacing)):
        raise InputError(
            f"{folder}: slices are shifted sideways by up to {sideways:.3g} mm (tilted gantry), "
            f"so they are no box of voxels; {STRAIGHTEN}."
        )
