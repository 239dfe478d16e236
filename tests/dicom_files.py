"""DICOM series for tests, written with pydicom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def write_series(
    folder: Path,
    values: np.ndarray,
    *,
    spacing: tuple[float, float] = (1.5, 1.25),
    step: float = 4.0,
    origin: Sequence[float] = (-20.0, -30.0, 100.0),
    orientation: Sequence[float] = AXIAL,
    names: Sequence[str] | None = None,
    depths: Sequence[float] | None = None,
    uid: str | None = None,
    uid_per_file: bool = False,
    echo_time: float | None = 4.6,
    slope: float | None = None,
    **attributes: Any,
) -> list[Path]:
    """Writes values (z, y, x) as one file per slice; spacing is (between columns, between rows) in
    mm.

    SliceThickness is wrong on purpose, and so is the order of the instance numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or generate_uid()
    normal = np.cross(orientation[:3], orientation[3:])
    paths = []
    for index, plane in enumerate(values):
        depth = step * index if depths is None else depths[index]
        file = _slice(plane, np.array(origin) + depth * normal, spacing, orientation)
        file.SeriesInstanceUID = generate_uid() if uid_per_file else uid
        file.InstanceNumber = len(values) - index
        if echo_time is not None:
            file.EchoTime = echo_time
        if slope is not None:
            file.RescaleSlope, file.RescaleIntercept = slope, 0
        for name, value in attributes.items():
            setattr(file, name, value)
        name = names[index] if names is not None else f"IM{(7 * index) % 101:03d}.dcm"
        file.save_as(folder / name, enforce_file_format=True)
        paths.append(folder / name)
    return paths


def _slice(
    plane: np.ndarray,
    position: np.ndarray,
    spacing: tuple[float, float],
    orientation: Sequence[float],
) -> Dataset:
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.MediaStorageSOPClassUID = MRImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = (
        MRImageStorage,
        file.file_meta.MediaStorageSOPInstanceUID,
    )
    file.StudyInstanceUID = generate_uid()
    file.Modality, file.PatientName, file.PatientID = "MR", "Test", "T"
    file.ImagePositionPatient = [f"{value:.6g}" for value in position]
    file.ImageOrientationPatient = [f"{value:.8g}" for value in orientation]
    file.PixelSpacing = [spacing[1], spacing[0]]
    file.SliceThickness = 9.9
    file.Rows, file.Columns = plane.shape[:2]
    colour = plane.ndim == 3
    file.SamplesPerPixel = plane.shape[2] if colour else 1
    file.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        file.PlanarConfiguration = 0
    bits = 8 * plane.dtype.itemsize
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = (
        bits,
        bits,
        bits - 1,
        0,
    )
    file.PixelData = np.ascontiguousarray(plane).tobytes()
    return file
