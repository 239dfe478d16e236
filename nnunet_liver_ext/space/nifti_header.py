"""The header of a NIfTI file as it is written: nibabel and ITK mend some faults when they load it.

Source: nifti1.h of the NIfTI-1 standard. A file may say twice where it lies: by a rotation (qform)
and by any affine map (sform), each with a code that is 0 if it says nothing. nibabel takes the
sform, ITK one or the other.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.dcm2niix_files import NIFTI_ENDINGS, STRAIGHTENED
from nnunet_liver_ext.space.grid import nearest_rotation

HEADER_BYTES = 540
"""Of NIfTI-2; NIfTI-1 has 348."""
SAME_PLACE = 0.1
"""Voxels by which corners may differ, as in `Grid.matches`."""
SHEARED = 0.01
"""Cosine between two axes from which on they are called sheared."""
UNITS_MM = {1: 1000.0, 3: 0.001}
"""Metres and micrometres, which ITK turns into mm; anything else counts as mm."""


def is_nifti(path: Path) -> bool:
    """Whether a file's name ends as that of a NIfTI file."""
    return path.name.lower().endswith(NIFTI_ENDINGS)


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI file says of its place in space."""

    size: tuple[int, ...]
    """Voxels (x, y, z); fewer for an image of fewer axes."""
    spacing: tuple[float, ...]
    """pixdim of these axes in mm."""
    qform_code: int
    sform_code: int
    qform: np.ndarray
    """Voxels to mm (4, 4), RAS; of no meaning if its code is 0, as the sform."""
    sform: np.ndarray

    def check_one_place(self, path: Path) -> None:
        """Refuses a volume that lies at two places, or is no box of voxels.

        Raises:
            InputError: a form is not finite, or qform and sform, or the sform and a box of voxels
                of size pixdim, differ by more than a tenth of a voxel at a corner.
        """
        if len(self.size) < 3:
            return
        places = {
            name: affine
            for name, code, affine in (
                ("qform", self.qform_code, self.qform),
                ("sform", self.sform_code, self.sform),
            )
            if code
        }
        unusable = [name for name, affine in places.items() if not np.isfinite(affine).all()]
        if unusable:
            raise InputError(f"{path}: its {unusable[0]} holds NaN or infinite numbers.")
        if "sform" in places:
            places.setdefault("pixdim", self._nearest_box(self.sform))
        for (one, first), (other, second) in combinations(places.items(), 2):
            distance_mm = self._distance_mm(first, second)
            if distance_mm > SAME_PLACE * min(self.spacing):
                raise InputError(
                    f"{path}: its {one} and its {other} contradict each other by {distance_mm:.3g}"
                    f" mm at a corner{self._say_sheared()}."
                )

    def _say_sheared(self) -> str:
        """What the sform is, if it is sheared, and what to do."""
        lengths = np.linalg.norm(self.sform[:3, :3], axis=0)
        axes = self.sform[:3, :3] / np.where(lengths > 0, lengths, 1)
        cosine = np.abs(np.triu(axes.T @ axes, 1)).max()
        if not (self.sform_code and cosine > SHEARED):
            return "; keep the one that is right in both"
        return (
            f", and the sform is sheared by {np.degrees(np.arcsin(cosine)):.2g} degrees, as in the"
            f" file that dcm2niix writes of a tilted gantry; take its NAME{STRAIGHTENED}.nii.gz,"
            " or resample the image onto a regular grid"
        )

    def _nearest_box(self, affine: np.ndarray) -> np.ndarray:
        """The affine of voxels of size pixdim at right angles that is nearest to this one."""
        box = affine.copy()
        box[:3, :3] = nearest_rotation(affine[:3, :3] / np.array(self.spacing)) * self.spacing
        return box

    def _distance_mm(self, first: np.ndarray, second: np.ndarray) -> float:
        """The greatest distance of a corner's centre under both."""
        corners = np.array([[*c, 1] for c in product(*[(0, n - 1) for n in self.size])], float)
        return float(np.linalg.norm(corners @ (first - second).T, axis=1).max())


def read_nifti_header(path: Path) -> NiftiHeader:
    """Reads the first 540 bytes of a NIfTI file.

    Raises:
        InputError: it cannot be read, or is no NIfTI file.
    """
    import nibabel

    try:
        header = _parse(_read_first_bytes(path))
        scale = UNITS_MM.get(int(header["xyzt_units"]) % 8, 1.0)
        axes = min(int(header["dim"][0]), 3)
        return NiftiHeader(
            size=tuple(int(n) for n in header["dim"][1 : 1 + axes]),
            spacing=tuple(float(step) * scale for step in header["pixdim"][1 : 1 + axes]),
            qform_code=int(header["qform_code"]),
            sform_code=int(header["sform_code"]),
            qform=_qform(header) * [[scale], [scale], [scale], [1]],
            sform=header.get_sform().astype(float) * [[scale], [scale], [scale], [1]],
        )
    except (
        nibabel.spatialimages.HeaderDataError,
        nibabel.wrapstruct.WrapStructError,
        EOFError,
        OSError,
        ValueError,
        zlib.error,
    ) as error:
        raise InputError(
            f"{path}: cannot be read, it is damaged or incomplete ({error})."
        ) from None


def _read_first_bytes(path: Path) -> bytes:
    if not path.name.lower().endswith(".gz"):
        with path.open("rb") as file:
            return file.read(HEADER_BYTES)
    with gzip.open(path) as unpacked:
        return unpacked.read(HEADER_BYTES)


def _parse(block: bytes) -> Any:
    """nibabel's header, of NIfTI-1 or NIfTI-2, with the faults that the file has."""
    import nibabel

    for kind in (nibabel.Nifti1Header, nibabel.Nifti2Header):
        if kind.may_contain_header(block):
            return kind(binaryblock=block[: kind.sizeof_hdr], check=False)
    raise ValueError("it does not begin as a NIfTI file")


def _qform(header: Any) -> np.ndarray:
    """Voxels to the unit of the header (4, 4)."""
    header = header.copy()
    if header["pixdim"][0] == 0:  # nifti1.h: to be taken for 1
        header["pixdim"][0] = 1
    header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])  # refused elsewhere, with its name
    return np.asarray(header.get_qform(), float)
