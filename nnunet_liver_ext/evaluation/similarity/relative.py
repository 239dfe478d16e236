"""Relative similarity of two masks: how well they agree after the best transform of a class.

    D_S(s1, s2, Ω) = max over τ in Ω of Dice(τ(s1), s2)

Couteaux et al. 2021, "Cooperating networks", section 3. For whole-voxel translations the maximum is
exact. For the other classes it is what a search finds, hence a lower bound. Each class begins with
the best of the smaller ones, and so identity ≤ translation ≤ rigid ≤ affine and translation ≤
elastic always hold. An elastic field need not be invertible: `RelativeSimilarity.folded_share` says
how much of it is not.

Masks that are empty or fill their volume are excluded: every transform would do, and two empty
masks are not similar.
"""

# D spatial axes (2 or 3), ... the axes themselves

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.masks import BoolArray
from nnunet_liver_ext.evaluation.metrics import dice
from nnunet_liver_ext.evaluation.similarity.affine import (
    affine_generators,
    affine_starts,
    fit_affine,
    rigid_starts,
    rotation_generators,
    shift_generators,
)
from nnunet_liver_ext.evaluation.similarity.elastic import fit_elastic
from nnunet_liver_ext.evaluation.similarity.shift import best_shift, shift_mask
from nnunet_liver_ext.evaluation.similarity.transforms import AffineMap, MaskPair, Transform
from nnunet_liver_ext.transform_classes import TRANSFORMS, Transforms
from nnunet_liver_ext.workers import limit_threads

DEFAULT_MAX_SHIFT_MM = 50.0  # more than breathing and a patient who moves between two scans


@dataclass(frozen=True)
class RelativeSimilarity:
    """The best transform that was found, and what it does."""

    dice: float
    """D_S, 0..1; nan if the masks are excluded."""
    warped: BoolArray
    """Mask 1 moved onto mask 2's grid."""
    transform: Transform
    shift_voxels: tuple[int, ...]
    """The best whole-voxel shift of mask 1, towards higher coordinates; all classes begin there."""
    excluded: str = ""
    """Why there is no value, such as "mask 1 is empty" or "mask 2 fills the volume"."""

    @cached_property
    def displacement(self) -> npt.NDArray[np.float32]:
        """u in voxels, (D, ...): warped(p) = mask_1(p + u(p)) ≥ ½, interpolated, zero outside."""
        volume = tuple(slice(0, n) for n in self.warped.shape)
        displacement: npt.NDArray[np.float32] = self.transform.displacement(volume)[0].cpu().numpy()
        return displacement

    @cached_property
    def folded_share(self) -> float:
        """Share of the volume, 0..1, where the map cannot be inverted: det(1 + ∇u) ≤ 0."""
        u = self.displacement
        steep = [axis for axis, n in enumerate(u.shape[1:]) if n > 1]
        gradient = np.zeros((*u.shape[1:], len(u), len(u)), np.float32)
        for axis in steep:
            gradient[..., axis] = np.moveaxis(np.gradient(u, axis=axis + 1), 0, -1)
        return float(np.mean(np.linalg.det(gradient + np.eye(len(u), dtype=np.float32)) <= 0))


def relative_similarity(
    mask_1: npt.ArrayLike,
    mask_2: npt.ArrayLike,
    spacing_mm: Sequence[float],
    transforms: Transforms = "elastic",
    *,
    max_shift_mm: float = DEFAULT_MAX_SHIFT_MM,
    subvoxel: bool = False,
    device: torch.device | str = "cpu",
) -> RelativeSimilarity:
    """D_S(mask 1, mask 2, Ω) = max over τ in Ω of Dice(τ(mask 1), mask 2).

    Args:
        mask_1: bool or integer, (z, y, x) or (y, x): zero and one. It is the one that moves.
        mask_2: mask of the same shape, on the same grid.
        spacing_mm: distance of neighbouring voxels, in the order of the axes.
        transforms: Ω. "translation": all shifts by whole voxels within the bound. "rigid":
            rotations (in mm) and shifts. "affine": all affine maps that keep orientation.
            "elastic": displacement vectors 16 voxels apart, linearly interpolated.
        max_shift_mm: bound of the shifts that are tried along each axis, rounded down to whole
            voxels. The other classes begin with the best of them and are not bounded.
        subvoxel: with "translation": try fractions of a voxel near the best shift, too.
        device: where to fit; the shift is found on the CPU.

    Returns:
        The highest Dice that was found, with its transform. What a transform moves out of the
        volume is lost and counts in no sum. If either mask, or both, are empty or fill the volume:
        nan, the identity as the transform, and the reason in `excluded`.

    Raises:
        InputError: the shapes differ or are not 2D or 3D, an array is no mask, a number is out of
            range, or Ω is unknown.

    Example:
        >>> import numpy as np
        >>> import nnunet_liver_ext as nle
        >>> mask = np.zeros((12, 16, 16), bool)
        >>> mask[2:6, 3:9, 3:9] = True
        >>> moved = np.roll(mask, (3, 2), axis=(0, 1))
        >>> similarity = nle.relative_similarity(mask, moved, (3, 1.5, 1.5), "translation")
        >>> similarity.dice, similarity.shift_voxels
        (1.0, (3, 2, 0))
    """
    first, second = _require_mask(mask_1, "mask_1"), _require_mask(mask_2, "mask_2")
    _check_arguments(first, second, spacing_mm, transforms, max_shift_mm)
    if reason := _reason_to_exclude(first, second):
        stay = (0,) * first.ndim
        return RelativeSimilarity(math.nan, first, AffineMap.of_shift(stay), stay, reason)
    bound = [
        min(math.floor(max_shift_mm / mm + 1e-9), n - 1)
        for mm, n in zip(spacing_mm, first.shape, strict=True)
    ]
    shift = best_shift(first, second, bound, spacing_mm)
    masks = MaskPair(first, second, torch.device(device))
    moved = shift_mask(first, shift)
    best = RelativeSimilarity(
        dice(moved, second), moved, AffineMap.of_shift(shift, masks.device), shift
    )
    if best.dice == 1 or (transforms == "translation" and not subvoxel):
        return best
    # only borders are fitted: tensors so small that threads wait longer than they work
    with torch.no_grad(), limit_threads(1):
        return _choose_best(best, masks, _fit(masks, spacing_mm, shift, transforms))


