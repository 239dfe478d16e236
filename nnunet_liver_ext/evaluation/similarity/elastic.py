"""The elastic class: displacement vectors on a grid 16 times coarser than the image.

Between the vectors the displacement is linearly interpolated (Couteaux et al. 2021, "Cooperating
networks", section 3.2). The paper descends along the gradient of ||τ(s1 * f) − s2 * f||². Here the
same minimum is reached in a few Gauss-Newton steps, from coarse to fine, and each of them solves
its linear least-squares problem by conjugate gradients. The gradient of an edge is the mean of both
masks' gradients (Benhimane and Malis 2004), so edges that do not touch yet attract each other. A
weak pull towards neighbouring vectors decides where the masks say nothing, and keeps the field from
folding.

Blurring and warping do not commute, so the field that minimises the difference of the blurred masks
is not the one with the highest Dice: begun at a field with Dice 1, the descent ends at .992 to
.995. Hence the last steps look at what the Dice counts: the voxels beside mask 2's border at which
the interpolated mask 1 is on the wrong side of one half, or closer to it than a shrinking margin.
"""

# D spatial axes (2 or 3), C cells between control points, K corners of a cell (4 or 8),
# n points in a cell (filled up with points of weight 0), ... the axes of the control grid

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor

from nnunet_liver_ext.deformation import control_grid_size
from nnunet_liver_ext.evaluation.similarity.levels import Level, make_border_level, make_level
from nnunet_liver_ext.evaluation.similarity.transforms import THRESHOLD, ControlGrid, MaskPair

PITCH = 16
LEVELS = ((4, 3, 0.01), (2, 2, 0.003), (1, 4, 0.001))  # coarseness, Gauss-Newton steps, stiffness
POINTS = 40_000
MARGINS = (0.3, 0.2, 0.1, 0.05, 0.03)  # of the last steps: from one half of the interpolated mask
BORDER_STIFFNESS = 1e-4
RIGHT_SIDE = 0.3  # how much voxels on the right side hold their places
CG_STEPS = 12
LONGEST_STEP = 2.0  # coarse voxels


def fit_elastic(
    masks: MaskPair, spacing_mm: Sequence[float], shift: Sequence[int]
) -> list[ControlGrid]:
    """The control grid that moves mask 1 onto mask 2; none if the masks are too small for one.

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
    level = make_border_level(masks)
    if len(level.positions) == 0 or not grids:  # masks of single voxels
        return grids[-1:]
    border = _LeastSquares.from_level(level, size, BORDER_STIFFNESS)
    return [ControlGrid(_fit_border(vectors, border), PITCH)]


def _fit_border(vectors: Tensor, border: _LeastSquares) -> Tensor:
    """The vectors after as many of the last steps as put more border voxels on the right side."""
    share = border.share_on_right_side(vectors)
    for margin in MARGINS:
        moved = vectors + border.gauss_newton_step(vectors, margin)
        share, before = border.share_on_right_side(moved), share
        if share <= before:
            break
        vectors = moved
    return vectors


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

    def gauss_newton_step(self, vectors: Tensor, margin: float | None = None) -> Tensor:
        """What to add to the vectors, (D, ...).

        Args:
            vectors: the control grid, (D, ...).
            margin: None: the blurred masks shall be equal. A number: the mask not blurred shall be
                on the target's side of one half, so far from it.
        """
        blocks, slope = self._linearise(vectors, margin)
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

    def _linearise(self, vectors: Tensor, margin: float | None) -> tuple[Tensor, Tensor]:
        """JᵀJ of each cell, (cells, K·D, K·D), and Jᵀr as vectors (D, ...)."""
        positions = self._positions(vectors)
        compare = self._differences if margin is None else partial(self._wrong_sides, margin)
        residual, slopes = compare(positions)
        jacobian = (self.weights[..., None] * slopes[:, :, None]).flatten(2)
        total = math.prod(max(n - 1, 1) for n in self.size)
        blocks = jacobian.new_zeros(total, jacobian.shape[2], jacobian.shape[2])
        blocks[self.cells] = jacobian.mT @ jacobian
        slope = jacobian.new_zeros(total, jacobian.shape[2])
        slope[self.cells] = (jacobian.mT @ residual)[..., 0]
        return blocks, _scatter_to_corners(slope, self.size)

    def share_on_right_side(self, vectors: Tensor) -> float:
        """The share of the points, 0..1, at which mask 1, moved and cut at one half, is mask 2."""
        values, _ = self.level.moving.interpolate(self._positions(vectors))
        target = self.level.target[self.points][..., 0] > THRESHOLD
        right = (values.view_as(target) >= THRESHOLD) == target
        filled = self.weights.sum(2) > 0
        return float((right & filled).sum() / filled.sum())

    def _positions(self, vectors: Tensor) -> Tensor:
        """Where the points come from in mask 1, (C · n, D)."""
        corners_CKD = _gather_from_corners(vectors)[self.cells].unflatten(
            1, (self.weights.shape[2], -1)
        )
        origins: Tensor = self.level.positions[self.points] + self.weights @ corners_CKD
        return origins.flatten(0, 1)

    def _differences(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Of the blurred masks: residual (C, n, 1) and slopes (C, n, D)."""
        moved = self.level.moving.sample(positions).view(*self.points.shape, -1)
        target = self.level.target[self.points]
        return (moved - target)[..., :1], ((moved + target) / 2)[..., 1:]

    def _wrong_sides(self, margin: float, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The same, of how far the interpolated mask is from `margin` on the target's side."""
        values, slopes = self.level.moving.interpolate(positions)
        side = 2 * self.level.target[self.points] - 1
        missing = (margin - side * (values.view_as(side) - THRESHOLD)).clamp(min=0)
        importance = torch.where(missing > 0, 1.0, RIGHT_SIDE)
        return -side * missing, slopes.view(*self.points.shape, -1) * importance


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
