"""Bounded rotations and stretches, made in millimetres and applied to voxels.

A linear map is A = exp(W) · exp(S), a rotation (W antisymmetric) after a stretch (S symmetric): the
polar decomposition. W = 0 and S = 0 is the identity, and in both a bound means the same in every
direction of space.

B batch, D spatial axes (2 or 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How far a translation, a rigid or an affine transform goes at most.

    The paper names only the first bound, for its toy.
    """

    max_shift_voxels: float = 32.0
    """Largest shift along each axis (Couteaux et al. 2021, section 3.1: 32 pixels).

    It never exceeds a third of the patch.
    """
    max_rotation_deg: float = 30.0
    max_log_stretch: float = 0.2
    """Largest entry of S.

    Lengths change by at most a factor of exp(±0.2) along an axis, angles by about 0.4.
    """

    def max_shift_in(self, patch_size: Sequence[int]) -> tuple[float, ...]:
        """The largest shift along each axis, in voxels.

        Beyond a third of the patch too little of an organ is left in it.
        """
        return tuple(min(self.max_shift_voxels, n / 3) for n in patch_size)


DEFAULT_BOUNDS = Bounds()


def num_rotations(dims: int) -> int:
    """Degrees of freedom of W: 1 in 2D, 3 in 3D."""
    return dims * (dims - 1) // 2


def num_stretches(dims: int) -> int:
    """Degrees of freedom of S: 3 in 2D, 6 in 3D."""
    return dims * (dims + 1) // 2


def linear_map(rotation: Tensor, stretch: Tensor | None, *, spacing_mm: Sequence[float]) -> Tensor:
    """A = exp(W) · exp(S) as it acts on voxel coordinates: diag(1/spacing) · A · diag(spacing).

    Args:
        rotation: (B, 1 or 3), the entries of W above its diagonal, in radian; their norm is the
            angle.
        stretch: (B, 3 or 6), the entries of S on and above its diagonal; None: a rotation only.
        spacing_mm: of the voxels.

    Returns:
        (B, D, D).
    """
    dims = len(spacing_mm)
    matrix: Tensor = torch.linalg.matrix_exp(
        _fill_matrix(rotation, list(combinations(range(dims), 2)), dims, mirrored=-1)
    )
    if stretch is not None:
        pairs = list(combinations_with_replacement(range(dims), 2))
        matrix = matrix @ torch.linalg.matrix_exp(_fill_matrix(stretch, pairs, dims, mirrored=1))
    spacing = matrix.new_tensor(spacing_mm)
    return matrix * spacing / spacing[:, None]


def bound_rotation(raw: Tensor, max_rotation_deg: float) -> Tensor:
    """The same direction with the angle max · tanh(norm), which stays below the bound.

    Both are (B, 1 or 3), in radian.
    """
    squared = raw.square().sum(1, keepdim=True)
    norm = (squared + 1e-12).sqrt()
    return raw * (math.radians(max_rotation_deg) * norm.tanh() / norm)


def _fill_matrix(
    entries: Tensor, places: list[tuple[int, int]], dims: int, *, mirrored: float
) -> Tensor:
    """(B, D, D) with the entries at their places and, times `mirrored`, at the transposed ones."""
    basis = entries.new_zeros(len(places), dims, dims)
    for number, (row, column) in enumerate(places):
        basis[number, column, row] = mirrored
        basis[number, row, column] = 1
    return (entries[:, :, None, None] * basis).sum(1)
