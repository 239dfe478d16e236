"""The elastic class: displacement vectors on a grid 16 times coarser than the image.

Between the vectors the displacement is linearly interpolated (Couteaux et al. 2021, "Cooperating
networks", section 3.2). The paper descends along the gradient of ||τ(s1 * f) − s2 * f||². Here the
same minimum is reached in a few Gauss-Newton steps, from coarse to fine, and each of them solves
its linear least-squares problem by conjugate gradients. The gradient of an edge is the mean of both
masks' gradients (Benhimane and Malis 2004), so edges that do not touch yet attract each other. A
weak pull towards neighbouring vectors decides where the masks say nothing, and keeps the field from
folding.
"""

# D spatial axes (2 or 3), C cells between control points, K corners of a cell (4 or 8),
# n points in a cell (filled up with points of weight 0), ... the axes of the control grid

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from nnunet_liver_ext.deformation import control_grid_size
from nnunet_liver_ext.evaluation.similarity.levels import Level, make_level
from nnunet_liver_ext.evaluation.similarity.transforms import ControlGrid, MaskPair

PITCH = 16
LEVELS = ((4, 8, 0.01), (2, 5, 0.003), (1, 4, 0.001))  # coarseness, Gauss-Newton steps, stiffness
POINTS = 40_000
CG_STEPS = 12
LONGEST_STEP = 2.0  # coarse voxels


def fit_elastic(
    masks: MaskPair, spacing_mm: Sequence[float], shift: Sequence[int]
) -> list[ControlGrid]:
    """The control grids that move mask 1 onto mask 2 at the two finest levels, finest first.

    Args:
        masks: the two masks.
        spacing_mm: distance of neighbouring voxels along each axis.
        shift: where to begin, whole voxels by which mask 1 is moved.
    """
    size = control_grid_size(masks.mask_1.shape, [PITCH] * masks.mask_1.ndim)
    start = torch.tensor([-float(n) for n in shift], device=masks.device).view(-1, *[1] * len(size))
    vectors = start.expand(-1, *size).clone()
    grids = []
    for factor, steps, stiffness in LEVELS:
        level = make_level(masks, spacing_mm, factor, shift, POINTS)
        if len(level.positions) == 0:  # tiny masks in tiny volumes
            continue
        problem = _LeastSquares.from_level(level, size, stiffness)
        for _ in range(steps):
            vectors = vectors + problem.gauss_newton_step(vectors)
        grids.append(ControlGrid(vectors, PITCH))
    return grids[::-1][:2]


