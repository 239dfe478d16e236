"""A pair from ONE real image and its liver mask: the image is T1, a T2 is made from it.

The T2 has another contrast (a random, smooth, non-monotonic curve over the image's intensities,
which knows no organs), thick slices, its own slightly oblique grid, a breathing deformation, noise,
and its own noisier annotation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.interpolate import PchipInterpolator

from nnunet_liver_ext.dataset_conversion.phantom import breathing
from nnunet_liver_ext.dataset_conversion.phantom.acquisition import acquire, grid_around
from nnunet_liver_ext.dataset_conversion.phantom.annotation import annotate
from nnunet_liver_ext.dataset_conversion.phantom.contrast import add_bias_field, add_rician_noise
from nnunet_liver_ext.dataset_conversion.phantom.pair import PhantomPair
from nnunet_liver_ext.dataset_conversion.phantom.randomness import generator
from nnunet_liver_ext.dataset_conversion.phantom.scanner import UNIT
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid, array, image_like

DENOISING_STEPS = 5
MAX_SHIFT_OF_EXTENT = (
    0.15  # a low stack of slices is moved less, or the pair would share no anatomy
)
MIN_SLICES = 4
ANNOTATION_MM = 1.2
SLICE_MM = 0.8
NOISE = 0.02
BIAS = 0.12
TILT_DEGREES = 4.0
SAME_PLACE_VOXELS = 1.0


def pair_from_image(
    image: sitk.Image,
    mask: sitk.Image,
    seed: int,
    *,
    liver_label: int | None = None,
    slice_mm: float = 7.0,
    dome_mm: tuple[float, float] = (6.0, 28.0),
) -> PhantomPair:
    """A pair whose T1 is `image` itself and whose T2 is made from it, the same bits for a seed.

    Args:
        image: 3D, any orientation and intensities (huge ones of scl_slope, RAS, CT numbers).
        mask: the liver on the image's grid. A mask of the same size that is less than a voxel away
            (written with a qform only, say) takes over the image's geometry.
        seed: of motion, contrast, noise and annotation; not negative.
        liver_label: the liver's number in `mask`; by default everything above 0 is liver.
        slice_mm: slice thickness of T2, 1..20.
        dome_mm: range of the breathing amplitude at the dome; at most 15 % of the image's height is
            used.

    Returns:
        A pair without lesions, water and fat; `t1_true_mask` is `t1_mask`.

    Raises:
        InputError: the mask lies on another grid or holds no liver, or a number is out of range.
    """
    if seed < 0 or not 1 <= slice_mm <= 20:
        raise InputError(
            f"seed must not be negative and slice_mm must lie in 1..20, they are {seed} and"
            f" {slice_mm}."
        )
    liver = _put_liver_on_grid(image, mask, liver_label)
    body = _body_mask(image)
    grid = Grid.from_image(image)
    landmarks = _landmarks(grid, body, array(liver) > 0)
    motion = _draw_motion(grid, dome_mm, seed)
    field = breathing.displacement_field(grid, landmarks, motion, generator(seed, "elastic"))
    target = _t2_grid(grid, motion.dome_mm, slice_mm, generator(seed, "planning"))
    scan = _Scan(target, breathing.to_transform(field))
    t2 = scan.image(
        _second_contrast(image, body, array(liver) > 0, generator(seed, "contrast")),
        generator(seed, "scan"),
    )
    fraction = acquire(sitk.Cast(liver, sitk.sitkFloat32), target, scan.transform)
    noisy = annotate(
        fraction,
        target.spacing_mm,
        generator(seed, "annotation"),
        border_mm=ANNOTATION_MM,
        slice_mm=SLICE_MM,
    )
    return PhantomPair(
        t1=image,
        t2=t2,
        t1_mask=liver,
        t2_mask=image_like(noisy, target),
        t1_true_mask=liver,
        t2_true_mask=image_like(fraction > 0.5, target),
        deformation=field,
        motion=motion,
        t1_lesions=grid.empty_image(),
        t2_lesions=target.empty_image(),
    )


def _draw_motion(grid: Grid, dome_mm: tuple[float, float], seed: int) -> breathing.Motion:
    """A motion whose amplitude is at most a share of the image's height."""
    low, high = grid.corners()[:, 2].min(), grid.corners()[:, 2].max()
    limit = MAX_SHIFT_OF_EXTENT * float(high - low)
    amplitude = (min(dome_mm[0], limit), min(dome_mm[1], limit))
    return breathing.sample_motion(
        generator(seed, "motion"), dome_mm=amplitude, elastic_mm=1.2, shift_mm=2.0
    )


@dataclass(frozen=True)
class _Scan:
    grid: Grid
    transform: sitk.Transform

    def image(self, contrast: sitk.Image, rng: np.random.Generator) -> sitk.Image:
        values = acquire(contrast, self.grid, self.transform)
        values = add_rician_noise(
            add_bias_field(values, self.grid.spacing_mm, rng, BIAS), rng, NOISE
        )
        return image_like(np.rint(UNIT * values).astype(np.int16), self.grid)


