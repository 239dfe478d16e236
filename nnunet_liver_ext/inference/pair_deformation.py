"""The deformation of image 1 onto image 2 that a model's registor finds between the two masks.

Couteaux et al. 2021, "Cooperating networks": where image 2 shows what image 1 shows. The registor
sees the probabilities of both images as in training, on a grid with the network's axes and spacing,
here the whole volume at once. Its displacement is turned into millimetres of physical space and put
onto the grid of image 2.

C foreground classes, K classes with the background, z y x the axes of an image, a b c the same as
nnU-Net transposes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from nnunet_liver_ext.networks.registor import Registor
from nnunet_liver_ext.space.images import Grid, array, image_like, resample

if TYPE_CHECKING:
    from nnunet_liver_ext.inference.model import Model

SAME_SPACING = 1e-3
"""Relative difference of two spacings that counts as none."""


@dataclass(frozen=True)
class Deformation:
    """How image 1 is to be moved onto image 2, both on the grid of image 2."""

    field: sitk.Image
    """A vector in mm (LPS), float32, for each voxel: at point p image 2 shows what image 1 shows at
    p + field(p). That is what SimpleITK's DisplacementFieldTransform means."""
    mask: sitk.Image
    """The mask of image 1, moved by `field`: labels 0..K−1, uint8."""


def find_deformation(
    model: Model, probabilities: Mapping[str, np.ndarray], grid: Grid, native: Mapping[str, Grid]
) -> Deformation:
    """The deformation of image 1 onto image 2, and the mask of image 1 moved by it.

    Args:
        model: with at least one registor; the displacements of several are averaged.
        probabilities: of each image by modality, (K, z, y, x).
        grid: theirs.
        native: grid of each image.
    """
    first, second = model.modalities
    field = resample_field(
        displacement_image(model, probabilities[first], probabilities[second], grid), native[second]
    )
    return Deformation(field, move_mask(probabilities[first], grid, field))


def displacement_image(
    model: Model, first: np.ndarray, second: np.ndarray, grid: Grid
) -> sitk.Image:
    """What the registors find, as vectors in mm (LPS), float32, on the network's grid.

    Args:
        model: with at least one registor.
        first: probabilities of image 1, (K, z, y, x).
        second: those of image 2.
        grid: theirs.
    """
    plans, configuration = model.predictor.plans_manager, model.predictor.configuration_manager
    forward, backward = list(plans.transpose_forward), list(plans.transpose_backward)
    grid_abc = [grid.spacing_mm[axis] for axis in forward]
    network_abc = [
        *grid_abc[: 3 - len(configuration.spacing)],
        *configuration.spacing,
    ]  # a 2D network takes all slices
    target = network_grid(grid, [network_abc[axis] for axis in backward])
    masks_Cabc = []
    for probabilities in (first, second):
        foreground = _resample_probabilities(probabilities[1:], grid, target)
        transposed = foreground.transpose(0, *(axis + 1 for axis in forward))
        masks_Cabc.append(torch.from_numpy(np.ascontiguousarray(transposed)))
    displacement_abc = mean_displacement(
        model.registors, *masks_Cabc, dims=len(configuration.spacing), device=model.predictor.device
    )
    displacement_zyx = displacement_abc.numpy().transpose(0, *(axis + 1 for axis in backward))[
        backward
    ]
    return vectors_in_mm(displacement_zyx, target)


def mean_displacement(
    registors: Sequence[Registor], first: Tensor, second: Tensor, *, dims: int, device: torch.device
) -> Tensor:
    """Mean displacement in voxels, (3, a, b, c), of masks (C, a, b, c).

    Registors of 2 axes move nothing along a.
    """
    batches = [
        mask[None] if dims == 3 else mask.movedim(1, 0)
        for mask in (first.to(device), second.to(device))
    ]
    with torch.no_grad():
        mean = torch.stack([registor(*batches) for registor in registors]).mean(0).cpu()
    if dims == 3:
        return mean[0]
    in_slices = mean.movedim(0, 1)
    return torch.cat([torch.zeros_like(in_slices[:1]), in_slices])


def network_grid(grid: Grid, spacing_mm: Sequence[float]) -> Grid:
    """The same grid if it has this spacing (z, y, x); else one around it with this spacing.

    Axes and centre are the same.
    """
    if np.allclose(grid.spacing_mm, spacing_mm, rtol=SAME_SPACING, atol=0):
        return grid
    size, steps, wanted = (
        np.array(grid.size),
        np.array(grid.spacing),
        np.array(spacing_mm, float)[::-1],
    )
    wanted_size = np.maximum(1, np.ceil(size * steps / wanted - SAME_SPACING)).astype(int)
    axes = np.array(grid.direction).reshape(3, 3)
    origin = np.array(grid.origin) + axes @ (((size - 1) * steps - (wanted_size - 1) * wanted) / 2)
    return Grid(
        tuple(wanted_size.tolist()), tuple(wanted.tolist()), tuple(origin.tolist()), grid.direction
    )


def vectors_in_mm(displacement_zyx: np.ndarray, grid: Grid) -> sitk.Image:
    """A displacement in voxels (3, z, y, x) as an image of vectors in mm (LPS).

    Its components are in the order of the axes, too.
    """
    steps = np.array(grid.direction).reshape(3, 3) * np.array(
        grid.spacing
    )  # column i is a step along index axis x, y, z
    vectors = np.einsum("ij,jzyx->zyxi", steps, displacement_zyx[::-1].astype(np.float64))
    image = sitk.GetImageFromArray(vectors.astype(np.float32), isVector=True)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


def resample_field(vectors: sitk.Image, grid: Grid) -> sitk.Image:
    """The vectors on another grid, linearly interpolated; constant beyond the outermost ones."""
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(grid.empty_image())
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetUseNearestNeighborExtrapolator(True)
    return resampler.Execute(vectors)


def move_mask(probabilities: np.ndarray, grid: Grid, field: sitk.Image) -> sitk.Image:
    """The most probable class at p + field(p): labels 0..K−1 on the field's grid.

    Beyond the probabilities there is background.

    Args:
        probabilities: (K, z, y, x).
        grid: theirs.
        field: vectors in mm.
    """
    transform = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    target = Grid.from_image(field)
    moved = [
        array(
            sitk.Resample(
                image_like(values.astype(np.float32), grid),
                target.empty_image(),
                transform,
                sitk.sitkLinear,
                float(label == 0),
            )
        )
        for label, values in enumerate(probabilities)
    ]
    return image_like(np.stack(moved).argmax(0).astype(np.uint8), target)


def _resample_probabilities(probabilities: np.ndarray, grid: Grid, target: Grid) -> np.ndarray:
    """Probabilities (C, z, y, x) on another grid, float32, zero outside."""
    if target is grid:
        return probabilities.astype(np.float32)
    return np.stack(
        [
            array(resample(image_like(values.astype(np.float32), grid), target))
            for values in probabilities
        ]
    )
