"""What a mean hides: cases far from the others, and masks that cannot be a liver.

Masks are bool or integer arrays (z, y, x), zero is background. A share is a number in 0..1, nan for
an empty mask. Left is the patient's left, where x of the scanner's coordinates (LPS) grows; a liver
lies mostly on the right. None of this needs a reference, and none of it proves anything: it says
which cases to look at first.

Source: Iglewicz & Hoaglin, How to Detect and Handle Outliers, ASQC 1993 (robust z). See
docs/metrics.md for worked examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.body import require_mask_on, x_mm
from nnunet_liver_ext.evaluation.lesion_maps import find_lesions
from nnunet_liver_ext.evaluation.masks import (
    FloatArray,
    require_masks,
    require_spacing,
    require_volume_mask,
)
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.metrics import ML_PER_MM3
from nnunet_liver_ext.space.grid import Grid

ROUNDING = 1e-9  # a spread below this part of the values is rounding
MEAN_DEVIATION_TO_STD = math.sqrt(math.pi / 2)  # 1.2533, of a normal distribution
ON_THE_MIDLINE_MM = 1e-6


@dataclass(frozen=True)
class Pieces:
    """The 26-connected pieces of a mask."""

    volumes_ml: tuple[float, ...]
    """Largest first."""

    @property
    def count(self) -> int:
        return len(self.volumes_ml)

    @property
    def share_outside_largest(self) -> float:
        """Share of the volume that is not connected with the largest piece; nan without pieces."""
        return 1 - self.volumes_ml[0] / math.fsum(self.volumes_ml) if self.volumes_ml else math.nan


def robust_z(values: npt.ArrayLike) -> FloatArray:
    """(x − median) / (1.4826·MAD): standard deviations from the others, if they are normal.

    MAD is the median absolute deviation from the median. Where it is 0, for more than half of the
    values are the same, the scale is 1.2533 times the mean absolute deviation from the median;
    where that is 0 as well, z is 0. Iglewicz & Hoaglin's 0.6745·(x − median) / MAD is the same
    number, and they call |z| > 3.5 an outlier. With fewer than about ten values it means little.

    Args:
        values: numbers (N,). Median and deviations are of the finite ones.

    Returns:
        float64 (N,); inf, −inf and nan stay what they are.
    """
    numbers = np.asarray(values, dtype=float)
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return numbers.copy()
    away = numbers - np.median(finite)
    scale = float(stats.median_abs_deviation(finite, scale="normal"))
    smallest = ROUNDING * float(np.abs(finite).max())
    if scale <= smallest:
        scale = MEAN_DEVIATION_TO_STD * float(np.abs(away[np.isfinite(away)]).mean())
    if scale <= smallest:
        return np.where(np.isfinite(numbers), 0.0, numbers)
    z: FloatArray = away / scale
    return z


def outliers(table: pd.DataFrame, metric: str = "dice", limit: float = 3.5) -> pd.DataFrame:
    """Cases far from the others of their modality and class, on the bad side; worst first.

    The bad side is below for a metric of which more is better, above where less is, and both for a
    difference or a volume (`Metric.better`). Infinite distances (an empty mask) are always listed,
    nan never.

    Args:
        table: a row for each value, with the columns case, modality, class, metric, value; others
            stay.
        metric: which one.
        limit: a row is listed if its robust z is beyond this; 3.5 as in Iglewicz & Hoaglin.

    Returns:
        Rows of the table with their index and a column `z` more.

    Raises:
        InputError: a column is missing, or the table does not have this metric.
    """
    missing = [
        name
        for name in ("case", "modality", "class", "metric", "value")
        if name not in table.columns
    ]
    if missing:
        raise InputError(
            f"a table of results needs the column {missing[0]}; it has"
            f" {', '.join(map(str, table.columns))}."
        )
    rows = table[table["metric"] == metric]
    if rows.empty:
        raise InputError(
            f"the table has no {metric!r}; its metrics are"
            f" {', '.join(map(str, table['metric'].unique()))}."
        )
    z = (
        rows.groupby(["modality", "class"], sort=False, dropna=False)["value"]
        .transform(robust_z)
        .to_numpy(float)
    )
    better = METRICS[metric].better if metric in METRICS else None
    badness = {"higher": -z, "lower": z}.get(better or "", np.abs(z))
    order = np.argsort(-badness, kind="stable")
    listed: pd.DataFrame = rows.assign(z=z).iloc[order[badness[order] > limit]]
    return listed


def pieces(mask: npt.ArrayLike, spacing_mm: Sequence[float]) -> Pieces:
    """The pieces of a mask; voxels that share a face, an edge or a corner are of one piece.

    Args:
        mask: bool or integer, (z, y, x).
        spacing_mm: distance of neighbouring voxels in mm, (z, y, x).

    Raises:
        InputError: the array is no 3D mask, or the spacing is not three positive finite numbers.
    """
    values, spacing = require_volume_mask(mask, "mask"), require_spacing(spacing_mm)
    voxels = np.bincount(find_lesions(values).ravel())[1:]
    return Pieces(tuple(float(n) * math.prod(spacing) * ML_PER_MM3 for n in np.sort(voxels)[::-1]))


def left_share(mask: npt.ArrayLike, grid: Grid, *, midline_mm: float | None = None) -> float:
    """Share of the mask's volume on the patient's left of the midline.

    A voxel counts where its centre is, half if it is on the midline. The plane is sagittal in the
    scanner's coordinates, whatever the grid's orientation. The livers looked at have 0 to 0.2; one
    that was flipped has 1 minus that.

    Args:
        mask: bool or integer, (z, y, x).
        grid: of the mask; its direction must be right, which a file without orientation does not
            have.
        midline_mm: x of the midline in LPS, such as `body.midline_mm`'s; default: the centre of the
            grid.

    Returns:
        0..1; nan for an empty mask.

    Raises:
        InputError: the array is no mask on this grid, or the midline is not finite.
    """
    values = require_mask_on(mask, grid)
    midline = float(grid.corners()[:, 0].mean()) if midline_mm is None else midline_mm
    if not math.isfinite(midline):
        raise InputError(f"midline_mm must be a finite number of mm, not {midline}.")
    if not values.any():
        return math.nan
    beside_mm = x_mm(values, grid) - midline
    return float(np.mean(np.where(np.abs(beside_mm) <= ON_THE_MIDLINE_MM, 0.5, beside_mm > 0)))


def is_left(mask: npt.ArrayLike, grid: Grid, *, midline_mm: float | None = None) -> bool:
    """Whether more than half of the mask is on the patient's left; False for an empty mask.

    A liver is there in situs inversus only. See `left_share` for the arguments.
    """
    return left_share(mask, grid, midline_mm=midline_mm) > 0.5


def outside_body_share(mask: npt.ArrayLike, body: npt.ArrayLike) -> float:
    """Share of the mask's volume outside the body: 0 for any mask that makes sense.

    Args:
        mask: bool or integer, any shape.
        body: mask of the same shape, such as `body_mask`'s.

    Returns:
        0..1; nan for an empty mask.

    Raises:
        InputError: the shapes differ, or an array is no mask.
    """
    inside, outline = require_masks(mask, body)
    total = np.count_nonzero(inside)
    return np.count_nonzero(inside & ~outline) / total if total else math.nan
