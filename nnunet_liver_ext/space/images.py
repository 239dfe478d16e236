"""Reading and writing images.

Images are SimpleITK images: physical space is LPS in mm, sizes and spacings are in (x, y, z).
Arrays taken from them are (z, y, x), and so is `spacing_mm`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.errors import InputError, last_line
from nnunet_liver_ext.space.dcm2niix_files import refuse_uncorrected
from nnunet_liver_ext.space.dicom import read_series
from nnunet_liver_ext.space.grid import Grid
from nnunet_liver_ext.space.nifti_checks import check_nifti, has_length, refuse_infinite
from nnunet_liver_ext.space.nifti_header import SAME_PLACE, is_nifti
from nnunet_liver_ext.space.stated_geometry import check_stated_geometry

NIFTI_HEADER_BYTES = 352  # as ITK writes them
LARGEST_INTENSITY = 1e14
"""The squares of so large values, summed over a billion voxels, are still floats of 32 bits."""
IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


def read_image(path: Path | str) -> sitk.Image:
    """Reads one 3D scalar image: NIfTI, NRRD or MetaImage, or a folder with one DICOM series.

    Raises:
        InputError: the file is missing or truncated, has no three spatial axes or several channels
            (RGB, vectors), holds values that are NaN, infinite or too large to compute with, or
            its header leaves its place in space unclear (`stated_geometry`).
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.")
    return check_single_image(read_series(path) if path.is_dir() else _read_file(path), path)


def read_mask(path: Path | str) -> sitk.Image:
    """Reads one label map as integers; the same files as `read_image`.

    Raises:
        InputError: as `read_image`, or values that are no integers (a probability map, an
            interpolated mask).
    """
    image = read_image(path)
    if image.GetPixelID() in (sitk.sitkFloat32, sitk.sitkFloat64):
        values = sitk.GetArrayViewFromImage(image)
        if not np.array_equal(values, np.rint(values)):
            raise InputError(
                f"{path}: a mask must hold integers, found values such as"
                f" {_first_fraction(values):.4g}."
            )
        large = values.size > 0 and max(-values.min(), values.max()) > np.iinfo(np.int16).max
        image = sitk.Cast(image, sitk.sitkInt64 if large else sitk.sitkInt16)
    return image


def check_single_image(image: sitk.Image, source: Path | str) -> sitk.Image:
    """The image, without a fourth axis of one volume.

    Args:
        image: as it was read.
        source: what the error calls it, such as its file.

    Raises:
        InputError: it has no three spatial axes or several channels, its axes are not at right
            angles, or it holds values that are NaN, infinite or too large to compute with.
    """
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{source}: has {image.GetNumberOfComponentsPerPixel()} values per voxel (colour or"
            " vectors); one is expected."
        )
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise InputError(
            f"{source}: has {image.GetDimension()} axes {image.GetSize()}; a single 3D image is"
            " expected."
        )
    _check_right_angles(image, source)
    if image.GetPixelID() in (sitk.sitkFloat32, sitk.sitkFloat64):
        values = sitk.GetArrayViewFromImage(image)
        refuse_infinite(np.isfinite(values), source)
        _check_range(values, source)
    return image


def write_image(image: sitk.Image, path: Path | str) -> None:
    """Writes an image (compressed); `path` is then either complete or absent.

    Raises:
        OSError: it cannot be written, or only in part: ITK does not notice that a disk is full.
    """
    path = Path(path)
    with atomic_write(path, suffix=image_ending(path) or path.suffix) as unfinished:
        try:
            sitk.WriteImage(image, str(unfinished), True)
        except RuntimeError as error:
            raise OSError(f"{path.name} could not be written ({last_line(error)})") from None
        voxels = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel()
        if not has_length(
            unfinished, NIFTI_HEADER_BYTES + voxels * image.GetSizeOfPixelComponent()
        ):
            raise OSError(f"{path.name} could not be written completely; is the disk full?")


def image_ending(path: Path | str) -> str | None:
    """ ".nii.gz", ".nrrd", ... if the file name has one of the known endings, else None."""
    name = Path(path).name.lower()
    return next((ending for ending in IMAGE_ENDINGS if name.endswith(ending)), None)


def stem(path: Path | str) -> str:
    """The file name without its image ending: "a/b.nii.gz" gives "b"."""
    name = Path(path).name
    ending = image_ending(path)
    return name[: -len(ending)] if ending else Path(path).stem


def array(image: sitk.Image) -> np.ndarray:
    """The voxels as a new numpy array (z, y, x)."""
    return sitk.GetArrayFromImage(image)


def image_like(values: np.ndarray, grid: Grid) -> sitk.Image:
    """A SimpleITK image with these voxels (z, y, x) on this grid; bool becomes uint8."""
    image = sitk.GetImageFromArray(values.astype(np.uint8) if values.dtype == bool else values)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


def resample(
    image: sitk.Image, grid: Grid, *, interpolator: int = sitk.sitkLinear, outside: float = 0
) -> sitk.Image:
    """The image on another grid by scanner coordinates; its pixel type is kept.

    Where it has no voxels the value is `outside`.
    """
    return sitk.Resample(
        image, grid.empty_image(), sitk.Transform(), interpolator, outside, image.GetPixelID()
    )


def _read_file(path: Path) -> sitk.Image:
    if image_ending(path) is None:
        raise InputError(
            f"{path}: unknown kind of image; expected one of {', '.join(IMAGE_ENDINGS)} or a DICOM"
            " folder."
        )
    refuse_uncorrected(path)
    check_stated_geometry(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(
            f"{path}: cannot be read, it is damaged or incomplete ({last_line(error)})."
        ) from None
    if is_nifti(path):
        check_nifti(path, image)
    return image


def _check_right_angles(image: sitk.Image, source: Path | str) -> None:
    """Refuses sheared or scaled axes: masks are written as NIfTI, which ITK would straighten."""
    skew = Grid.from_image(image).skew
    if not skew <= SAME_PLACE:  # neither if it is NaN
        raise InputError(
            f"{source}: its axes are sheared or scaled, so that a corner lies {skew:.2g} voxels"
            " beside a box of voxels; resample it onto a regular grid."
        )


def _check_range(values: np.ndarray, source: Path | str) -> None:
    """Refuses what cannot be computed with in floats of 32 bits."""
    largest = float(max(-values.min(), values.max())) if values.size else 0.0
    if largest > LARGEST_INTENSITY:
        raise InputError(
            f"{source}: holds values of up to {largest:.3g}, too large to compute with; divide them"
            " by a constant."
        )


def _first_fraction(values: np.ndarray) -> float:
    return float(values[values != np.rint(values)].flat[0])
