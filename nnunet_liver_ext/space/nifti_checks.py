"""Faults of NIfTI files that ITK reads without complaint: cut files, and NaN among the voxels.

What its header says of space is asked in `stated_geometry`.
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError

NIFTI_FLOATS = ("16", "64")  # nifti1.h: DT_FLOAT32, DT_FLOAT64


def check_nifti(path: Path, image: sitk.Image) -> None:
    """Refuses a NIfTI file that is damaged although ITK has read it.

    Args:
        path: of the file.
        image: what ITK has read from it.

    Raises:
        InputError: it is cut, or its voxels are NaN or infinite.
    """
    _check_complete(path, image)
    _check_finite(path, image)


def has_length(path: Path, unpacked_bytes: int) -> bool:
    """Whether a NIfTI file is as long as it should be; other kinds are not judged.

    A gzip file ends with its unpacked length.
    """
    if path.name.lower().endswith(".nii"):
        return path.stat().st_size >= unpacked_bytes
    return not _is_gzip(path) or _gzip_length(path) == unpacked_bytes % 2**32


def refuse_infinite(finite: np.ndarray, path: Path | str) -> None:
    """InputError if some voxels of a file are not finite; `finite` is true where they are."""
    if not finite.all():
        raise InputError(
            f"{path}: {int((~finite).sum())} voxels are NaN or infinite; replace them before"
            " converting."
        )


def _check_complete(path: Path, image: sitk.Image) -> None:
    """Refuses a truncated file, which ITK fills with zeros without complaint."""
    voxels = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel()
    expected = (
        int(float(image.GetMetaData("vox_offset"))) + voxels * int(image.GetMetaData("bitpix")) // 8
    )
    if not (has_length(path, expected) or (_is_gzip(path) and _unpacked_bytes(path) >= expected)):
        raise InputError(
            f"{path}: cannot be read, it is damaged or incomplete (the file ends too early)."
        )


def _check_finite(path: Path, image: sitk.Image) -> None:
    """Refuses NaN and infinite values in files of floats, which ITK reads as zeros."""
    if image.GetMetaData("datatype") not in NIFTI_FLOATS:
        return
    import nibabel

    try:
        finite = np.isfinite(np.asanyarray(nibabel.load(path).dataobj))  # type: ignore[attr-defined]
    except (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        OSError,
    ) as error:
        raise InputError(f"{path}: cannot be read, it is damaged ({error}).") from None
    refuse_infinite(finite, path)


def _gzip_length(path: Path) -> int:
    """The unpacked length (modulo 2^32) in a gzip file's last four bytes.

    It is nonsense if the file was cut.
    """
    if path.stat().st_size < 4:
        return -1
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little")


def _unpacked_bytes(path: Path) -> int:
    """How much a gzip file holds, 0 if it is damaged.

    This is slow, and right for several members or something after the voxels.
    """
    total = 0
    try:
        with gzip.open(path) as file:
            while block := file.read(2**24):
                total += len(block)
    except (EOFError, OSError, zlib.error):
        return 0
    return total


def _is_gzip(path: Path) -> bool:
    return path.name.lower().endswith(".nii.gz")
