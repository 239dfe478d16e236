"""Displacement fields: warping, control grids, affine maps and the low-pass filter.

Source: Couteaux et al. 2021, "Cooperating networks", section 2.

A displacement u is in voxels of the grid it lives on, its components in the order of the array's
axes, and it pulls back: warped(p) = image(p + u(p)), with zero outside the image. Voxel centres
have whole coordinates; a control point stands in the middle of the block of voxels that it moves.
That is the convention of `align_corners=False`, here for everything.

Positions are float32 at least, also under autocast: in float16 the voxels beyond 512 are half a
voxel apart, in bfloat16 those beyond 64.

B batch, C channels, D spatial axes (2 or 3), ... the D spatial axes themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

INTERPOLATION = {2: "bilinear", 3: "trilinear"}


def warp(images: Tensor, displacement: Tensor) -> Tensor:
    """images(p + displacement(p)), linearly interpolated, zero outside.

    Args:
        images: (B, C, ...), floating point.
        displacement: (B, D, ...) in voxels, on the same or on another grid of the same voxels.

    Returns:
        (B, C, ...) on the displacement's grid, of the images' type.
    """
    size = images.shape[2:]
    precise = promote_to_float32(images)
    displacement = displacement.to(precise.dtype)
    positions_BD = voxel_positions(displacement.shape[2:], displacement) + displacement
    scale = positions_BD.new_tensor(size).view(1, -1, *[1] * len(size))
    normalised = (
        2 * positions_BD + 1
    ) / scale - 1  # -1 and 1 are the outer faces of the first and the last voxel
    grid = normalised.movedim(1, -1).flip(-1)  # grid_sample wants x, y, z
    warped = functional.grid_sample(
        precise, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return warped.to(images.dtype)


def voxel_positions(size: Sequence[int], like: Tensor) -> Tensor:
    """Coordinates of every voxel, (1, D, ...), with the type and the device of `like`."""
    axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def upsample_control_grid(control: Tensor, pitch: Sequence[int], size: Sequence[int]) -> Tensor:
    """The displacement between the vectors of a coarse grid, linearly interpolated.

    Beyond the outermost vectors it is constant.

    Args:
        control: displacement in voxels of the fine grid, (B, D, ...); vector i of an axis stands at
            voxel pitch · (i + ½) − ½, the middle of block i.
        pitch: voxels between two vectors along each axis.
        size: of the fine grid.

    Returns:
        (B, D, ...) of that size.
    """
    fine = functional.interpolate(
        control,
        size=[n * step for n, step in zip(control.shape[2:], pitch, strict=True)],
        mode=_interpolation_mode(control),
    )
    for axis, n in enumerate(size, start=2):
        fine = fine.narrow(axis, 0, n)
    return fine


def control_grid_size(size: Sequence[int], pitch: Sequence[int]) -> list[int]:
    """Blocks of `pitch` voxels that cover a grid of `size` voxels."""
    return [math.ceil(n / step) for n, step in zip(size, pitch, strict=True)]


def affine_displacement(
    matrix: Tensor, translation: Tensor, centre: Tensor, size: Sequence[int]
) -> Tensor:
    """u(p) = matrix · (p − centre) + centre + translation − p.

    It is summed without a matrix product, which autocast would make in half precision.

    Args:
        matrix: (B, D, D), acting on voxel coordinates.
        translation: (B, D) in voxels.
        centre: (B, D), voxel coordinates that the matrix leaves where they are.
        size: of the grid.

    Returns:
        (B, D, ...).
    """
    matrix, translation, centre = (
        promote_to_float32(tensor) for tensor in (matrix, translation, centre)
    )
    dims = len(size)
    ones = [1] * dims
    offset = voxel_positions(size, translation) - centre.view(-1, dims, *ones)
    linear = (matrix - torch.eye(dims, dtype=matrix.dtype, device=matrix.device)).view(
        -1, dims, dims, *ones
    )
    moved = sum(
        (linear[:, :, axis] * offset[:, axis : axis + 1] for axis in range(dims)),
        torch.zeros_like(offset),
    )
    return moved + translation.view(-1, dims, *ones)


def blur(images: Tensor) -> Tensor:
    """The paper's low-pass filter, [1, 2, 1]/4 along each axis; the border is repeated outwards.

    Args:
        images: (B, C, ...).
    """
    for axis in range(2, images.ndim):
        n = images.shape[axis]
        before, after = images.narrow(axis, 0, 1), images.narrow(axis, n - 1, 1)
        padded = torch.cat([before, images, after], axis)
        images = (padded.narrow(axis, 0, n) + 2 * images + padded.narrow(axis, 2, n)) / 4
    return images


def promote_to_float32(tensor: Tensor) -> Tensor:
    """Half-precision tensors as float32, all others as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _interpolation_mode(tensor: Tensor) -> str:
    return INTERPOLATION[tensor.ndim - 2]
