"""Where an image shows the body, and where its middle is.

Source: Otsu, IEEE Trans Syst Man Cybern 1979. See docs/metrics.md for the images in which the body
mask fails.
"""

# z y x axes of arrays, N voxels; x of the scanner's coordinates (LPS) in mm

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.masks import BoolArray, FloatArray, require_volume_mask
from nnunet_liver_ext.space.grid import Grid
from nnunet_liver_ext.space.images import array, image_like

# The body mask's numbers, chosen by looking at T1, T2, fat-suppressed, water and fat images and at
# CT.
WORKING_MM = 3.0  # finer voxels are averaged to about this size
SMOOTHING_MM = 3.0
DARK_SHARE = 0.02  # of the image's range; below it is noise, where the logarithm becomes linear
OPENING_MM = 6.0  # bridges to an arm, a table or a ghost that are thinner than twice this are cut
IN_PLANE = np.pad(ndimage.generate_binary_structure(2, 1)[None], ((1, 1), (0, 0), (0, 0)))


def midline_mm(body: npt.ArrayLike, grid: Grid) -> float:
    """x (LPS) of the sagittal plane that halves the volume of a body.

    It halves the volume rather than the extent, so that an arm on one side, or a bit of noise,
    moves it little.

    Args:
        body: mask, bool or integer, (z, y, x), such as `body_mask`'s.
        grid: where the mask lies.

    Returns:
        mm.

    Raises:
        InputError: the array is no mask on this grid, or is empty.
    """
    values = require_mask_on(body, grid)
    if not values.any():
        raise InputError(
            "the image shows no body, hence no midline; give none to use the centre of the volume."
        )
    return float(np.median(x_mm(values, grid)))


def body_midline_mm(image: sitk.Image) -> float:
    """The `midline_mm` of the body that an image shows.

    Raises:
        InputError: as `body_mask`, or it finds no body.
    """
    return midline_mm(body_mask(image), Grid.from_image(image))


def body_mask(image: sitk.Image) -> BoolArray:
    """Where an MR or CT image shows the body, lungs and bowel gas included.

    The smoothed image's logarithm is cut at Otsu's threshold and opened in each slice; the largest
    piece stays, and the holes of its slices are filled. The logarithm is taken because suppressed
    fat is ten times darker than the brightest tissue and yet brighter than noise.

    The outline is a few mm too large. The mask means nothing if the image shows no air, or noise in
    its place (a map of the fat fraction). Ghosts that are brighter than about a twelfth of the
    brightest tissue are taken for body; lungs are left out where the skin around them is darker
    than that.

    Args:
        image: 3D, one value per voxel.

    Returns:
        Bool (z, y, x).

    Raises:
        InputError: not such an image, or it has one value everywhere.
    """
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            f"a body mask needs a 3D image of one value per voxel, not {image.GetDimension()}D."
        )
    coarse = _shrink(sitk.Cast(image, sitk.sitkFloat32))
    sigmas = SMOOTHING_MM / np.array(Grid.from_image(coarse).spacing_mm)
    values = ndimage.gaussian_filter(array(coarse), sigmas, mode="nearest")
    dark, bright = np.percentile(values, [1, 99])
    if not bright > dark:
        raise InputError("the image has nearly one value everywhere, so it shows no body.")
    logarithm = np.log1p(np.maximum(values - dark, 0) / (DARK_SHARE * (bright - dark)))
    tissue = sitk.OtsuThreshold(sitk.GetImageFromArray(logarithm.astype(np.float32)), 0, 1, 256)
    radius = [round(OPENING_MM / spacing) for spacing in coarse.GetSpacing()[:2]]
    opened = sitk.BinaryMorphologicalOpening(_fill_holes(tissue), [*radius, 0])
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(opened)) == 1
    body = image_like(array(_fill_holes(largest)), Grid.from_image(coarse))
    nearest = sitk.Resample(
        body, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8, True
    )
    return array(nearest).astype(bool)


def _shrink(image: sitk.Image) -> sitk.Image:
    """The averages of blocks of voxels; what fills no block at the far ends is left out."""
    factors = [
        min(n, max(1, int(WORKING_MM / mm + 1e-6)))
        for n, mm in zip(image.GetSize(), image.GetSpacing(), strict=True)
    ]
    shrunk: sitk.Image = sitk.BinShrink(image, factors)
    return shrunk


def _fill_holes(mask: sitk.Image) -> sitk.Image:
    """The mask with the holes of each slice filled."""
    return sitk.GetImageFromArray(ndimage.binary_fill_holes(array(mask), IN_PLANE).astype(np.uint8))


def x_mm(mask: BoolArray, grid: Grid) -> FloatArray:
    """x (LPS) of the mask's voxels, (N,)."""
    steps_xyz = np.array(grid.direction).reshape(3, 3)[0] * grid.spacing
    x: FloatArray = grid.origin[0] + np.argwhere(mask) @ steps_xyz[::-1]
    return x


def require_mask_on(mask: npt.ArrayLike, grid: Grid) -> BoolArray:
    """The mask as bool (z, y, x).

    Raises:
        InputError: the array is no mask, or has not the size of the grid.
    """
    values = require_volume_mask(mask, "mask")
    if values.shape != grid.size[::-1]:
        raise InputError(
            f"the mask's shape {values.shape} is not that of the grid: {grid.size[::-1]}."
        )
    return values
