"""Overlap, surface distances and volume of two masks: the definitions of MetricsReloaded and MONAI,
exactly and fast.

Masks are bool or integer arrays (z, y, x): zero is background, one other value the object. The
surface of a mask is its 6-connected inner border, taken as voxel centres in mm. `convention` says
what lies beyond the volume: background ("standard": a mask that the volume cuts off has border
voxels there), or more of the mask ("chaos": it has none, as in the CHAOS challenge's own
evaluation). Both masks empty: Dice 1, distances 0; one empty: Dice 0, distances inf.

Sources: Maier-Hein et al., Metrics reloaded, Nat Methods 2024; Nikolov et al. 2018 (surface Dice);
Kavur et al., CHAOS challenge, Med Image Anal 2021. See docs/metrics.md for a worked example and for
what other libraries do differently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.surface import Convention, Spacing, border_distances, borders

ROUNDING_MM = 1e-9  # a distance that equals the tolerance up to rounding is within it
ML_PER_MM3 = 1e-3


@dataclass(frozen=True)
class SurfaceDistances:
    """What all surface measures of two masks need, computed once by `surface_distances`.

    If only one of the masks has a border, its distances are inf and the other's array has no
    entries.
    """

    pred_to_ref_mm: np.ndarray
    """Distance from each border voxel of the prediction to the reference's border, float64 (N,), in
    no particular order."""
    ref_to_pred_mm: np.ndarray
    """Distance from each border voxel of the reference to the prediction's border, float64 (M,)."""

    def hausdorff_distance(self, *, percentile: float = 100, pooled: bool = False) -> float:
        """See the function `hausdorff_distance`."""
        if not (0 <= percentile <= 100):
            raise InputError(f"percentile must lie in 0..100, not {percentile}.")
        if self._without_border is not None:
            return self._without_border
        directed = [self.pooled_mm] if pooled else [self.pred_to_ref_mm, self.ref_to_pred_mm]
        return max(float(np.percentile(distances, percentile)) for distances in directed)

    def average_surface_distance(self) -> float:
        """See the function `average_surface_distance`."""
        return (
            float(self.pooled_mm.mean()) if self._without_border is None else self._without_border
        )

    def mean_average_surface_distance(self) -> float:
        """See the function `mean_average_surface_distance`."""
        if self._without_border is not None:
            return self._without_border
        return float((self.pred_to_ref_mm.mean() + self.ref_to_pred_mm.mean()) / 2)

    def surface_dice(self, tolerance_mm: float) -> float:
        """See the function `surface_dice`."""
        if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
            raise InputError(
                f"tolerance_mm must be a finite number of mm, 0 or more, not {tolerance_mm}."
            )
        if self._without_border is not None:
            return 1.0 if self._without_border == 0 else 0.0
        return float(np.mean(self.pooled_mm <= tolerance_mm + ROUNDING_MM))

    @property
    def pooled_mm(self) -> np.ndarray:
        """The distances of both directions together, (N + M,)."""
        return np.concatenate([self.pred_to_ref_mm, self.ref_to_pred_mm])

    @property
    def _without_border(self) -> float | None:
        """The value of every distance if a border is missing: 0 if both are, inf if one is."""
        present = (len(self.pred_to_ref_mm) > 0) + (len(self.ref_to_pred_mm) > 0)
        return (0.0, math.inf, None)[present]


def dice(pred: npt.ArrayLike, ref: npt.ArrayLike) -> float:
    """Dice similarity coefficient, 2·|P ∩ R| / (|P| + |R|).

    Args:
        pred: mask, bool or integer, any shape.
        ref: mask of the same shape.

    Returns:
        A number in 0..1. Both empty: 1; one empty: 0.

    Raises:
        InputError: the shapes differ, or an array is no mask.
    """
    pred, ref = checked_masks(pred, ref)
    total = np.count_nonzero(pred) + np.count_nonzero(ref)
    return 2 * np.count_nonzero(pred & ref) / total if total else 1.0


def iou(pred: npt.ArrayLike, ref: npt.ArrayLike) -> float:
    """Intersection over union (Jaccard index), |P ∩ R| / |P ∪ R|; arguments, range and errors as
    `dice`."""
    overlap = dice(pred, ref)
    return overlap / (2 - overlap)


