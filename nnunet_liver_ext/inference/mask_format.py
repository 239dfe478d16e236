"""The file formats of masks: NIfTI, NRRD, and VTK, which knows no axes of the patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid, write_image

FORMATS = ("nii.gz", "nrrd", "vtk")
TILT = 1e-4
"""Up to this difference of a direction cosine axes count as those of the patient."""


def check_format(name: str) -> None:
    """InputError unless it is one of `FORMATS`."""
    if name not in FORMATS:
        raise InputError(f"--format is {', '.join(FORMATS)}, not {name!r}.")


def check_axes(image: sitk.Image, file_format: str) -> None:
    """InputError if a mask on this image's grid cannot be written in this format.

    A VTK file has an origin and spacings, but no directions.
    """
    direction = np.abs(np.array(Grid.from_image(image).direction))
    if file_format == "vtk" and np.abs(direction - np.rint(direction)).max() > TILT:
        raise InputError(
            "its axes are tilted against the patient's, which a .vtk file cannot say: write masks"
            " with --format nii.gz or nrrd."
        )


def write_mask(mask: sitk.Image, path: Path) -> None:
    """Writes a mask; for .vtk its axes are turned to left, posterior, superior, without resampling.

    Raises:
        InputError: as `check_axes`.
        OSError: as `write_image`.
    """
    if path.suffix == ".vtk":
        check_axes(mask, "vtk")
        mask = sitk.DICOMOrient(mask, "LPS")
    write_image(mask, path)
