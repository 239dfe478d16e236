"""Rigid and affine maps of one mask onto another, fitted in mm on blurred masks, from several
starts.

||τ(s1 * f) − s2 * f||² is minimised by Gauss-Newton steps from coarse to fine. A step multiplies
the map by exp(Σ ω G) and adds a shift: the generators G are the antisymmetric matrices for
rotations, all matrices for affine maps, and none for shifts by fractions of a voxel. As in
`similarity.elastic`, an edge's gradient is the mean of both masks'.

N points, D spatial axes (2 or 3), G generators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from nnunet_liver_ext.evaluation.masks import bounding_box
from nnunet_liver_ext.evaluation.similarity.levels import Level, level
from nnunet_liver_ext.evaluation.similarity.transforms import AffineMap, MaskPair

LEVELS = (
    (4, 15, 4),
    (2, 8, 2),
    (1, 5, 1),
)  # coarseness, Gauss-Newton steps, starts that are followed
POINTS = 20_000
FEW_POINTS = 3_000  # for a first look at a start
DAMPING = 1e-3
LARGEST_TURN = 0.3  # in one step: radians, or relative stretching
LONGEST_STEP = 2.0  # coarse voxels
SMALLEST_VOLUME = (
    0.05  # an affine map that shrinks or grows a volume beyond this or its inverse has lost its way
)


def rotations(dims: int) -> np.ndarray:
    """Generators of rotations, (G, D, D)."""
    return np.array([_unit(dims, i, j) - _unit(dims, j, i) for i in range(dims) for j in range(i)])


def all_linear(dims: int) -> np.ndarray:
    """Generators of all linear maps, (G, D, D)."""
    return np.array([_unit(dims, i, j) for i in range(dims) for j in range(dims)])


def no_linear(dims: int) -> np.ndarray:
    """Shifts alone: no generator, (0, D, D)."""
    return np.zeros((0, dims, dims))


def fitted(
    masks: MaskPair,
    spacing_mm: Sequence[float],
    shift: Sequence[int],
    starts: Sequence[AffineMap],
    generators: np.ndarray,
) -> list[AffineMap]:
    """Maps near the most promising starts, the best of each level.

    Args:
        masks: the pair.
        spacing_mm: of each axis.
        shift: the best one, in voxels; says where to look.
        starts: maps to begin with.
        generators: of the linear part, (G, D, D), acting on mm.
    """
    scale = torch.tensor(spacing_mm, dtype=torch.float64, device=masks.device)
    basis = (
        torch.tensor(generators, dtype=torch.float64, device=masks.device) * scale / scale[:, None]
    )  # acts on voxels
    maps = sorted(starts, key=_estimate_of_dice(masks), reverse=True)
    found: list[AffineMap] = []
    for factor, steps, kept in LEVELS:
        problem = level(masks, spacing_mm, factor, shift, POINTS)
        maps = [
            _descended(own, problem, basis, _middle(masks.mask_1), steps) for own in maps[:kept]
        ]
        maps = sorted((own for own in maps if _is_sane(own)), key=masks.dice, reverse=True)
        found += maps[:1]
    return found


def rigid_starts(masks: MaskPair, spacing_mm: Sequence[float]) -> list[AffineMap]:
    """Rotations all over, and those that lay the principal axes on each other; each with the
    centres of mass together."""
    dims = masks.mask_1.ndim
    axes_1, axes_2 = (_principal_axes(mask, spacing_mm)[0] for mask in (masks.mask_1, masks.mask_2))
    aligned = [axes_1 @ np.diag(signs) @ axes_2.T for signs in product((-1, 1), repeat=dims)]
    around = (
        Rotation.create_group("I").as_matrix()
        if dims == 3
        else [_turn(angle) for angle in range(0, 360, 10)]
    )
    return [
        _centred(masks, spacing_mm, own) for own in [*around, *aligned] if np.linalg.det(own) > 0
    ]


def affine_starts(masks: MaskPair, spacing_mm: Sequence[float]) -> list[AffineMap]:
    """The maps that give mask 1 the centre of mass and the second moments of mask 2."""
    axes_1, lengths_1 = _principal_axes(masks.mask_1, spacing_mm)
    axes_2, lengths_2 = _principal_axes(masks.mask_2, spacing_mm)
    stretched = [
        axes_1 @ np.diag(np.array(signs) * lengths_1 / lengths_2) @ axes_2.T
        for signs in product((-1, 1), repeat=masks.mask_1.ndim)
    ]
    return [_centred(masks, spacing_mm, own) for own in stretched if np.linalg.det(own) > 0]


def _estimate_of_dice(masks: MaskPair) -> Callable[[AffineMap], float]:
    """Dice as a few voxels of mask 2 see it: the share of them that comes from inside mask 1."""
    inside = torch.nonzero(masks.on_device[1])
    inside = inside[:: max(1, len(inside) // FEW_POINTS)]
    size_1, last = (
        int(masks.on_device[0].sum()),
        torch.tensor(masks.mask_1.shape, device=masks.device) - 1,
    )

    def estimate(own: AffineMap) -> float:
        origins = own.moved(inside).round().long()
        within = ((origins >= 0) & (origins <= last)).all(1)
        common = (
            float(masks.on_device[0][tuple(origins[within].T)].sum()) / len(inside) * masks.size_2
        )
        return 2 * common / (size_1 / float(torch.linalg.det(own.matrix)) + masks.size_2)

    return estimate


def _descended(
    start: AffineMap, problem: Level, basis: Tensor, pivot: np.ndarray, steps: int
) -> AffineMap:
    middle = torch.tensor(pivot, dtype=torch.float64, device=basis.device)
    for _ in range(steps):
        start = _step(start, problem, basis, middle)
    return start


def _step(own: AffineMap, problem: Level, basis: Tensor, pivot: Tensor) -> AffineMap:
    """One damped Gauss-Newton step; the generators turn and stretch around `pivot` in mask 1."""
    moved = own.moved(problem.positions)
    found, target = problem.moving.at(moved).double(), problem.target.double()
    slopes = (found[:, 1:] + target[:, 1:] @ torch.linalg.inv(own.matrix)) / 2
    directions = torch.einsum("gij,nj->ngi", basis, moved - pivot)
    jacobian = torch.cat([torch.einsum("ngi,ni->ng", directions, slopes), slopes], 1)
    normal = jacobian.T @ jacobian
    normal += torch.diag(DAMPING * normal.diagonal() + 1e-9)
    solution = -torch.linalg.solve(normal, jacobian.T @ (found[:, 0] - target[:, 0]))
    turn = solution[: len(basis)].clamp(-LARGEST_TURN, LARGEST_TURN)
    limit = LONGEST_STEP * torch.tensor(problem.step, dtype=torch.float64, device=pivot.device)
    linear = torch.linalg.matrix_exp(torch.einsum("g,gij->ij", turn, basis))
    end = (
        linear @ (own.centre + own.translation - pivot)
        + pivot
        + solution[len(basis) :].clamp(-limit, limit)
    )
    return AffineMap(linear @ own.matrix, end - own.centre, own.centre)


def _is_sane(own: AffineMap) -> bool:
    volume = float(torch.linalg.det(own.matrix))
    return bool(own.translation.isfinite().all()) and SMALLEST_VOLUME < volume < 1 / SMALLEST_VOLUME


def _centred(masks: MaskPair, spacing_mm: Sequence[float], linear_mm: np.ndarray) -> AffineMap:
    """The map with this linear part, in mm, that takes mask 2's centre of mass to mask 1's."""
    scale = np.array(spacing_mm)
    centre = _middle(masks.mask_2)
    parts = (linear_mm * scale / scale[:, None], _middle(masks.mask_1) - centre, centre)
    return AffineMap(
        *(torch.tensor(part, dtype=torch.float64, device=masks.device) for part in parts)
    )


def _middle(mask: np.ndarray) -> np.ndarray:
    """Centre of mass in voxels."""
    box = bounding_box(mask)
    return _points(mask[box]).mean(0) + [part.start for part in box]


def _principal_axes(mask: np.ndarray, spacing_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Axes as columns, and the standard deviations along them in mm; never thinner than one
    voxel."""
    points = _points(mask[bounding_box(mask)]) * spacing_mm
    offsets = points - points.mean(0)
    variances, axes = np.linalg.eigh(
        offsets.T @ offsets / len(offsets) + np.diag(np.square(spacing_mm) / 12)
    )
    return axes, np.sqrt(variances)


def _points(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).astype(float)


def _turn(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


def _unit(dims: int, row: int, column: int) -> np.ndarray:
    matrix = np.zeros((dims, dims))
    matrix[row, column] = 1
    return matrix
