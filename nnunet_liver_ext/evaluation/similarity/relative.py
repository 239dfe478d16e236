"""Relative similarity of two masks (Couteaux et al. 2021, "Cooperating networks", section 3): how
well does one lie on the other once the best transform of a class has moved it?

    D_S(s1, s2, Ω) = max over τ in Ω of Dice(τ(s1), s2)

For whole-voxel translations the maximum is exact. For the other classes it is what a search finds,
so a lower bound; each class begins with the best of the smaller ones, and so identity ≤ translation
≤ rigid ≤ affine and translation ≤ elastic hold always. An elastic field is not asked to be
invertible: `Similarity.folded` says where it is not.

Masks that are empty or fill their volume are excluded: every transform would do, and two empty
masks are not similar.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.similarity.affine import (
    affine_starts,
    all_linear,
    fitted,
    no_linear,
    rigid_starts,
    rotations,
)
from nnunet_liver_ext.evaluation.similarity.elastic import elastic_fit
from nnunet_liver_ext.evaluation.similarity.shift import best_shift, shifted
from nnunet_liver_ext.evaluation.similarity.transforms import AffineMap, MaskPair, Transform
from nnunet_liver_ext.transform_classes import TRANSFORMS, Transforms
from nnunet_liver_ext.workers import limit_threads

DEFAULT_MAX_SHIFT_MM = 50.0  # more than breathing and a patient who moves between two scans


@dataclass(frozen=True)
class Similarity:
    """The best transform that was found, and what it does."""

    dice: float
    """D_S, 0..1; nan if the pair is excluded."""
    warped: np.ndarray
    """Mask 1 moved onto mask 2's grid, bool."""
    transform: Transform
    shift_voxels: tuple[int, ...]
    """The best whole-voxel shift, by which mask 1 moves towards higher coordinates; all classes
    begin there."""
    excluded: str = ""
    """Why there is no value: "mask 1 is empty", "mask 2 fills the volume"."""

    @cached_property
    def displacement(self) -> np.ndarray:
        """u in voxels, (D, ...) float32: warped(p) = mask_1(p + u(p)) ≥ ½, zero outside, linearly
        interpolated."""
        return (
            self.transform.displacement(tuple(slice(0, n) for n in self.warped.shape))[0]
            .cpu()
            .numpy()
        )

    @cached_property
    def folded(self) -> float:
        """Share of the volume, 0..1, where det(1 + ∇u) is not positive: the map cannot be inverted
        there."""
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
) -> Similarity:
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
        volume is lost and counts in no sum. nan and no transform (`excluded`) if a mask is empty or
        fills the volume.

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
    first, second = _mask(mask_1, "mask_1"), _mask(mask_2, "mask_2")
    _check(first, second, spacing_mm, transforms, max_shift_mm)
    identity = AffineMap.of_shift([0] * first.ndim)
    if reason := _why_excluded(first, second):
        return Similarity(math.nan, first, identity, (0,) * first.ndim, reason)
    bound = [
        min(math.floor(max_shift_mm / mm + 1e-9), n - 1)
        for mm, n in zip(spacing_mm, first.shape, strict=True)
    ]
    shift = best_shift(first, second, bound, spacing_mm)
    masks = MaskPair(first, second, torch.device(device))
    moved = shifted(first, shift)
    dice = (
        2
        * int(np.count_nonzero(moved & second))
        / int(np.count_nonzero(moved) + np.count_nonzero(second))
    )
    best = Similarity(dice, moved, AffineMap.of_shift(shift, masks.device), shift)
    # only borders are fitted: tensors so small that threads wait longer than they work
    with torch.no_grad(), limit_threads(1):
        return _searched(best, masks, spacing_mm, transforms, subvoxel)


def _searched(
    best: Similarity,
    masks: MaskPair,
    spacing_mm: Sequence[float],
    transforms: Transforms,
    subvoxel: bool,
) -> Similarity:
    """The best of a class, beginning with the best shift."""
    if best.dice == 1:
        return best
    shift, dims = best.shift_voxels, masks.mask_1.ndim
    if transforms == "elastic":
        return _better(best, masks, elastic_fit(masks, spacing_mm, shift))
    start = AffineMap.of_shift(shift, masks.device)
    if transforms == "translation":
        return _better(
            best,
            masks,
            fitted(masks, spacing_mm, shift, [start], no_linear(dims)) if subvoxel else [],
        )
    found = fitted(
        masks, spacing_mm, shift, [start, *rigid_starts(masks, spacing_mm)], rotations(dims)
    )
    if transforms == "affine":
        starts = [start, *found[-1:], *affine_starts(masks, spacing_mm)]
        found += fitted(masks, spacing_mm, shift, starts, all_linear(dims))
    return _better(best, masks, found)


def _better(best: Similarity, masks: MaskPair, candidates: Iterable[Transform]) -> Similarity:
    """The best of what was known and of the candidates, by the Dice of the masks as they are, not
    blurred."""
    for candidate in candidates:
        moved = masks.warped(candidate)
        if moved.dice > best.dice:
            best = replace(
                best, dice=moved.dice, transform=candidate, warped=moved.mask(masks.mask_1.shape)
            )
    return best


def _why_excluded(mask_1: np.ndarray, mask_2: np.ndarray) -> str:
    for name, mask in (("mask 1", mask_1), ("mask 2", mask_2)):
        if not mask.any():
            return f"{name} is empty"
        if mask.all():
            return f"{name} fills the volume"
    return ""


def _mask(values: npt.ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "biu":
        raise InputError(f"{name} must be a bool or integer array, not {array.dtype}.")
    if array.dtype != bool and array.size and (array.min() < 0 or array.max() > 1):
        raise InputError(
            f"{name} must hold zeros and ones, it holds {array.min()}..{array.max()}: choose one"
            " label."
        )
    return np.ascontiguousarray(array.astype(bool, copy=False))


def _check(
    mask_1: np.ndarray,
    mask_2: np.ndarray,
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