def relative_volume_difference(pred: npt.ArrayLike, ref: npt.ArrayLike) -> float:
    """Relative volume difference in percent, 100·(|P| − |R|) / |R|; its absolute value is CHAOS's
    RAVD.

    Args:
        pred: mask, bool or integer, any shape.
        ref: mask of the same shape.

    Returns:
        −100 or more. Both empty: 0; only the reference empty: inf.

    Raises:
        InputError: the shapes differ, or an array is no mask.
    """
    pred, ref = checked_masks(pred, ref)
    own, expected = np.count_nonzero(pred), np.count_nonzero(ref)
    if expected == 0:
        return math.inf if own else 0.0
    return 100 * (own - expected) / expected


def surface_distances(
    pred: npt.ArrayLike,
    ref: npt.ArrayLike,
    spacing_mm: Sequence[float],
    *,
    convention: Convention = "standard",
) -> SurfaceDistances:
    """The distances between the borders of two masks; all surface measures follow from them without
    further search.

    Args:
        pred: mask, bool or integer, (z, y, x).
        ref: mask of the same shape.
        spacing_mm: distance of neighbouring voxels in mm, (z, y, x).
        convention: "standard" or "chaos": what lies beyond the volume, see the module. With
            "chaos", a mask that fills the volume has no border: two such masks are 0 mm apart, and
            inf from any other.

    Raises:
        InputError: the shapes differ or are not 3D, an array is no mask, the spacing is not three
            positive finite numbers, or the convention is unknown.
    """
    pred, ref = checked_masks(pred, ref)
    spacing = checked_spacing(spacing_mm)
    if pred.ndim != 3:
        raise InputError(f"surface distances need 3D masks (z, y, x), not {pred.shape}.")
    if convention not in get_args(Convention):
        raise InputError(
            f"convention must be one of {', '.join(get_args(Convention))}, not {convention!r}."
        )
    some_pred, some_ref = bool(pred.any()), bool(ref.any())
    if not (some_pred or some_ref):
        return SurfaceDistances(np.empty(0), np.empty(0))
    border = borders(pred, ref, convention)
    if border.pred.any() and border.ref.any():
        return SurfaceDistances(*border_distances(border, spacing))
    # A mask that fills the volume has no border in CHAOS's convention; against an empty one it
    # still counts as something.
    return SurfaceDistances(
        _endless(border.pred, at_least=int(some_pred and not some_ref)),
        _endless(border.ref, at_least=int(some_ref and not some_pred)),
    )


def hausdorff_distance(
    pred: npt.ArrayLike,
    ref: npt.ArrayLike,
    spacing_mm: Sequence[float],
    percentile: float = 100,
    *,
    pooled: bool = False,
    convention: Convention = "standard",
) -> float:
    """Hausdorff distance, max(Q(d(p, R)), Q(d(r, P))) over the border voxels p of P and r of R; Q
    is the percentile.

    Args:
        pred: mask, bool or integer, (z, y, x).
        ref: mask of the same shape.
        spacing_mm: distance of neighbouring voxels in mm, (z, y, x).
        percentile: 0..100, linear between ranks; 100 is the Hausdorff distance, 95 is HD95.
        pooled: the percentile of both directions' distances together, as medpy's `hd95`; one-sided
            outliers then count less.
        convention: "standard" or "chaos": what lies beyond the volume, see the module.

    Returns:
        mm, 0 or more. Both empty: 0; one empty: inf.

    Raises:
        InputError: as `surface_distances`, or a percentile outside 0..100.
    """
    distances = surface_distances(pred, ref, spacing_mm, convention=convention)
    return distances.hausdorff_distance(percentile=percentile, pooled=pooled)


def average_surface_distance(
    pred: npt.ArrayLike,
    ref: npt.ArrayLike,
    spacing_mm: Sequence[float],
    *,
    convention: Convention = "standard",
) -> float:
    """Average symmetric surface distance, (Σ d(p, R) + Σ d(r, P)) / (N + M) over the N and M border
    voxels.

    Args:
        pred: mask, bool or integer, (z, y, x).
        ref: mask of the same shape.
        spacing_mm: distance of neighbouring voxels in mm, (z, y, x).
        convention: "standard" or "chaos": what lies beyond the volume, see the module.

    Returns:
        mm, 0 or more. Both empty: 0; one empty: inf.

    Raises:
        InputError: as `surface_distances`.
    """
    return surface_distances(
        pred, ref, spacing_mm, convention=convention
    ).average_surface_distance()


