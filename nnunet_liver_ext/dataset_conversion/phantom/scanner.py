"""A scanner: what is on the canvas as image, masks and labels on one grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.phantom.acquisition import acquire
from nnunet_liver_ext.dataset_conversion.phantom.annotation import annotate
from nnunet_liver_ext.dataset_conversion.phantom.contrast import add_bias_field, add_rician_noise
from nnunet_liver_ext.space.images import Grid, image_like

UNIT = 1000  # signal 1 becomes this number in the images


@dataclass(frozen=True)
class Scanner:
    """Puts what is on the canvas onto one image's grid."""

    canvas: Grid
    grid: Grid
    transform: sitk.Transform | None
    subslices: int

    def image(
        self, signal: np.ndarray, rng: np.random.Generator, noise: float, bias: float
    ) -> sitk.Image:
        values = acquire(
            image_like(signal, self.canvas), self.grid, self.transform, subslices=self.subslices
        )
        values = add_rician_noise(
            add_bias_field(values, self.grid.spacing_mm, rng, bias), rng, noise
        )
        return image_like(np.rint(UNIT * values).astype(np.int16), self.grid)

    def masks(
        self, mask: np.ndarray, rng: np.random.Generator, border_mm: float, slice_mm: float
    ) -> tuple[sitk.Image, sitk.Image]:
        """(annotated, true)."""
        volume = image_like(mask.astype(np.float32), self.canvas)
        fraction = acquire(volume, self.grid, self.transform, subslices=self.subslices)
        noisy = annotate(
            fraction, self.grid.spacing_mm, rng, border_mm=border_mm, slice_mm=slice_mm
        )
        return image_like(noisy, self.grid), image_like(fraction > 0.5, self.grid)

    def labels(self, labels: np.ndarray) -> sitk.Image:
        """Nearest label at each voxel's centre."""
        onto, transform = self.grid.empty_image(), self.transform or sitk.Transform()
        return sitk.Resample(
            image_like(labels, self.canvas),
            onto,
            transform,
            sitk.sitkNearestNeighbor,
            0,
            sitk.sitkUInt8,
        )
