"""The transforms that a mask is moved by, and the masks that they make.

A transform pulls back, as in `deformation`: warped(p) = mask(p + u(p)) with u in voxels, linearly
interpolated and cut at one half. Masks are small parts of their volumes, so u is only computed
where the moved mask can be.

D spatial axes (2 or 3), ... the axes themselves.
"""

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
from nnunet_liver_ext.evaluation.masks import VoxelBox, bounding_box

THRESHOLD = 0.5


class Transform(Protocol):
    """A map of a volume's points into mask 1."""

    def displacement(self, box: VoxelBox) -> Tensor:
        """u in a part of the volume, (1, D, ...) float32, voxels."""

    def where(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest coordinates of the points that can be mapped to between `low` and
        `high`."""


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
        moved = torch.tensor([float(n) for n in shift], dtype=torch.float64, device=device)
        return cls(
            torch.eye(len(moved), dtype=torch.float64, device=device),
            -moved,
            torch.zeros_like(moved),
        )

    def displacement(self, box: VoxelBox) -> Tensor:
        start = torch.tensor(
            [part.start for part in box], dtype=torch.float64, device=self.centre.device
        )
        size = [part.stop - part.start for part in box]
        u = affine_displacement(
            self.matrix[None], self.translation[None], (self.centre - start)[None], size
        )
        return u.float()

    def where(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        corners = torch.tensor(
            list(product(*zip(low, high, strict=True))),
            dtype=torch.float64,
            device=self.centre.device,
        )
        offset = (corners - self.centre - self.translation).T
        origins = (torch.linalg.solve(self.matrix, offset).T + self.centre).cpu().numpy()
        return origins.min(0), origins.max(0)

    def moved(self, points: Tensor) -> Tensor:
        """p + u(p) of points (N, D), float64."""
        return (points.double() - self.centre) @ self.matrix.T + self.centre + self.translation


@dataclass(frozen=True)
class ControlGrid:
    """u interpolated between the vectors of a coarse grid, as `deformation.upsample_control_grid`
    does."""

    vectors: Tensor
    """(D, ...) in voxels; one for each block of `pitch` voxels of the volume."""
    pitch: int

    def displacement(self, box: VoxelBox) -> Tensor:
        u = self.vectors
        for axis, part in enumerate(
            box, start=1
        ):  # one axis after the other, so that only the last is at full size
            u = torch.movedim(torch.tensordot(self._weights(axis, part), u, ([1], [axis])), 0, axis)
        return u[None]

    def where(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u = self.vectors.flatten(1).cpu().numpy().astype(float)
        return low - u.max(1), high - u.min(1)

    def _weights(self, axis: int, part: slice) -> Tensor:
        """Of every control point (columns) at every voxel (rows) of one axis."""
        points = self.vectors.shape[axis]
        at = (
            (torch.arange(part.start, part.stop, device=self.vectors.device) + 0.5) / self.pitch
            - 0.5
        ).clamp(0, points - 1)
        distance = at[:, None] - torch.arange(points, device=self.vectors.device)
        return (1 - distance.abs()).clamp(min=0)


@dataclass(frozen=True)
class Warped:
    """What a transform makes of mask 1."""

    dice: float
    """2·|τ(mask 1) ∩ mask 2| / (|τ(mask 1)| + |mask 2|); what leaves the volume does not count."""
    box: VoxelBox
    part: Tensor
    """The moved mask in this box, bool; outside it there is none."""

    def mask(self, shape: Sequence[int]) -> np.ndarray:
        """The moved mask in a volume of this shape, bool."""
        whole = np.zeros(shape, bool)
        whole[self.box] = self.part.cpu().numpy()
        return whole


@dataclass(frozen=True)
class MaskPair:
    """The two masks that are to be similar, bool arrays of one shape that are not empty, and the
    device to work on."""

    mask_1: np.ndarray
    mask_2: np.ndarray
    device: torch.device

    def warped(self, transform: Transform) -> Warped:
        """Mask 1 moved onto mask 2's grid, in the box where it can be."""
        box = self._support(transform)
        part = self._warped_in(box, transform)
        common = int((part & self.on_device[1][box]).sum())
        return Warped(2 * common / (int(part.sum()) + self.size_2), box, part)

    def dice(self, transform: Transform) -> float:
        return self.warped(transform).dice

    @cached_property
    def on_device(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.mask_1).to(self.device), torch.from_numpy(self.mask_2).to(
            self.device
        )

    @cached_property
    def box_1(self) -> VoxelBox:
        return bounding_box(self.mask_1)

    @cached_property
    def box_2(self) -> VoxelBox:
        return bounding_box(self.mask_2)

    @cached_property
    def size_2(self) -> int:
        return int(np.count_nonzero(self.mask_2))

    def _support(self, transform: Transform) -> VoxelBox:
        """A box outside which the moved mask has no voxel."""
        edges = np.array([[part.start - 1, part.stop] for part in self.box_1], float)
        low, high = transform.where(edges[:, 0], edges[:, 1])
        size = np.array(self.mask_1.shape)
        first = np.clip(np.floor(low), 0, size).astype(int)
        last = np.clip(np.ceil(high) + 1, first, size).astype(int)
        return tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))

    def _warped_in(self, box: VoxelBox, transform: Transform) -> Tensor:
        if any(part.start == part.stop for part in box):
            return torch.zeros(
                [part.stop - part.start for part in box], dtype=torch.bool, device=self.device
            )
        u = transform.displacement(box)
        offset = [part.start - own.start for part, own in zip(box, self.box_1, strict=True)]
        u = u + u.new_tensor(offset).view(1, -1, *[1] * len(box))
        return warp(self.on_device[0][self.box_1][None, None].float(), u)[0, 0] >= THRESHOLD
