"""Rigid and affine maps of one mask onto another, fitted on blurred masks from several starts.

Maps are linear in mm. ||τ(s1 * f) − s2 * f||² is minimised by Gauss-Newton steps, coarse to fine.
A step multiplies the map by exp(Σ ω G) and adds a shift. The generators G are the antisymmetric
matrices for rotations, all matrices for affine maps, and none for shifts by fractions of a voxel.
As in `similarity.elastic`, the gradient of an edge is the mean of both masks' gradients.
"""

# N points, D spatial axes (2 or 3), G generators

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from nnunet_liver_ext.evaluation.masks import BoolArray, FloatArray, bounding_box
from nnunet_liver_ext.evaluation.similarity.levels import Level, make_level
from nnunet_liver_ext.evaluation.similarity.transforms import AffineMap, MaskPair

LEVELS = ((4, 15, 4), (2, 8, 2), (1, 5, 1))  # coarseness, Gauss-Newton steps, starts followed
POINTS = 20_000
FEW_POINTS = 3_000  # for a first look at a start
DAMPING = 1e-3
LARGEST_TURN = 0.3  # in one step: radians, or relative stretching
LONGEST_STEP = 2.0  # coarse voxels
SMALLEST_VOLUME = 0.05  # maps that change a volume by more than this, or its inverse, are lost


def rotation_generators(dims: int) -> FloatArray:
    """Generators of rotations, (G, D, D)."""
    axes = [(i, j) for i in range(dims) for j in range(i)]
    return np.array([_unit_matrix(dims, i, j) - _unit_matrix(dims, j, i) for i, j in axes])


def affine_generators(dims: int) -> FloatArray:
    """Generators of all linear maps, (G, D, D)."""
    return np.array([_unit_matrix(dims, i, j) for i in range(dims) for j in range(dims)])


def shift_generators(dims: int) -> FloatArray:
    """No generator, (0, D, D): shifts alone."""
    return np.zeros((0, dims, dims))


def fit_affine(
    masks: MaskPair,
    spacing_mm: Sequence[float],
    shift: Sequence[int],
    starts: Sequence[AffineMap],
    generators: FloatArray,
) -> list[AffineMap]:
    """Maps near the most promising starts, the best of each level.

    Args:
        masks: the two masks.
        spacing_mm: distance of neighbouring voxels along each axis.
        shift: the best one, in voxels; says where to look.
        starts: maps to begin with.
        generators: the linear parts that a step may have, (G, D, D), acting on mm.
    """
    scale = torch.tensor(spacing_mm, dtype=torch.float64, device=masks.device)
    basis_mm = torch.tensor(generators, dtype=torch.float64, device=masks.device)
    basis = basis_mm * scale / scale[:, None]  # acts on voxels
    pivot = scale.new_tensor(_centre_of_mass(masks.mask_1))
    maps = sorted(starts, key=_dice_estimate(masks), reverse=True)
    best: list[AffineMap] = []
    for factor, steps, followed in LEVELS:
        level = make_level(masks, spacing_mm, factor, shift, POINTS)
        maps = [_descend(start, level, basis, pivot, steps) for start in maps[:followed]]
        maps = sorted(filter(_is_sane, maps), key=masks.dice, reverse=True)
        best += maps[:1]
    return best


def rigid_starts(masks: MaskPair, spacing_mm: Sequence[float]) -> list[AffineMap]:
    """Rotations all over, and those that lay the principal axes on each other.

    Each takes the centre of mass of mask 2 to that of mask 1.
    """
    dims = masks.mask_1.ndim
    axes_1, axes_2 = (_principal_axes(mask, spacing_mm)[0] for mask in (masks.mask_1, masks.mask_2))
    aligned = [axes_1 @ np.diag(signs) @ axes_2.T for signs in product((-1, 1), repeat=dims)]
    if dims == 3:
        around = list(Rotation.create_group("I").as_matrix())
    else:
        around = [_rotation_matrix(degrees) for degrees in range(0, 360, 10)]
    return _centred_maps(masks, spacing_mm, [*around, *aligned])


def affine_starts(masks: MaskPair, spacing_mm: Sequence[float]) -> list[AffineMap]:
    """The maps that give mask 1 the centre of mass and the second moments of mask 2."""
    axes_1, lengths_1 = _principal_axes(masks.mask_1, spacing_mm)
    axes_2, lengths_2 = _principal_axes(masks.mask_2, spacing_mm)
    stretched = [
        axes_1 @ np.diag(np.array(signs) * lengths_1 / lengths_2) @ axes_2.T
        for signs in product((-1, 1), repeat=masks.mask_1.ndim)
    ]
    return _centred_maps(masks, spacing_mm, stretched)


