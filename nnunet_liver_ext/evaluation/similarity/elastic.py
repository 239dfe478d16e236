"""The elastic class: displacement vectors on a grid 16 times coarser than the image, linearly
interpolated (Couteaux et al. 2021, "Cooperating networks", section 3.2).

The paper descends along the gradient of ||τ(s1 * f) − s2 * f||². The same minimum is reached here
in a few Gauss-Newton steps, from coarse to fine: each solves its linear least-squares problem by
conjugate gradients. The gradient of an edge is the mean of both masks' (Benhimane and Malis 2004),
so edges that do not touch yet attract each other. A weak pull towards neighbouring vectors decides
where the masks say nothing, and keeps the field from folding.

C cells between control points, K corners of a cell (4 or 8), n points in a cell (filled up with
points of weight 0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from nnunet_liver_ext.deformation import control_grid_size
from nnunet_liver_ext.evaluation.similarity.levels import Level, level
from nnunet_liver_ext.evaluation.similarity.transforms import ControlGrid, MaskPair

PITCH = 16
LEVELS = ((4, 8, 0.01), (2, 5, 0.003), (1, 4, 0.001))  # coarseness, Gauss-Newton steps, stiffness
POINTS = 40_000
CG_STEPS = 12
LONGEST_STEP = 2.0  # coarse voxels


def elastic_fit(
    masks: MaskPair, spacing_mm: Sequence[float], shift: Sequence[int]
) -> list[ControlGrid]:
    """Control grids that move mask 1 onto mask 2: of the two finest levels, the finest first.

    Args:
        masks: the pair.
        spacing_mm: of each axis.
        shift: where to begin, whole voxels by which mask 1 is moved.
    """
    size = control_grid_size(masks.mask_1.shape, [PITCH] * masks.mask_1.ndim)
    start = torch.tensor([-float(n) for n in shift], device=masks.device).view(-1, *[1] * len(size))
    vectors = start.expand(-1, *size).clone()
    found = []
    for factor, steps, stiffness in LEVELS:
        coarse = level(masks, spacing_mm, factor, shift, POINTS)
        if len(coarse.positions) == 0:  # tiny masks in tiny volumes
            continue
        problem = _Problem.of(coarse, size, stiffness)
        for _ in range(steps):
            vectors = vectors + problem.step(vectors)
        found.append(ControlGrid(vectors, PITCH))
    return found[::-1][:2]


@dataclass(frozen=True)
class _Problem:
    """The least-squares problem of one level, its points sorted into cells."""

    level: Level
    size: Sequence[int]
    stiffness: float
    cells: Tensor
    """(C,) numbers of the cells with points."""
    places: Tensor
    """(C, n) numbers of the points."""
    weights: Tensor
    """(C, n, K) of every corner at every point, 0 at the points that fill a cell up."""

    @classmethod
    def of(cls, level: Level, size: Sequence[int], stiffness: float) -> _Problem:
        at = [
            ((p + 0.5) / PITCH - 0.5).clamp(0, n - 1)
            for p, n in zip(level.positions.T, size, strict=True)
        ]
        lower = [a.floor().clamp(max=max(n - 2, 0)) for a, n in zip(at, size, strict=True)]
        upper = [a - b for a, b in zip(at, lower, strict=True)]
        weights = torch.stack([_weight(upper, corner) for corner in _corners(size)], -1)
        number = torch.zeros_like(lower[0], dtype=torch.long)
        for own, n in zip(lower, size, strict=True):
            number = number * max(n - 1, 1) + own.long()
        order = torch.argsort(number, stable=True)
        cells, counts = torch.unique_consecutive(number[order], return_counts=True)
        place = torch.arange(int(counts.max()), device=counts.device)
        first = counts.cumsum(0) - counts
        there = place < counts[:, None]
        places = order[(first[:, None] + place).clamp(max=len(order) - 1)]
        return cls(level, size, stiffness, cells, places, weights[places] * there[..., None])

    def step(self, vectors: Tensor) -> Tensor:
        """What to add to the vectors, (D, ...)."""
        blocks, slope = self._linearised(vectors)
        diagonal = _fold(torch.diagonal(blocks, dim1=1, dim2=2), self.size)
        stiffness = self.stiffness * float(diagonal[diagonal > 0].mean())

        def times(x: Tensor) -> Tensor:
            return _fold(
                (blocks @ _unfold(x)[..., None])[..., 0], self.size
            ) + stiffness * _tension(x)

        solution = conjugate_gradients(
            times,
            -(slope + stiffness * _tension(vectors)),
            diagonal + 2 * len(self.size) * stiffness,
        )
        limit = solution.new_tensor(self.level.step).view(-1, *[1] * len(self.size)) * LONGEST_STEP
        return solution.clamp(-limit, limit)

    def _linearised(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """JᵀJ of each cell, (cells, K·D, K·D), and Jᵀr as vectors (D, ...)."""
        corners = _unfold(vectors)[self.cells].unflatten(1, (self.weights.shape[2], -1))  # C K D
        positions = self.level.positions[self.places] + self.weights @ corners
        moved, target = (
            self.level.moving.at(positions.flatten(0, 1)).view(*self.places.shape, -1),
            self.level.target[self.places],
        )
        residual, slopes = (moved - target)[..., :1], ((moved + target) / 2)[..., 1:]
        jacobian = (self.weights[..., None] * slopes[:, :, None]).flatten(2)
        total = math.prod(max(n - 1, 1) for n in self.size)
        blocks = jacobian.new_zeros(total, jacobian.shape[2], jacobian.shape[2])
        blocks[self.cells] = jacobian.mT @ jacobian
        slope = jacobian.new_zeros(total, jacobian.shape[2])
        slope[self.cells] = (jacobian.mT @ residual)[..., 0]
        return blocks, _fold(slope, self.size)


def conjugate_gradients(
    times: Callable[[Tensor], Tensor], right: Tensor, diagonal: Tensor
) -> Tensor:
    """x with times(x) = right, for a symmetric positive map; preconditioned with its diagonal, at
    most CG_STEPS steps."""
    x, residual = torch.zeros_like(right), right
    direction = preconditioned = residual / diagonal
    size = (residual * preconditioned).sum()
    goal = 1e-4 * float(size)
    for _ in range(CG_STEPS):
        if float(size) <= goal:
            break
        image = times(direction)
        length = size / (direction * image).sum()
        x, residual = x + length * direction, residual - length * image
        preconditioned = residual / diagonal
        size, before = (residual * preconditioned).sum(), size
        direction = preconditioned + size / before * direction
    return x


def _tension(vectors: Tensor) -> Tensor:
    """Each vector minus its neighbours', summed over the neighbours: the gradient of half the
    squared differences."""
    pull = torch.zeros_like(vectors)
    for axis in range(1, vectors.ndim):
        n = vectors.shape[axis] - 1
        difference = vectors.narrow(axis, 1, n) - vectors.narrow(axis, 0, n)
        pull.narrow(axis, 1, n).add_(difference)
        pull.narrow(axis, 0, n).sub_(difference)
    return pull


def _weight(fractions: Sequence[Tensor], corner: Sequence[int]) -> Tensor:
    """Of a cell's corner at points with these fractions of the way from its lower to its upper end,
    along each axis."""
    weight = torch.ones_like(fractions[0])
    for fraction, upper in zip(fractions, corner, strict=True):
        weight = weight * (fraction if upper else 1 - fraction)
    return weight


def _corners(size: Sequence[int]) -> list[tuple[int, ...]]:
    return list(product((0, 1), repeat=len(size)))


def _corner(corner: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """Where this corner of every cell is in the control grid; with one control point along an axis,
    both ends are it."""
    ends = ((slice(0, max(n - 1, 1)), slice(min(1, n - 1), n)) for n in size)
    return (slice(None), *(own[c] for own, c in zip(ends, corner, strict=True)))


def _unfold(vectors: Tensor) -> Tensor:
    """(cells, K·D): the vectors at the corners of every cell."""
    size = vectors.shape[1:]
    return torch.stack(
        [vectors[_corner(corner, size)].flatten(1).T for corner in _corners(size)], 1
    ).flatten(1)


def _fold(parts: Tensor, size: Sequence[int]) -> Tensor:
    """The transpose of `_unfold`: (D, ...), every cell's part added to its corners."""
    corners = _corners(size)
    vectors = parts.new_zeros(parts.shape[1] // len(corners), *size)
    cells = [max(n - 1, 1) for n in size]
    for corner, part in zip(corners, parts.unflatten(1, (len(corners), -1)).unbind(1), strict=True):
        vectors[_corner(corner, size)] += part.T.unflatten(1, cells)
    return vectors