def mean_average_surface_distance(
    pred: npt.ArrayLike,
    ref: npt.ArrayLike,
    spacing_mm: Sequence[float],
    *,
    convention: Convention = "standard",
) -> float:
    """Mean average surface distance (MASD), (Σ d(p, R) / N + Σ d(r, P) / M) / 2: both directions
    count alike.

    Args, range and errors as `average_surface_distance`, where every border voxel counts alike.
    """
    return surface_distances(
        pred, ref, spacing_mm, convention=convention
    ).mean_average_surface_distance()


def surface_dice(
    pred: npt.ArrayLike,
    ref: npt.ArrayLike,
    spacing_mm: Sequence[float],
    tolerance_mm: float,
    *,
    convention: Convention = "standard",
) -> float:
    """Surface Dice (normalised surface distance), the share of all border voxels within the
    tolerance of the other border.

    (|{p: d(p, R) ≤ τ}| + |{r: d(r, P) ≤ τ}|) / (N + M), every border voxel counting once.

    Args:
        pred: mask, bool or integer, (z, y, x).
        ref: mask of the same shape.
        spacing_mm: distance of neighbouring voxels in mm, (z, y, x).
        tolerance_mm: τ, finite, 0 or more.
        convention: "standard" or "chaos": what lies beyond the volume, see the module.

    Returns:
        A number in 0..1. Both empty: 1; one empty: 0.

    Raises:
        InputError: as `surface_distances`, or a negative or infinite tolerance.
    """
    return surface_distances(pred, ref, spacing_mm, convention=convention).surface_dice(
        tolerance_mm
    )


def volume_ml(mask: npt.ArrayLike, spacing_mm: Sequence[float]) -> float:
    """Volume in ml: the number of voxels times the volume of one.

    Args:
        mask: bool or integer, (z, y, x).
        spacing_mm: distance of neighbouring voxels in mm, (z, y, x).

    Returns:
        ml, 0 or more; 0 for an empty mask.

    Raises:
        InputError: the array is no mask, or the spacing is not three positive finite numbers.
    """
    return (
        np.count_nonzero(checked_mask(mask, "mask"))
        * math.prod(checked_spacing(spacing_mm))
        * ML_PER_MM3
    )


def _endless(border: np.ndarray, *, at_least: int) -> np.ndarray:
    return np.full(max(int(np.count_nonzero(border)), at_least), math.inf)


def checked_masks(pred: npt.ArrayLike, ref: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both masks as bool; InputError if one is no mask or their shapes differ."""
    pred, ref = checked_mask(pred, "pred"), checked_mask(ref, "ref")
    if pred.shape != ref.shape:
        raise InputError(f"pred and ref differ in shape: {pred.shape} and {ref.shape}.")
    return pred, ref


def checked_mask(values: npt.ArrayLike, name: str) -> np.ndarray:
    """The mask as bool; InputError if it is none."""
    array = np.asarray(values)
    if array.dtype == bool or array.size == 0:
        return array.astype(bool, copy=False)
    if array.dtype.kind in "iu":
        foreground = array != 0
        if array.min() < 0 or (
            foreground.any() and not np.array_equal(array == array.max(), foreground)
        ):
            raise InputError(
                f"{name} holds several labels ({array.min()}..{array.max()}): choose one, as in"
                f" {name} == 1."
            )
        return foreground
    if array.dtype.kind == "f":
        foreground = array == 1
        if np.array_equal(foreground, array != 0):
            return foreground
        raise InputError(
            f"{name} holds fractions such as {_first_fraction(array):.4g}: threshold it first."
        )
    raise InputError(f"{name} must be a bool or integer array, not {array.dtype}.")


def _first_fraction(values: np.ndarray) -> float:
    return float(values[(values != 0) & (values != 1)].flat[0])


def checked_spacing(spacing_mm: Sequence[float]) -> Spacing:
    """Three numbers; InputError if they are not positive and finite."""
    try:
        values = [float(value) for value in spacing_mm]
    except (TypeError, ValueError):
        values = []
    if len(values) != 3 or not all(math.isfinite(value) and value > 0 for value in values):
        raise InputError(
            f"spacing_mm must be three positive numbers (z, y, x) in mm, not {spacing_mm!r}."
        )
    return values[0], values[1], values[2]