def _dice_estimate(masks: MaskPair) -> Callable[[AffineMap], float]:
    """Dice as a few voxels of mask 2 see it: the share of them that comes from inside mask 1."""
    mask_1, mask_2 = masks.tensors
    points = torch.nonzero(mask_2)
    points = points[:: max(1, len(points) // FEW_POINTS)]
    voxels_1 = int(mask_1.sum())
    last = torch.tensor(mask_1.shape, device=masks.device) - 1

    def estimate(transform: AffineMap) -> float:
        origins = transform.map_points(points).round().long()
        within = ((origins >= 0) & (origins <= last)).all(1)
        common = float(mask_1[tuple(origins[within].T)].sum()) / len(points) * masks.voxels_2
        moved = voxels_1 / float(torch.linalg.det(transform.matrix))
        return 2 * common / (moved + masks.voxels_2)

    return estimate


def _descend(start: AffineMap, level: Level, basis: Tensor, pivot: Tensor, steps: int) -> AffineMap:
    transform = start
    for _ in range(steps):
        transform = _gauss_newton_step(transform, level, basis, pivot)
    return transform


def _gauss_newton_step(
    transform: AffineMap, level: Level, basis: Tensor, pivot: Tensor
) -> AffineMap:
    """One damped step; the generators turn and stretch around `pivot` in mask 1."""
    origins = transform.map_points(level.positions)
    moving, target = level.moving.sample(origins).double(), level.target.double()
    slopes = (moving[:, 1:] + target[:, 1:] @ torch.linalg.inv(transform.matrix)) / 2
    directions = torch.einsum("gij,nj->ngi", basis, origins - pivot)
    jacobian = torch.cat([torch.einsum("ngi,ni->ng", directions, slopes), slopes], 1)
    normal = jacobian.T @ jacobian
    normal += torch.diag(DAMPING * normal.diagonal() + 1e-9)
    solution = -torch.linalg.solve(normal, jacobian.T @ (moving[:, 0] - target[:, 0]))
    turn = solution[: len(basis)].clamp(-LARGEST_TURN, LARGEST_TURN)
    linear = torch.linalg.matrix_exp(torch.einsum("g,gij->ij", turn, basis))
    limit = LONGEST_STEP * pivot.new_tensor(level.step)
    shift = solution[len(basis) :].clamp(-limit, limit)
    end = linear @ (transform.centre + transform.translation - pivot) + pivot + shift
    return AffineMap(linear @ transform.matrix, end - transform.centre, transform.centre)


def _is_sane(transform: AffineMap) -> bool:
    volume = float(torch.linalg.det(transform.matrix))
    finite = bool(transform.translation.isfinite().all())
    return finite and SMALLEST_VOLUME < volume < 1 / SMALLEST_VOLUME


def _centred_maps(
    masks: MaskPair, spacing_mm: Sequence[float], linear_mm: Iterable[FloatArray]
) -> list[AffineMap]:
    """Maps with these linear parts, in mm, that take mask 2's centre of mass to mask 1's.

    Mirrored ones are left out.
    """
    scale = np.array(spacing_mm)
    centre = _centre_of_mass(masks.mask_2)
    translation = _centre_of_mass(masks.mask_1) - centre
    parts = [
        (linear * scale / scale[:, None], translation, centre)
        for linear in linear_mm
        if np.linalg.det(linear) > 0
    ]
    return [
        AffineMap(*(torch.tensor(part, dtype=torch.float64, device=masks.device) for part in three))
        for three in parts
    ]


def _centre_of_mass(mask: BoolArray) -> FloatArray:
    """In voxels, (D,)."""
    box = bounding_box(mask)
    offset: FloatArray = np.argwhere(mask[box]).astype(float).mean(0)
    centre: FloatArray = offset + [side.start for side in box]
    return centre


def _principal_axes(mask: BoolArray, spacing_mm: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    """Axes as columns, and the standard deviations along them in mm, at least one voxel's."""
    points = np.argwhere(mask[bounding_box(mask)]).astype(float) * spacing_mm
    offsets = points - points.mean(0)
    covariance = offsets.T @ offsets / len(offsets) + np.diag(np.square(spacing_mm) / 12)
    variances, axes = np.linalg.eigh(covariance)
    return axes, np.sqrt(variances)


def _rotation_matrix(degrees: float) -> FloatArray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


def _unit_matrix(dims: int, row: int, column: int) -> FloatArray:
    matrix = np.zeros((dims, dims))
    matrix[row, column] = 1
    return matrix
