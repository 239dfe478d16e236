"""Whether DICOM slices make up one regular volume: one series, even distances, no gantry tilt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.dcm2niix_files import EVENED, STRAIGHTENED
from nnunet_liver_ext.space.dicom_headers import SliceHeader

UNEVEN = 0.1
"""Gaps between slices may differ from their median by this share of it."""
ASTRAY = 0.25
"""A slice may lie this share of a gap from where even gaps would put it: small differences of the
gaps can add up."""
EVEN_OUT = (
    "convert it to NIfTI with dcm2niix and give its corrected file NAME{mark}.nii.gz, not the"
    " NAME.nii.gz beside it (of 16-bit unsigned values it corrects none: resample those with"
    " another tool)"
)
"""What to do with slices that are no box of voxels; the mark is that of dcm2niix's corrected
file."""


def check_one_series(folder: Path, slices: Sequence[SliceHeader], same_uid: bool) -> None:
    """Refuses slices that differ in what all slices of one series share.

    Raises:
        InputError: colour, or slices that differ in size, spacing, orientation, echo time or (with
            `same_uid`) in their series' identifier.
    """
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


def check_regular(folder: Path, slices: Sequence[SliceHeader]) -> None:
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
            f" {names}, {step:.4g} mm between most others; fetch what is missing, or"
            f" {EVEN_OUT.format(mark=EVENED)}."
        )
    even = np.linspace(depths[0], depths[-1], len(depths))
    astray = int(np.abs(depths - even).argmax())
    if abs(depths[astray] - even[astray]) > ASTRAY * step:
        raise InputError(
            f"{folder}: the distance of its slices varies from {gaps.min():.4g} to {gaps.max():.4g}"
            f" mm, so that {slices[astray].path.name} lies {abs(depths[astray] - even[astray]):.2g}"
            f" mm from its place in a regular volume; {EVEN_OUT.format(mark=EVENED)}."
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
            f"so they are no box of voxels; {EVEN_OUT.format(mark=STRAIGHTENED)}."
        )
