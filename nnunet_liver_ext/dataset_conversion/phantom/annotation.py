"""Annotations: the true mask with the errors that an annotator makes.

The border is moved to and fro by a smooth random field; in thick-sliced T2 also differently from
slice to slice, as happens when slices are outlined one by one.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from nnunet_liver_ext.dataset_conversion.phantom.randomness import smooth_field
from nnunet_liver_ext.space.components import largest_component

BORDER_SCALE_MM = 14.0
MARGIN_VOXELS = 5


def annotate(
    fraction: np.ndarray,
    spacing_mm: tuple[float, float, float],
    rng: np.random.Generator,
    *,
    border_mm: float,
    slice_mm: float = 0.0,
) -> np.ndarray:
    """A noisy mask from the fraction of each voxel that is liver.

    Args:
        fraction: (z, y, x), 0..1; above one half is the true mask.
        spacing_mm: (z, y, x).
        rng: where the errors come from.
        border_mm: standard deviation of the border's displacement, smooth in 3D.
        slice_mm: the same, independent from slice to slice.

    Returns:
        bool array (z, y, x).
    """
    mask = fraction > 0.5
    if not mask.any():
        return mask
    box = tuple(
        slice(max(part.start - MARGIN_VOXELS, 0), part.stop + MARGIN_VOXELS)
        for part in ndimage.find_objects(mask.astype(np.uint8))[0]
    )
    depth = _depth_mm(fraction[box], spacing_mm)
    depth += border_mm * smooth_field(depth.shape, spacing_mm, BORDER_SCALE_MM, rng)
    depth += slice_mm * smooth_field(
        depth.shape, spacing_mm, (spacing_mm[0], BORDER_SCALE_MM, BORDER_SCALE_MM), rng
    )
    noisy = np.zeros_like(mask)
    noisy[box] = largest_component(depth > 0, neighbours=6)
    return noisy


def _depth_mm(fraction: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    """Signed distance to the border, positive inside.

    Within a border voxel it follows the voxel's liver fraction.
    """
    half = 0.5 * min(spacing_mm)
    inside = fraction > 0.5
    depth = ndimage.distance_transform_edt(inside, spacing_mm) - ndimage.distance_transform_edt(
        ~inside, spacing_mm
    )
    depth -= half * np.sign(depth)
    partial = (fraction > 0.02) & (fraction < 0.98)
    return np.where(partial, (fraction - 0.5) * 2 * half, depth).astype(np.float32)
