"""Random deformations of a class Ω, which move masks while the registor is trained alone.

The paper trains the registor first "with annotation masks as input" (Couteaux et al. 2021, section
2.2), on its pairs. Moving a mask by fresh deformations makes as many pairs as one wants. The
magnitudes are ours: breathing moves the liver by some centimetres as a whole and bends it by some
millimetres to a centimetre.

B batch, D spatial axes (2 or 3), ... the D spatial axes themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from nnunet_liver_ext.deformation import (
    affine_displacement,
    blur,
    control_grid_size,
    upsample_control_grid,
)
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks.linear_maps import (
    DEFAULT_BOUNDS,
    Bounds,
    linear_map,
    num_rotations,
    num_stretches,
)

SMOOTHINGS = 2
SMOOTHED_STD = math.sqrt(70) / 16  # of white noise after [1, 2, 1]/4 twice, along one axis
STEEPEST = 0.9


def random_displacement(
    transforms: str,
    *,
    size: Sequence[int],
    spacing_mm: Sequence[float],
    batch: int,
    pitch: Sequence[int] | None = None,
    bend_mm: float = 8.0,
    shift_mm: float = 10.0,
    bounds: Bounds = DEFAULT_BOUNDS,
    centre: Tensor | None = None,
    shift_before: Tensor | None = None,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
) -> Tensor:
    """A fresh displacement for each case, (B, D, ...) in voxels, float32. None of them folds.

    Args:
        transforms: elastic, translation, rigid or affine.
        size: of the grid.
        spacing_mm: of its voxels.
        batch: B.
        pitch: voxels between the vectors of an elastic deformation (`control_grid_pitch`).
        bend_mm: standard deviation of an elastic deformation's vectors, before what would fold is
            scaled down.
        shift_mm: standard deviation of its shift as a whole, cut at a quarter of the grid. Along
            each axis both are at most a tenth of the grid: once masks hardly overlap, moving
            everything out of the patch lowers the registor's loss, and from there no gradient leads
            back.
        bounds: within which the shift of the other transforms and the angle and stretch are
            uniform.
        centre: about which they turn, (B, D) in voxels; None: the middle of the grid.
        shift_before: the shift that moves these masks, as they lie, onto others, (B, D)
            in voxels. What is left of it after the drawn one is then within the bounds, too (where
            it is no longer than twice those), so that a registor can find it. None: unknown.
        device: of the result; without a generator its global random state is used.
        generator: of that device.
    """
    noise = _Noise(batch, torch.device(device), generator)
    if transforms == "elastic":
        if pitch is None:
            raise InputError("an elastic deformation needs the pitch of its control grid.")
        return _elastic_displacement(noise, size, spacing_mm, pitch, bend_mm, shift_mm)
    shift_BD = _uniform_shift(noise, size, bounds, shift_before)
    if transforms == "translation":
        return _expand_to_grid(shift_BD, size)
    if transforms in ("rigid", "affine"):
        matrix_BDD = _random_matrix(noise, spacing_mm, bounds, stretches=transforms == "affine")
        middle = shift_BD.new_tensor([(n - 1) / 2 for n in size]).expand(batch, -1)
        translation_BD = (matrix_BDD @ shift_BD[:, :, None])[:, :, 0]  # `centre` moves by -shift
        return affine_displacement(
            matrix_BDD, translation_BD, middle if centre is None else centre, size
        )
    raise InputError(
        f"transforms is {transforms!r}, but there are only elastic, translation, rigid and affine."
    )


class _Noise:
    """Random numbers for B cases."""

    def __init__(self, batch: int, device: torch.device, generator: torch.Generator | None) -> None:
        self.batch, self.device, self._generator = batch, device, generator

    def normal(self, *shape: int) -> Tensor:
        return torch.randn((self.batch, *shape), device=self.device, generator=self._generator)

    def uniform(self, *shape: int) -> Tensor:
        """Between -1 and 1."""
        return (
            2 * torch.rand((self.batch, *shape), device=self.device, generator=self._generator) - 1
        )


def _elastic_displacement(
    noise: _Noise,
    size: Sequence[int],
    spacing_mm: Sequence[float],
    pitch: Sequence[int],
    bend_mm: float,
    shift_mm: float,
) -> Tensor:
    """Smooth vectors on the control grid, flattened where they would fold, and one shift of all."""
    ones = [1] * len(size)
    spacing = torch.tensor(spacing_mm, device=noise.device)
    quarter = torch.tensor(size, device=noise.device) / 4
    tenth_mm = spacing * quarter / 2.5
    bend_B_mm = _smooth_vectors(noise, control_grid_size(size, pitch)) * tenth_mm.clamp(
        max=bend_mm
    ).view(-1, *ones)
    pitch_mm = [step * spacing for step, spacing in zip(pitch, spacing_mm, strict=True)]
    bend_B_mm = bend_B_mm * (STEEPEST / _steepness(bend_B_mm, pitch_mm)).clamp(max=1)
    shift = (noise.normal(len(size)) * tenth_mm.clamp(max=shift_mm) / spacing).clamp(
        -quarter, quarter
    )
    control = bend_B_mm / spacing.view(-1, *ones) + shift.view(*shift.shape, *ones)
    return upsample_control_grid(control, pitch, size)


def _smooth_vectors(noise: _Noise, size: Sequence[int]) -> Tensor:
    """Normal noise of variance 1 whose neighbours are correlated by 0.8, (B, D, ...)."""
    vectors = noise.normal(
        len(size), *[n + 2 * SMOOTHINGS for n in size]
    )  # a margin that the border's repetition spoils
    for _ in range(SMOOTHINGS):
        vectors = blur(vectors)
    for axis, n in enumerate(size, start=2):
        vectors = vectors.narrow(axis, SMOOTHINGS, n)
    return vectors / SMOOTHED_STD ** len(size)


def _steepness(vectors_mm: Tensor, pitch_mm: Sequence[float]) -> Tensor:
    """Bound of max_i Σ_j |∂u_i/∂x_j| of each case, (B, 1, ...).

    Below one, I + ∇u is strictly diagonally dominant with a positive diagonal, so that its
    determinant is positive.
    """
    total = vectors_mm.new_zeros(vectors_mm.shape[:2])
    for axis, step in enumerate(pitch_mm, start=2):
        if vectors_mm.shape[axis] > 1:
            total = total + vectors_mm.diff(dim=axis).abs().flatten(2).amax(2) / step
    return total.amax(1).clamp(min=1e-6).view(-1, *[1] * (vectors_mm.ndim - 1))


def _uniform_shift(
    noise: _Noise, size: Sequence[int], bounds: Bounds, before: Tensor | None
) -> Tensor:
    """(B, D) in voxels: no longer than the bounds, nor is what is left of the shift `before`."""
    uniform = noise.uniform(len(size))
    longest = uniform.new_tensor(bounds.max_shift_in(size))
    if before is None:
        return uniform * longest
    middle = (before / 2).clamp(-longest, longest)
    return middle + uniform * (longest - middle.abs())


def _random_matrix(
    noise: _Noise, spacing_mm: Sequence[float], bounds: Bounds, *, stretches: bool
) -> Tensor:
    """A uniform rotation about a uniform axis and a uniform stretch.

    The result is (B, D, D) and acts on voxel coordinates.
    """
    dims = len(spacing_mm)
    direction = functional.normalize(noise.normal(num_rotations(dims)), dim=1)
    angle = noise.uniform(1) * math.radians(bounds.max_rotation_deg)
    stretch = noise.uniform(num_stretches(dims)) * bounds.max_log_stretch if stretches else None
    return linear_map(direction * angle, stretch, spacing_mm=spacing_mm)


def _expand_to_grid(vectors_BD: Tensor, size: Sequence[int]) -> Tensor:
    return vectors_BD.view(*vectors_BD.shape, *[1] * len(size)).expand(-1, -1, *size)
