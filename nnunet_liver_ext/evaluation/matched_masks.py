"""What a metric is computed from: the mask of one class in a prediction, beside its reference."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nnunet_liver_ext.evaluation.metrics import (
    SurfaceDistances,
    dice,
    surface_distances,
    volume_ml,
)
from nnunet_liver_ext.evaluation.options import Options


@dataclass(frozen=True)
class MatchedMasks:
    """Both masks, and what several metrics need of them, computed once and only if it is asked for.

    Its properties raise InputError where the arrays are no two masks of one shape, or the spacing
    is not three positive numbers.
    """

    prediction: np.ndarray
    """Mask, bool (z, y, x)."""
    reference: np.ndarray
    """Mask of the same shape."""
    spacing_mm: tuple[float, float, float]
    """Distance of neighbouring voxels (z, y, x)."""
    options: Options
    """Tolerance and convention."""

    @cached_property
    def dice(self) -> float:
        """See `metrics.dice`."""
        return dice(self.prediction, self.reference)

    @cached_property
    def distances(self) -> SurfaceDistances:
        """The distances of each border from the other, beyond the volume as `options` say."""
        return surface_distances(
            self.prediction, self.reference, self.spacing_mm, convention=self.options.convention
        )

    @cached_property
    def prediction_ml(self) -> float:
        """The volume of the prediction."""
        return volume_ml(self.prediction, self.spacing_mm)

    @cached_property
    def reference_ml(self) -> float:
        """The volume of the reference."""
        return volume_ml(self.reference, self.spacing_mm)