def _fit(
    masks: MaskPair, spacing_mm: Sequence[float], shift: Sequence[int], transforms: Transforms
) -> Sequence[Transform]:
    """Candidates for the best transform of a class, found from the best shift on."""
    if transforms == "elastic":
        return fit_elastic(masks, spacing_mm, shift)
    dims = masks.mask_1.ndim
    start = AffineMap.of_shift(shift, masks.device)
    if transforms == "translation":
        return fit_affine(masks, spacing_mm, shift, [start], shift_generators(dims))
    starts = [start, *rigid_starts(masks, spacing_mm)]
    rigid = fit_affine(masks, spacing_mm, shift, starts, rotation_generators(dims))
    if transforms == "rigid":
        return rigid
    starts = [start, *rigid[-1:], *affine_starts(masks, spacing_mm)]
    return rigid + fit_affine(masks, spacing_mm, shift, starts, affine_generators(dims))


def _choose_best(
    best: RelativeSimilarity, masks: MaskPair, candidates: Iterable[Transform]
) -> RelativeSimilarity:
    """The best of what was known and of the candidates, by the Dice of the masks not blurred."""
    for candidate in candidates:
        moved = masks.warp(candidate)
        if moved.dice > best.dice:
            warped = moved.fill_volume(masks.mask_1.shape)
            best = replace(best, dice=moved.dice, transform=candidate, warped=warped)
    return best


def _reason_to_exclude(mask_1: BoolArray, mask_2: BoolArray) -> str:
    for name, mask in (("mask 1", mask_1), ("mask 2", mask_2)):
        if not mask.any():
            return f"{name} is empty"
        if mask.all():
            return f"{name} fills the volume"
    return ""


def _require_mask(values: npt.ArrayLike, name: str) -> BoolArray:
    array = np.asarray(values)
    if array.dtype.kind not in "biu":
        raise InputError(f"{name} must be a bool or integer array, not {array.dtype}.")
    if array.dtype != bool and array.size and (array.min() < 0 or array.max() > 1):
        raise InputError(
            f"{name} must hold zeros and ones, it holds {array.min()}..{array.max()}: choose one"
            " label."
        )
    return np.ascontiguousarray(array.astype(bool, copy=False))


def _check_arguments(
    mask_1: BoolArray,
    mask_2: BoolArray,
    spacing_mm: Sequence[float],
    transforms: str,
    max_shift_mm: float,
) -> None:
    if mask_1.shape != mask_2.shape:
        raise InputError(
            f"mask_1 and mask_2 differ in shape: {mask_1.shape} and {mask_2.shape}; put them on one"
            " grid."
        )
    if mask_1.ndim not in (2, 3):
        raise InputError(f"the masks must have two or three axes, not {mask_1.ndim}.")
    if transforms not in TRANSFORMS:
        raise InputError(f"transforms must be one of {', '.join(TRANSFORMS)}, not {transforms!r}.")
    if len(spacing_mm) != mask_1.ndim or not all(math.isfinite(mm) and mm > 0 for mm in spacing_mm):
        raise InputError(
            f"spacing_mm must be {mask_1.ndim} positive numbers in mm, not {spacing_mm!r}."
        )
    if not (math.isfinite(max_shift_mm) and max_shift_mm >= 0):
        raise InputError(f"max_shift_mm must be a number of mm, 0 or more, not {max_shift_mm}.")