@dataclass(frozen=True)
class _LeastSquares:
    """The least-squares problem of one level, its points sorted into cells."""

    level: Level
    size: Sequence[int]
    stiffness: float
    cells: Tensor
    """(C,): numbers of the cells that hold points."""
    points: Tensor
    """(C, n): numbers of the points in each cell."""
    weights: Tensor
    """(C, n, K): of every corner at every point, 0 at the points that fill a cell up."""

    @classmethod
    def from_level(cls, level: Level, size: Sequence[int], stiffness: float) -> _LeastSquares:
        places = [
            ((p + 0.5) / PITCH - 0.5).clamp(0, n - 1)
            for p, n in zip(level.positions.T, size, strict=True)
        ]
        lower = [p.floor().clamp(max=max(n - 2, 0)) for p, n in zip(places, size, strict=True)]
        fractions = [p - start for p, start in zip(places, lower, strict=True)]
        corners = _cell_corners(size)
        weights = torch.stack([_corner_weights(fractions, corner) for corner in corners], -1)
        number = torch.zeros_like(lower[0], dtype=torch.long)
        for start, n in zip(lower, size, strict=True):
            number = number * max(n - 1, 1) + start.long()
        order = torch.argsort(number, stable=True)
        cells, counts = torch.unique_consecutive(number[order], return_counts=True)
        rank = torch.arange(int(counts.max()), device=counts.device)
        first = counts.cumsum(0) - counts
        filled = rank < counts[:, None]
        points = order[(first[:, None] + rank).clamp(max=len(order) - 1)]
        return cls(level, size, stiffness, cells, points, weights[points] * filled[..., None])

    def gauss_newton_step(self, vectors: Tensor) -> Tensor:
        """What to add to the vectors, (D, ...)."""
        blocks, slope = self._linearise(vectors)
        diagonal = _scatter_to_corners(torch.diagonal(blocks, dim1=1, dim2=2), self.size)
        stiffness = self.stiffness * float(diagonal[diagonal > 0].mean())

        def multiply(x: Tensor) -> Tensor:
            products = (blocks @ _gather_from_corners(x)[..., None])[..., 0]
            return _scatter_to_corners(products, self.size) + stiffness * _tension(x)

        solution = conjugate_gradients(
            multiply,
            -(slope + stiffness * _tension(vectors)),
            diagonal + 2 * len(self.size) * stiffness,
        )
        limit = solution.new_tensor(self.level.step).view(-1, *[1] * len(self.size)) * LONGEST_STEP
        return solution.clamp(-limit, limit)

    def _linearise(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """JᵀJ of each cell, (cells, K·D, K·D), and Jᵀr as vectors (D, ...)."""
        corners_CKD = _gather_from_corners(vectors)[self.cells].unflatten(
            1, (self.weights.shape[2], -1)
        )
        positions = self.level.positions[self.points] + self.weights @ corners_CKD
        moved = self.level.moving.sample(positions.flatten(0, 1)).view(*self.points.shape, -1)
        target = self.level.target[self.points]
        residual, slopes = (moved - target)[..., :1], ((moved + target) / 2)[..., 1:]
        jacobian = (self.weights[..., None] * slopes[:, :, None]).flatten(2)
        total = math.prod(max(n - 1, 1) for n in self.size)
        blocks = jacobian.new_zeros(total, jacobian.shape[2], jacobian.shape[2])
        blocks[self.cells] = jacobian.mT @ jacobian
        slope = jacobian.new_zeros(total, jacobian.shape[2])
        slope[self.cells] = (jacobian.mT @ residual)[..., 0]
        return blocks, _scatter_to_corners(slope, self.size)


def conjugate_gradients(
    multiply: Callable[[Tensor], Tensor], right: Tensor, diagonal: Tensor
) -> Tensor:
    """x with multiply(x) = right for a symmetric positive map, in at most `CG_STEPS` steps.

    Preconditioned with the map's diagonal.
    """
    x, residual = torch.zeros_like(right), right
    direction = preconditioned = residual / diagonal
    size = (residual * preconditioned).sum()
    goal = 1e-4 * float(size)
    for _ in range(CG_STEPS):
        if float(size) <= goal:
            break
        image = multiply(direction)
        length = size / (direction * image).sum()
        x, residual = x + length * direction, residual - length * image
        preconditioned = residual / diagonal
        size, before = (residual * preconditioned).sum(), size
        direction = preconditioned + size / before * direction
    return x


def _tension(vectors: Tensor) -> Tensor:
    """The gradient of half the squared differences between neighbouring vectors, (D, ...)."""
    pull = torch.zeros_like(vectors)
    for axis in range(1, vectors.ndim):
        n = vectors.shape[axis] - 1
        difference = vectors.narrow(axis, 1, n) - vectors.narrow(axis, 0, n)
        pull.narrow(axis, 1, n).add_(difference)
        pull.narrow(axis, 0, n).sub_(difference)
    return pull


def _corner_weights(fractions: Sequence[Tensor], corner: Sequence[int]) -> Tensor:
    """The weight of a cell's corner at points this far from its lower to its upper ends (0..1)."""
    weight = torch.ones_like(fractions[0])
    for fraction, upper in zip(fractions, corner, strict=True):
        weight = weight * (fraction if upper else 1 - fraction)
    return weight


def _cell_corners(size: Sequence[int]) -> list[tuple[int, ...]]:
    return list(product((0, 1), repeat=len(size)))


def _corner_index(corner: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """Where this corner of every cell is in the control grid.

    An axis with one control point has it at both ends of its one cell.
    """
    ends = ((slice(0, max(n - 1, 1)), slice(min(1, n - 1), n)) for n in size)
    return (slice(None), *(both[upper] for both, upper in zip(ends, corner, strict=True)))


def _gather_from_corners(vectors: Tensor) -> Tensor:
    """The vectors at the corners of every cell, (cells, K·D)."""
    size = vectors.shape[1:]
    corners = [vectors[_corner_index(corner, size)] for corner in _cell_corners(size)]
    return torch.stack([corner.flatten(1).T for corner in corners], 1).flatten(1)


def _scatter_to_corners(parts: Tensor, size: Sequence[int]) -> Tensor:
    """The transpose of `_gather_from_corners`: (D, ...), every cell's part added to its corners."""
    corners = _cell_corners(size)
    vectors = parts.new_zeros(parts.shape[1] // len(corners), *size)
    cells = [max(n - 1, 1) for n in size]
    for corner, part in zip(corners, parts.unflatten(1, (len(corners), -1)).unbind(1), strict=True):
        vectors[_corner_index(corner, size)] += part.T.unflatten(1, cells)
    return vectors
