"""Overlap, surface distances and volume of two masks, as MetricsReloaded and MONAI define them.

Masks are bool or integer arrays (z, y, x): zero is background, one other value is the object. The
surface of a mask is its 6-connected inner border, taken as voxel centres in mm. `convention` says
what lies beyond the volume. With "standard" it is background, so a mask that the volume cuts off
has border voxels there. With "chaos" it is more of the mask, so there is no border at the cut, as
in the CHAOS challenge's own evaluation.

Sources: Maier-Hein et al., Metrics reloaded, Nat Methods 2024; Nikolov et al. 2018 (surface Dice);
Kavur et al., CHAOS challenge, Med Image Anal 2021. See docs/metrics.md for a worked example and for
what other libraries do differently.
"""

# z y x axes, N border voxels of the prediction, M of the reference

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.masks import (
    BoolArray,
    FloatArray,
    require_mask,
    require_masks,
    require_spacing,
)
from nnunet_liver_ext.evaluation.surface import Convention, border_distances, find_borders

ROUNDING_MM = 1e-9  # a distance that equals the tolerance up to rounding is within it
ML_PER_MM3 = 1e-3


@dataclass(frozen=True)
class SurfaceDistances:
    """What all surface measures of two masks need, computed once by `surface_distances`.

    The order of the distances means nothing. If only one of the masks has a border, its distances
    are inf, and the other's array has no entries.
    """

    pred_to_ref_mm: FloatArray
    """Distance from each border voxel of the prediction to the reference's border, float64 (N,)."""
    ref_to_pred_mm: FloatArray
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
        if self._without_border is not None:
            return self._without_border
        return float(self.pooled_mm.mean())

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
    def pooled_mm(self) -> FloatArray:
        """The distances of both directions together, (N + M,)."""
        return np.concatenate([self.pred_to_ref_mm, self.ref_to_pred_mm])

    @property
    def _without_border(self) -> float | None:
        """The value of every distance if a border is missing: 0 if both are, inf if one is."""
        borders = (len(self.pred_to_ref_mm) > 0) + (len(self.ref_to_pred_mm) > 0)
        return (0.0, math.inf, None)[borders]


def dice(pred: npt.ArrayLike, ref: npt.ArrayLike) -> float:
    """Dice similarity coefficient 2·|P ∩ R| / (|P| + |R|) of prediction P and reference R.

    Args:
        pred: mask, bool or integer, any shape.
        ref: mask of the same shape.

    Returns:
        A number in 0..1. Both empty: 1; one empty: 0.

    Raises:
        InputError: the shapes differ, or an array is no mask.

    Example:
        >>> import numpy as np
        >>> import nnunet_liver_ext as nle
        >>> nle.dice(np.array([1, 1, 1, 0]), np.array([0, 0, 1, 0]))
        0.5
    """
    pred, ref = require_masks(pred, ref)
    total = int(np.count_nonzero(pred) + np.count_nonzero(ref))
    return 2 * int(np.count_nonzero(pred & ref)) / total if total else 1.0


def iou(pred: npt.ArrayLike, ref: npt.ArrayLike) -> float:
    """Intersection over union (Jaccard index) |P ∩ R| / |P ∪ R| of two masks.

    Arguments, range and errors are those of `dice`; so are the values of empty masks.
    """
    overlap = dice(pred, ref)
    return overlap / (2 - overlap)


def relative_volume_difference(pred: npt.ArrayLike, ref: npt.ArrayLike) -> float:
    """Relative volume difference 100·(|P| − |R|) / |R|; its absolute value is CHAOS's RAVD.

    Args:
        pred: mask, bool or integer, any shape.
        ref: mask of the same shape.

    Returns:
        Percent, −100 or more. Both empty: 0; only the reference empty: inf; only the prediction
        empty: −100.

    Raises:
        InputError: the shapes differ, or an array is no mask.
    """
    pred, ref = require_masks(pred, ref)
    pred_voxels, ref_voxels = int(np.count_nonzero(pred)), int(np.count_nonzero(ref))
    if ref_voxels == 0:
        return math.inf if pred_voxels else 0.0
    return 100 * (pred_voxels - ref_voxels) / ref_voxels