def _put_liver_on_grid(image: sitk.Image, mask: sitk.Image, liver_label: int | None) -> sitk.Image:
    grid, mask_grid = Grid.from_image(image), Grid.from_image(mask)
    if not grid.matches(mask_grid, tolerance=SAME_PLACE_VOXELS):
        raise InputError(
            f"the mask ({mask_grid}) lies on another grid than its image ({grid}); resample it"
            " first."
        )
    labels = array(mask)
    liver = labels > 0 if liver_label is None else labels == liver_label
    if not liver.any():
        present = ", ".join(str(value) for value in np.unique(labels)[:20])
        raise InputError(
            f"the mask holds no liver (label {liver_label or '> 0'}); its labels are {present}."
        )
    return image_like(liver, grid)


def _body_mask(image: sitk.Image) -> np.ndarray:
    """True where the image is brighter than air."""
    values = array(image).astype(np.float32)
    low, high = np.percentile(values, (1, 99))
    return values > low + 0.12 * (high - low)


def _landmarks(grid: Grid, body: np.ndarray, liver: np.ndarray) -> breathing.Landmarks:
    """The trunk's middle and radii by the body, and the dome by the liver's highest voxels."""
    x, y, _ = _positions(grid, body)
    (left, right), (front, back) = (np.percentile(values, (1, 99)) for values in (x, y))
    dome = float(np.percentile(_positions(grid, liver)[2], 99.8))
    radii = (float(max(right - left, 50) / 2), float(max(back - front, 50) / 2))
    return breathing.Landmarks(dome, (float(left + right) / 2, float(front + back) / 2), radii)


def _positions(grid: Grid, where: np.ndarray) -> np.ndarray:
    """Scanner coordinates (3, n) in mm of the true voxels of a (z, y, x) mask."""
    index = np.stack(np.nonzero(where))[::-1]
    axes = np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing)
    return axes @ index + np.array(grid.origin)[:, None]


def _t2_grid(grid: Grid, dome_mm: float, slice_mm: float, rng: np.random.Generator) -> Grid:
    """Axial slices, a little oblique and finer in-plane, over what stays in the image's extent."""
    low, high = grid.corners().min(0), grid.corners().max(0)
    in_plane = float(np.clip(0.85 * min(grid.spacing), 0.7, 3.0))
    extent = high - low - np.array([0, 0, abs(dome_mm)])
    slices = max(MIN_SLICES, int(extent[2] / slice_mm))
    centre = (low + high) / 2 + (*rng.uniform(-5, 5, 2), 0.5 * dome_mm)
    tilt = rng.uniform(-TILT_DEGREES, TILT_DEGREES, 3) * min(1.0, extent[2] / 150)
    size = (int(extent[0] / in_plane), int(extent[1] / in_plane), slices)
    return grid_around(tuple(centre), size, (in_plane, in_plane, slice_mm), tuple(tilt))


def _second_contrast(
    image: sitk.Image, body: np.ndarray, liver: np.ndarray, rng: np.random.Generator
) -> sitk.Image:
    """Intensities through a random curve: air stays 0, the liver becomes rather dark."""
    values = array(
        sitk.CurvatureFlow(sitk.Cast(image, sitk.sitkFloat32), 0.06, DENOISING_STEPS)
    ).astype(np.float64)
    low, high = (float(value) for value in np.quantile(values[body], (0.01, 0.995)))
    curve = _random_curve(low, high, values[liver], rng)
    air = float(np.percentile(values, 1))
    fade = np.clip((values - air) / max(low - air, 1e-9), 0, 1) ** 2
    return image_like(
        (fade * curve(np.clip(values, low, high))).astype(np.float32), Grid.from_image(image)
    )


def _random_curve(
    low: float, high: float, liver: np.ndarray, rng: np.random.Generator
) -> PchipInterpolator:
    """A smooth curve from intensities low..high to signals 0..1 that turns at least once.

    Its nodes are the ends, the liver's median, and one step of 3.5 (robust) standard deviations to
    either side of it, so that what looks almost like the liver differs from it after the remapping
    as well.
    """
    middle = float(np.clip(np.median(liver), low + 0.1 * (high - low), high - 0.1 * (high - low)))
    spread = 1.48 * float(np.median(np.abs(liver - np.median(liver))))
    step = max(3.5 * spread, 0.04 * (high - low))
    down, up = min(step, 0.6 * (middle - low)), min(step, 0.6 * (high - middle))
    nodes = [low, middle - down, middle, middle + up, high]
    dark = rng.uniform(0.22, 0.35)
    above = dark + rng.uniform(0.3, 0.55)
    valley = (
        down == step and rng.random() < 0.6
    )  # the liver darker than what is on either side of it
    if valley:
        heights = [
            rng.uniform(0.1, 0.45),
            dark + rng.uniform(0.3, 0.55),
            dark,
            above,
            above + rng.choice((-0.35, 0.1)),
        ]
    else:
        heights = [rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.6) * dark, dark, above, above - 0.35]
    return PchipInterpolator(nodes, heights)
