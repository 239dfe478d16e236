"""Two masks as smooth images that are fitted to each other near their borders, level by level.

The objective is the paper's, ||τ(s1 * f) − s2 * f||² with f = [1, 2, 1]/4 (Couteaux et al. 2021,
"Cooperating networks", section 3). Away from the borders both masks are constant, and neither the
objective nor its gradient has anything to say. Positions are in voxels of the full resolution.
"""

# N points, D spatial axes (2 or 3), ... the axes themselves

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from nnunet_liver_ext.deformation import blur
from nnunet_liver_ext.evaluation.masks import VoxelBox
from nnunet_liver_ext.evaluation.similarity.transforms import MaskPair

MARGIN = 2  # coarse voxels around a mask, room for its blurred border
FLAT = 1e-3  # per voxel: where mask 2 is steeper than this is its border


@dataclass(frozen=True)
class SmoothImage:
    """A blurred mask and its gradient on a coarser grid."""

    channels: Tensor
    """(1, 1 + D, ...): the values, and their derivatives per voxel of the full resolution."""
    start: Tensor
    """(D,): the voxel at which the grid begins."""
    step: Tensor
    """(D,): how many times coarser the grid is."""

    def sample(self, positions: Tensor) -> Tensor:
        """Linearly interpolated, zero outside: (N, 1 + D) at positions (N, D)."""
        size = self.step.new_tensor(self.channels.shape[2:])
        normalised = 2 * (positions.to(self.step.dtype) + 0.5 - self.start) / (self.step * size) - 1
        grid = normalised.flip(-1).view(1, -1, *[1] * (positions.shape[1] - 1), positions.shape[1])
        sampled = functional.grid_sample(
            self.channels, grid, padding_mode="zeros", align_corners=False
        )
        return sampled.flatten(2)[0].T

    def interpolate(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Values (N,) as `sample` gives them for step 1, and their exact derivatives (N, D).

        The outermost voxels must be zero.
        """
        values = self.channels[0, 0].contiguous()
        last = positions.new_tensor(values.shape) - 1
        inside = torch.minimum((positions - self.start).clamp(min=0), last)
        lower = torch.minimum(inside.floor(), last - 1)
        fractions = (inside - lower).T
        strides = torch.tensor(values.stride(), device=values.device)
        corners = torch.tensor(list(product((0, 1), repeat=values.ndim)), device=values.device)
        parts = [values.flatten()[(lower.long() @ strides) + (corners @ strides)[:, None]]]
        for fraction in fractions:  # one axis after the other, each with its derivative
            halves = [part.chunk(2) for part in parts]
            parts = [low + fraction * (high - low) for low, high in halves]
            parts.append(halves[0][1] - halves[0][0])
        value, *slopes = (part[0] for part in parts)
        return value, torch.stack(slopes, 1)

    def voxel_centres(self) -> Tensor:
        """Positions of all its voxels, (N, D)."""
        axes = [
            start + (torch.arange(n, device=start.device) + 0.5) * step - 0.5
            for start, step, n in zip(self.start, self.step, self.channels.shape[2:], strict=True)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)


@dataclass(frozen=True)
class Level:
    """One resolution: mask 1 as an image to be looked up, mask 2 as its values at points."""

    step: tuple[int, ...]
    moving: SmoothImage
    positions: Tensor
    """(N, D)"""
    target: Tensor
    """(N, 1 + D): value and gradient of mask 2; (N, 1) without gradient."""


def make_level(
    masks: MaskPair, spacing_mm: Sequence[float], factor: int, shift: Sequence[int], points: int
) -> Level:
    """The masks about `factor` times coarser than their finest axis.

    Args:
        masks: the two masks.
        spacing_mm: distance of neighbouring voxels along each axis; coarser axes are reduced less,
            so that the voxels become cubes.
        factor: 1 is full resolution.
        shift: roughly where mask 1 will be; the points cover it there.
        points: at most about so many, evenly taken from those near a border.
    """
    step = tuple(max(1, round(factor * min(spacing_mm) / mm)) for mm in spacing_mm)
    moving = _smooth_image(masks.tensors[0], _pad_box(masks.box_1, step), step)
    box = _union_box(masks, shift) if factor > 1 else masks.box_2
    target = _smooth_image(masks.tensors[1], _pad_box(box, step), step)
    centres = target.voxel_centres()
    inside = ((centres >= 0) & (centres <= centres.new_tensor(masks.mask_1.shape) - 1)).all(1)
    values = target.channels[0].flatten(1)
    steepness = _steepness(values.T)
    if factor > 1:
        moved = moving.sample(centres - centres.new_tensor(shift))
        steepness = torch.maximum(steepness, _steepness(moved))
    near = torch.nonzero(inside & (steepness > FLAT))[:, 0]
    near = near[:: max(1, math.ceil(len(near) / points))]
    return Level(step, moving, centres[near], values[:, near].T.contiguous())


def make_border_level(masks: MaskPair) -> Level:
    """The masks as they are, neither blurred nor coarser, at the voxels beside mask 2's border.

    Its images have values alone: `Level.target` is (N, 1).
    """
    step = (1,) * masks.mask_1.ndim
    moving, target = (
        SmoothImage(
            _crop(mask, box)[None, None],
            torch.tensor([float(side.start) for side in box], device=masks.device),
            torch.ones(len(box), device=masks.device),
        )
        for mask, box in zip(
            masks.tensors,
            (_pad_box(box, step) for box in (masks.box_1, masks.box_2)),
            strict=True,
        )
    )
    centres = target.voxel_centres()
    inside = ((centres >= 0) & (centres <= centres.new_tensor(masks.mask_1.shape) - 1)).all(1)
    steep = torch.stack(_slopes(target.channels)).flatten(1).abs().amax(0) > 0
    near = torch.nonzero(inside & steep)[:, 0]
    return Level(step, moving, centres[near], target.channels.flatten()[near, None])


def _steepness(values: Tensor) -> Tensor:
    """(N,) from values and gradients (N, 1 + D)."""
    return values[:, 1:].abs().amax(1)


def _union_box(masks: MaskPair, shift: Sequence[int]) -> VoxelBox:
    """A box around mask 2 and the shifted mask 1."""
    return tuple(
        slice(min(a.start + n, b.start), max(a.stop + n, b.stop))
        for a, b, n in zip(masks.box_1, masks.box_2, shift, strict=True)
    )


def _pad_box(box: VoxelBox, step: Sequence[int]) -> VoxelBox:
    """The box with a margin, a whole number of steps long; it may reach beyond the volume."""
    sides = []
    for side, n in zip(box, step, strict=True):
        length = math.ceil((side.stop - side.start) / n) + 2 * MARGIN
        sides.append(slice(side.start - MARGIN * n, side.start + (length - MARGIN) * n))
    return tuple(sides)


def _smooth_image(mask: Tensor, box: VoxelBox, step: tuple[int, ...]) -> SmoothImage:
    """The mask averaged over blocks and blurred with f; twice at coarse levels, to widen edges."""
    image = _crop(mask, box)[None, None]
    if max(step) > 1:
        pool = functional.avg_pool3d if mask.ndim == 3 else functional.avg_pool2d
        image = blur(pool(image, step))
    image = blur(image)
    slopes = [slope / n for slope, n in zip(_slopes(image), step, strict=True)]
    start = image.new_tensor([side.start for side in box])
    return SmoothImage(torch.cat([image, *slopes], 1), start, image.new_tensor(step))


def _slopes(image: Tensor) -> list[Tensor]:
    """Central differences along each axis, zero at the edges."""
    slopes = []
    for axis in range(2, image.ndim):
        n = image.shape[axis]
        slope = torch.zeros_like(image)
        slope.narrow(axis, 1, n - 2).copy_(
            (image.narrow(axis, 2, n - 2) - image.narrow(axis, 0, n - 2)) / 2
        )
        slopes.append(slope)
    return slopes


def _crop(mask: Tensor, box: VoxelBox) -> Tensor:
    """A part of the mask as float32, zero beyond the volume."""
    inner = tuple(
        slice(max(side.start, 0), min(side.stop, n))
        for side, n in zip(box, mask.shape, strict=True)
    )
    margins = [
        (inside.start - side.start, side.stop - inside.stop)
        for side, inside in zip(box, inner, strict=True)
    ]
    widths = [int(n) for margin in reversed(margins) for n in margin]
    return functional.pad(mask[inner].float(), widths)
