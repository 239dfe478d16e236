"""The transforms that a mask is moved by, and the masks that they make.

A transform pulls back, as in `deformation`: warped(p) = mask(p + u(p)) with u in voxels, linearly
interpolated and cut at one half. Masks are small parts of their volumes, so u is only computed
where the moved mask can be.
"""

# D spatial axes (2 or 3), N points, ... the axes themselves

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from nnunet_liver_ext.deformation import affine_displacement, warp
from nnunet_liver_ext.evaluation.masks import BoolArray, FloatArray, VoxelBox, bounding_box

THRESHOLD = 0.5


class Transform(Protocol):
    """A map of a volume's points into mask 1."""

    def displacement(self, box: VoxelBox) -> Tensor:
        """u in a part of the volume, (1, D, ...) float32, voxels."""

    def preimage_bounds(self, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The lowest and highest coordinates (D,) of all points that may map into low..high."""


@dataclass(frozen=True)
class AffineMap:
    """u(p) = matrix · (p − centre) + centre + translation − p, all in voxels, float64."""

    matrix: Tensor
    """(D, D)"""
    translation: Tensor
    """(D,)"""
    centre: Tensor
    """(D,)"""

    @classmethod
    def of_shift(cls, shift: Sequence[float], device: torch.device | str = "cpu") -> AffineMap:
        """The map that moves a mask by `shift` voxels."""
        towards = torch.tensor([float(n) for n in shift], dtype=torch.float64, device=device)
        identity = torch.eye(len(towards), dtype=torch.float64, device=device)
        return cls(identity, -towards, torch.zeros_like(towards))

    def displacement(self, box: VoxelBox) -> Tensor:
        start = self.centre.new_tensor([side.start for side in box])
        size = [side.stop - side.start for side in box]
        u = affine_displacement(
            self.matrix[None], self.translation[None], (self.centre - start)[None], size
        )
        return u.float()

    def preimage_bounds(self, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
        corners = self.centre.new_tensor(list(product(*zip(low, high, strict=True))))
        offset = (corners - self.centre - self.translation).T
        origins = (torch.linalg.solve(self.matrix, offset).T + self.centre).cpu().numpy()
        return origins.min(0), origins.max(0)

    def map_points(self, points: Tensor) -> Tensor:
        """p + u(p) of points (N, D), float64."""
        return (points.double() - self.centre) @ self.matrix.T + self.centre + self.translation


@dataclass(frozen=True)
class ControlGrid:
    """u between the vectors of a coarse grid, as in `deformation.upsample_control_grid`."""

    vectors: Tensor
    """(D, ...) in voxels; one for each block of `pitch` voxels of the volume."""
    pitch: int

    def displacement(self, box: VoxelBox) -> Tensor:
        u = self.vectors
        for axis, side in enumerate(box, start=1):  # in turn, so that only the last is at full size
            u = torch.movedim(torch.tensordot(self._weights(axis, side), u, ([1], [axis])), 0, axis)
        return u[None]

    def preimage_bounds(self, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
        u = self.vectors.flatten(1).cpu().numpy().astype(float)
        return low - u.max(1), high - u.min(1)

    def _weights(self, axis: int, side: slice) -> Tensor:
        """The weight of each control point (columns) at each voxel (rows) of an axis."""
        points = self.vectors.shape[axis]
        voxels = torch.arange(side.start, side.stop, device=self.vectors.device)
        places = ((voxels + 0.5) / self.pitch - 0.5).clamp(0, points - 1)
        distance = places[:, None] - torch.arange(points, device=self.vectors.device)
        return (1 - distance.abs()).clamp(min=0)


@dataclass(frozen=True)
class WarpedMask:
    """What a transform makes of mask 1."""

    dice: float
    """2·|τ(mask 1) ∩ mask 2| / (|τ(mask 1)| + |mask 2|); what leaves the volume does not count."""
    box: VoxelBox
    part: Tensor
    """The moved mask in this box, bool; outside it there is none."""

    def fill_volume(self, shape: Sequence[int]) -> BoolArray:
        """The moved mask in a volume of this shape."""
        volume = np.zeros(shape, bool)
        volume[self.box] = self.part.cpu().numpy()
        return volume


@dataclass(frozen=True)
class MaskPair:
    """The two masks that are to be similar, and the device to work on.

    Both are bool arrays of one shape, and neither is empty.
    """

    mask_1: BoolArray
    mask_2: BoolArray
    device: torch.device

    def warp(self, transform: Transform) -> WarpedMask:
        """Mask 1 moved onto mask 2's grid, in the box where it can be."""
        box = self._support(transform)
        part = self._warp_in_box(transform, box)
        common = int((part & self.tensors[1][box]).sum())
        return WarpedMask(2 * common / (int(part.sum()) + self.voxels_2), box, part)

    def dice(self, transform: Transform) -> float:
        """The Dice of the moved mask 1 and mask 2."""
        return self.warp(transform).dice

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Both masks on the device, bool."""
        first, second = (torch.from_numpy(mask) for mask in (self.mask_1, self.mask_2))
        return first.to(self.device), second.to(self.device)

    @cached_property
    def box_1(self) -> VoxelBox:
        return bounding_box(self.mask_1)

    @cached_property
    def box_2(self) -> VoxelBox:
        return bounding_box(self.mask_2)

    @cached_property
    def voxels_2(self) -> int:
        return int(np.count_nonzero(self.mask_2))

    def _support(self, transform: Transform) -> VoxelBox:
        """A box outside which the moved mask has no voxel."""
        edges = np.array([[side.start - 1, side.stop] for side in self.box_1], float)
        low, high = transform.preimage_bounds(edges[:, 0], edges[:, 1])
        size = np.array(self.mask_1.shape)
        first = np.clip(np.floor(low), 0, size).astype(int)
        last = np.clip(np.ceil(high) + 1, first, size).astype(int)
        return tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))

    def _warp_in_box(self, transform: Transform, box: VoxelBox) -> Tensor:
        size = [side.stop - side.start for side in box]
        if 0 in size:
            return torch.zeros(size, dtype=torch.bool, device=self.device)
        u = transform.displacement(box)
        offset = [side.start - part.start for side, part in zip(box, self.box_1, strict=True)]
        u = u + u.new_tensor(offset).view(1, -1, *[1] * len(box))
        return warp(self.tensors[0][self.box_1][None, None].float(), u)[0, 0] >= THRESHOLD
