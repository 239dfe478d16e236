"""Single slices: PNG files and NIfTI files of one slice, as 3D images with one voxel along z.

A PNG has no place in space: its columns run to the patient's left and its rows to the back (LPS),
as radiological pictures do. Values are those in the file: grey of 1, 2, 4, 8 or 16 bits is not
stretched, and a palette's numbers are the labels of a mask.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.grid import Grid
from nnunet_liver_ext.space.images import array, image_ending, image_like, read_image, read_mask
from nnunet_liver_ext.space.stated_geometry import check_stated_geometry

SLICE_MM = 999.0
"""nnU-Net's mark of 2D data: one slice, thicker than a pixel is wide, so that only a 2d
configuration is planned."""
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
STRETCHED = {2: 85, 4: 17}
"""What grey values of few bits are multiplied by when they are read."""
GREY, PALETTE = 0, 3
"""Colour types in a PNG's header."""


@dataclass(frozen=True)
class Png:
    """The pixels of a PNG file."""

    values: np.ndarray
    """Grey (y, x), or red, green and blue (y, x, 3)."""
    indices: np.ndarray | None = None
    """Numbers in the palette (y, x), if it has one."""

    @property
    def is_grey(self) -> bool:
        """Whether it is stored as grey, or its three colours are equal everywhere."""
        return self.values.ndim == 2 or bool((self.values == self.values[..., :1]).all())

    @property
    def grey(self) -> np.ndarray:
        """Grey values (y, x) of an image for which `is_grey` holds."""
        return self.values if self.values.ndim == 2 else self.values[..., 0]

    @property
    def colours(self) -> np.ndarray:
        """Numbers 0xrrggbb (y, x), int32; those of grey values have three equal parts."""
        rgb = self.values if self.values.ndim == 3 else np.stack([self.values] * 3, axis=-1)
        return (rgb.astype(np.int32) * (1 << np.array([16, 8, 0]))).sum(-1, dtype=np.int32)


def is_png(path: Path) -> bool:
    """Whether a file's name ends with .png."""
    return path.suffix.lower() == ".png"


def read_png(path: Path, *, unseen_is_black: bool = False) -> Png:
    """Reads a PNG file.

    Args:
        path: the file.
        unseen_is_black: take transparent pixels as background (masks) instead of refusing them.

    Raises:
        InputError: it cannot be read, has colours of 16 bits, or transparent pixels.
    """
    from PIL import Image

    try:
        bits, colour_type = path.read_bytes()[24:26]
        with Image.open(path, formats=["PNG"]) as picture:
            picture.load()
            indices = np.asarray(picture).copy() if colour_type == PALETTE else None
            shown = picture.convert("RGBA") if colour_type == PALETTE else picture
            pixels = np.asarray(shown).copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path}: cannot be read as PNG, it is damaged or incomplete ({error})."
        ) from None
    if bits == 16 and colour_type != GREY:
        raise InputError(f"{path}: has colours of 16 bits; save it as grey, or with 8 bits.")
    if pixels.ndim == 2:
        return Png(_undo_stretch(pixels, bits))
    return Png(_drop_transparency(pixels, path, unseen_is_black), indices)


def single_slice_grid(
    size: tuple[int, int], pixel_mm: tuple[float, float], slice_mm: float = SLICE_MM
) -> Grid:
    """The grid of one axial slice; size and spacing are (x, y)."""
    return Grid((*size, 1), (*pixel_mm, slice_mm), (0.0, 0.0, 0.0), AXIAL)


def read_single_slice_image(path: Path) -> sitk.Image:
    """A NIfTI, NRRD or MetaImage file of one slice.

    A thickness that is not above its pixels' width becomes 999 mm.

    Raises:
        InputError: as `images.read_image`, or it has more than one slice.
    """
    return _check_single_slice(_read_2d(path) if _has_two_axes(path) else read_image(path), path)


def read_single_slice_mask(path: Path) -> sitk.Image:
    """A label map of one slice as integers, from the files of `read_single_slice_image`.

    Raises:
        InputError: also if values are no integers.
    """
    if not _has_two_axes(path):
        return _check_single_slice(read_mask(path), path)
    image = _read_2d(path)
    values = array(image)
    if not np.array_equal(values, np.rint(values)):
        raise InputError(f"{path}: a mask must hold integers.")
    return _check_single_slice(image_like(values.astype(np.int32), Grid.from_image(image)), path)


def _undo_stretch(grey: np.ndarray, bits: int) -> np.ndarray:
    """Grey values as the file has them; the library spreads 2 and 4 bits over 0..255."""
    if bits == 16:
        return grey.astype(np.uint16)
    return grey.astype(np.uint8) if bits not in STRETCHED else grey // STRETCHED[bits]


def _drop_transparency(pixels: np.ndarray, path: Path, unseen_is_black: bool) -> np.ndarray:
    """Colours or grey without the transparency, the last channel of two or four."""
    if pixels.shape[-1] == 3:
        return pixels
    values, alpha = pixels[..., :-1], pixels[..., -1]
    unseen = alpha == 0
    if ((alpha < 255) & ~unseen).any() or (unseen.any() and not unseen_is_black):
        raise InputError(f"{path}: has transparent pixels; save it without transparency.")
    values[unseen] = 0
    return values[..., 0] if values.shape[-1] == 1 else values


def _has_two_axes(path: Path) -> bool:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return False  # read_image says what is wrong with it
    return image_ending(path) in (".nii", ".nii.gz") and reader.GetDimension() == 2


def _read_2d(path: Path) -> sitk.Image:
    """A NIfTI file of two axes.

    ITK fills a truncated one with zeros and reads NaN as zero, so nibabel looks at it first.
    """
    import nibabel

    check_stated_geometry(path)
    try:
        values = np.asanyarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
        image = sitk.ReadImage(str(path))
    except (
        nibabel.filebasedimages.ImageFileError,
        OSError,
        EOFError,
        ValueError,
        zlib.error,
        RuntimeError,
    ) as error:
        raise InputError(
            f"{path}: cannot be read, it is damaged or incomplete ({error})."
        ) from None
    if values.dtype.kind not in "uif" or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"{path}: has several values per pixel (colour or vectors); one is expected."
        )
    if not np.isfinite(values).all():
        raise InputError(
            f"{path}: {int((~np.isfinite(values)).sum())} pixels are NaN or infinite; replace them."
        )
    (x, y), (left, back) = image.GetSpacing(), image.GetOrigin()
    grid = Grid((*image.GetSize(), 1), (x, y, SLICE_MM), (left, back, 0.0), AXIAL)
    return image_like(array(image)[None], grid)


def _check_single_slice(image: sitk.Image, path: Path) -> sitk.Image:
    x, y, slices = image.GetSize()
    if slices != 1:
        raise InputError(
            f"{path}: has {x}x{y}x{slices} voxels, so it is a volume; take nnunet_liver convert"
            " images for it."
        )
    width_x, width_y, thickness = image.GetSpacing()
    if thickness <= max(width_x, width_y):
        image.SetSpacing((width_x, width_y, SLICE_MM))
    return image