def surface_distances(
    pred: npt.ArrayLike,
    ref: npt.ArrayLike,
    spacing_mm: Sequence[float],
    *,
    convention: Convention = "standard",
) -> SurfaceDistances:
    """The distances between the borders of two masks, from which all surface measures follow.

    Args:
        pred: mask, bool or integer, (z, y, x).
        ref: mask of the same shape.
        spacing_mm: distance of neighbouring voxels in mm, (z, y, x).
        convention: "standard" or "chaos": what lies beyond the volume, see the module. With
            "chaos", a mask that fills the volume has no border: two such masks are 0 mm apart, and
            inf from any other.

    Returns:
        The distances of both directions. Both empty: none; one empty: inf for the other's border.

    Raises:
        InputError: the shapes differ or are not 3D, an array is no mask, the spacing is not three
            positive finite numbers, or the convention is unknown.
    """
    pred, ref = require_masks(pred, ref)
    spacing = require_spacing(spacing_mm)
    if pred.ndim != 3:
        raise InputError(f"surface distances need 3D masks (z, y, x), not {pred.shape}.")
    if convention not in get_args(Convention):
        raise InputError(
            f"convention must be one of {', '.join(get_args(Convention))}, not {convention!r}."
        )
    has_pred, has_ref = bool(pred.any()), bool(ref.any())
    if not (has_pred or has_ref):
        return SurfaceDistances(np.empty(0), np.empty(0))
    borders = find_borders(pred, ref, convention)
    if borders.pred.any() and borders.ref.any():
        return SurfaceDistances(*border_distances(borders, spacing))
    # A mask that fills the volume has no border in CHAOS's convention; against an empty one it
    # still counts as something.
    return SurfaceDistances(
        _infinite_distances(borders.pred, at_least=int(has_pred and not has_ref)),
        _infinite_distances(borders.ref, at_least=int(has_ref and not has_pred)),
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
    """Hausdorff distance, the larger of both directions' percentiles of the border's distances.

    max(Q(d(p, R)), Q(d(r, P))) over the border voxels p of P and r of R, where Q is the percentile.

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

    Example:
        >>> import numpy as np
        >>> import nnunet_liver_ext as nle
        >>> reference = np.pad(np.ones((3, 3, 3), bool), 2)
        >>> prediction = np.pad(np.ones((5, 5, 5), bool), 1)  # one voxel larger on every side
        >>> round(nle.hausdorff_distance(prediction, reference, spacing_mm=(1, 1, 1)), 3)
        1.732
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
    """Average symmetric surface distance (Σ d(p, R) + Σ d(r, P)) / (N + M).

    N border voxels p of the prediction P, M border voxels r of the reference R.

    Args:
        pred: mask, bool or integer, (z, y, x).
        ref: mask of the same shape.
        spacing_mm: distance of neighbouring voxels in mm, (z, y, x).
        convention: "standard" or "chaos": what lies beyond the volume, see the module.

    Returns:
        mm, 0 or more. Both empty: 0; one empty: inf.

    Raises:
        InputError: as `surface_distances`.

    Example:
        >>> import numpy as np
        >>> import nnunet_liver_ext as nle
        >>> reference = np.pad(np.ones((3, 3, 3), bool), 2)
        >>> prediction = np.pad(np.ones((5, 5, 5), bool), 1)  # one voxel larger on every side
        >>> round(nle.average_surface_distance(prediction, reference, spacing_mm=(1, 1, 1)), 3)
        1.167
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
    """Mean average surface distance (MASD) (Σ d(p, R) / N + Σ d(r, P) / M) / 2.

    Both directions count alike here, every border voxel in `average_surface_distance`. Arguments,
    range, errors and the values of empty masks are the same.
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
    """Surface Dice (normalised surface distance): the share of the borders within a tolerance.

    (|{p: d(p, R) ≤ τ}| + |{r: d(r, P) ≤ τ}|) / (N + M); every border voxel counts once.

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

    Example:
        >>> import numpy as np
        >>> import nnunet_liver_ext as nle
        >>> reference = np.pad(np.ones((3, 3, 3), bool), 2)
        >>> prediction = np.pad(np.ones((5, 5, 5), bool), 1)  # one voxel larger on every side
        >>> round(nle.surface_dice(prediction, reference, (1, 1, 1), tolerance_mm=1), 3)
        0.645
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

    Example:
        >>> import numpy as np
        >>> import nnunet_liver_ext as nle
        >>> nle.volume_ml(np.ones((10, 20, 20)), spacing_mm=(3, 1, 1))
        12.0
    """
    voxels = int(np.count_nonzero(require_mask(mask, "mask")))
    return voxels * math.prod(require_spacing(spacing_mm)) * ML_PER_MM3


def _infinite_distances(border: BoolArray, *, at_least: int) -> FloatArray:
    return np.full(max(int(np.count_nonzero(border)), at_least), math.inf)
