"""A synthetic pair: one patient's abdomen, scanned in T1 and in T2 while breathing differently."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.phantom import breathing
from nnunet_liver_ext.dataset_conversion.phantom.acquisition import grid_around
from nnunet_liver_ext.dataset_conversion.phantom.body import (
    CAVITY_CENTRE_Y_MM,
    CAVITY_RADII_MM,
    SKIN_MM,
    WALL_MM,
    paint_body,
)
from nnunet_liver_ext.dataset_conversion.phantom.canvas import Canvas
from nnunet_liver_ext.dataset_conversion.phantom.contrast import (
    Signals,
    tissue_signals,
)
from nnunet_liver_ext.dataset_conversion.phantom.liver import Liver, LiverShape, paint_liver
from nnunet_liver_ext.dataset_conversion.phantom.organs import paint_organs
from nnunet_liver_ext.dataset_conversion.phantom.randomness import generator
from nnunet_liver_ext.dataset_conversion.phantom.scan_protocols import (
    Difficulty,
    ScanProtocol,
    choose_protocol,
)
from nnunet_liver_ext.dataset_conversion.phantom.scanner import Scanner
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.fat_fraction import fat_fraction_percent
from nnunet_liver_ext.space.images import Grid, image_like

MAX_LESIONS = 20
FIELD_MARGIN_MM = 62.0  # canvas beyond the fields of view: breathing, tilt, planning


@dataclass(frozen=True)
class PhantomPair:
    """Two images of one patient on two grids, and what is known about them.

    Masks and labels are uint8 images.
    """

    t1: sitk.Image
    t2: sitk.Image
    t1_mask: sitk.Image
    """1 where an annotator sees the liver (vessels and lesions included), with the annotator's
    errors."""
    t2_mask: sitk.Image
    t1_true_mask: sitk.Image
    """1 where more than half of the voxel is liver."""
    t2_true_mask: sitk.Image
    deformation: sitk.Image
    """Displacements u in mm (vectors of float64, LPS): the point p of T2 shows what is at p + u(p)
    in T1."""
    motion: breathing.Motion
    t1_lesions: sitk.Image
    """0, or the lesion's number 1, 2, ..."""
    t2_lesions: sitk.Image
    water: sitk.Image | None = None
    """Water, fat and fat fraction (0..100 percent) lie on T1's grid; semi-synthetic pairs have
    none."""
    fat: sitk.Image | None = None
    fat_fraction: sitk.Image | None = None

    def transform(self) -> sitk.Transform:
        """The deformation as a SimpleITK transform of points of T2 to points of T1.

        It resamples T1 onto the grid of T2.
        """
        return breathing.to_transform(self.deformation)


@dataclass(frozen=True)
class Anatomy:
    """A patient on the canvas: signals, liver, and the landmarks of breathing."""

    grid: Grid
    tissue: np.ndarray
    """`Tissue` of each voxel of the canvas, uint8 (z, y, x)."""
    signals: Signals
    liver: Liver
    landmarks: breathing.Landmarks
    liver_centre_z: float


def make_pair(
    seed: int,
    *,
    difficulty: Difficulty = "study",
    anatomy_seed: int | None = None,
    lesions: int | None = None,
    t1_size: tuple[int, int, int] | None = None,
    t1_spacing: tuple[float, float, float] | None = None,
    t2_size: tuple[int, int, int] | None = None,
    t2_spacing: tuple[float, float, float] | None = None,
) -> PhantomPair:
    """A T1/T2 pair of a synthetic abdomen, the same to the bit for the same arguments.

    Args:
        seed: of everything; not negative.
        difficulty: "study" scans like a clinic (1.5 x 1.5 x 3 mm and 1.25 x 1.25 x 6.5 mm, noise,
            bias, uneven contrast); "demo" is coarse and clean enough for a tiny network.
        anatomy_seed: of the patient alone; pairs that share it show one patient at several visits.
            Default: `seed`.
        lesions: how many, 0..20; default 0 to 5 by chance.
        t1_size: voxels (x, y, z) of T1; likewise `t2_size`. Defaults by difficulty.
        t1_spacing: mm (x, y, z) of T1; likewise `t2_spacing`.

    Raises:
        InputError: an argument is out of range.

    Example:
        >>> import nnunet_liver_ext as nle
        >>> pair = nle.make_pair(seed=1, difficulty="demo", lesions=2)
        >>> pair.t1.GetSize(), pair.t2.GetSize()
        ((96, 80, 32), (104, 84, 28))
    """
    chosen = {
        "t1_size": t1_size,
        "t1_spacing": t1_spacing,
        "t2_size": t2_size,
        "t2_spacing": t2_spacing,
    }
    protocol = choose_protocol(
        difficulty, {name: value for name, value in chosen.items() if value is not None}
    )
    check_numbers(seed, anatomy_seed, lesions)
    anatomy = make_anatomy(seed if anatomy_seed is None else anatomy_seed, protocol, lesions)
    return _scan(anatomy, protocol, seed)


def check_numbers(seed: int, anatomy_seed: int | None, lesions: int | None) -> None:
    """InputError unless seeds are not negative and there are 0 to 20 lesions."""
    if lesions is not None and not 0 <= lesions <= MAX_LESIONS:
        raise InputError(f"the phantom can have 0 to {MAX_LESIONS} lesions, not {lesions}.")
    for name, value in (("seed", seed), ("anatomy_seed", anatomy_seed)):
        if value is not None and value < 0:
            raise InputError(f"{name} must not be negative, it is {value}.")


def make_anatomy(seed: int, protocol: ScanProtocol, lesions: int | None = None) -> Anatomy:
    """The patient of a seed.

    The canvas depends on the protocol alone, so that every visit meets the same patient.
    """
    rng = generator(seed, "patient")
    scale = rng.uniform(0.95, 1.06, 3)
    shape = LiverShape(
        tip_z=-rng.uniform(142, 166), left_x=rng.uniform(74, 102), thickness=rng.uniform(2, 18)
    )
    fat_mm = rng.uniform(9, 26)
    number = int(rng.integers(0, 6)) if lesions is None else lesions
    centre_z = 0.5 * shape.tip_z * scale[2]
    grid = _canvas_grid(protocol, float(centre_z))
    canvas = Canvas(grid, generator(seed, "outlines"), scale=scale)
    body = paint_body(canvas, generator(seed, "body"), fat_mm=fat_mm)
    paint_organs(canvas, body, generator(seed, "organs"))
    liver = paint_liver(canvas, body, generator(seed, "liver"), shape, number)
    shell = WALL_MM + SKIN_MM + fat_mm
    landmarks = breathing.Landmarks(
        dome_z=0.0,
        centre=(0.0, float(CAVITY_CENTRE_Y_MM * scale[1])),
        radii=(
            float((CAVITY_RADII_MM[0] + shell) * scale[0]),
            float((CAVITY_RADII_MM[1] + shell) * scale[1]),
        ),
    )
    look = tissue_signals(
        canvas, protocol.appearance, generator(seed, "signals"), spread=protocol.contrast_spread
    )
    return Anatomy(grid, canvas.tissue, look, liver, landmarks, float(centre_z))


def _canvas_grid(protocol: ScanProtocol, centre_z: float) -> Grid:
    reach = max(
        protocol.t1_size[2] * protocol.t1_spacing[2], protocol.t2_size[2] * protocol.t2_spacing[2]
    )
    extent = (396.0, 300.0, reach + 2 * FIELD_MARGIN_MM)
    size = tuple(
        int(np.ceil(mm / step)) for mm, step in zip(extent, protocol.canvas_spacing, strict=True)
    )
    return grid_around((0.0, 0.0, centre_z), size, protocol.canvas_spacing)  # type: ignore[arg-type]


def _plan_grids(
    anatomy: Anatomy, protocol: ScanProtocol, motion: breathing.Motion, seed: int
) -> tuple[Grid, Grid]:
    """The grids of T1 and T2 around the liver, T2's a little oblique and after the breathing."""
    rng = generator(seed, "planning")
    jitter = rng.uniform(-6, 6, (2, 3))
    tilt = tuple(rng.uniform(-protocol.tilt_degrees, protocol.tilt_degrees, 3) * (1, 1, 0.5))
    z = anatomy.liver_centre_z + 4
    t1_grid = grid_around(
        (jitter[0, 0], jitter[0, 1], z + 0.5 * jitter[0, 2]), protocol.t1_size, protocol.t1_spacing
    )
    z += 0.5 * motion.dome_mm + 0.5 * jitter[1, 2]
    t2_grid = grid_around(
        (jitter[1, 0], jitter[1, 1], z), protocol.t2_size, protocol.t2_spacing, tilt
    )
    return t1_grid, t2_grid


def _scan(anatomy: Anatomy, protocol: ScanProtocol, seed: int) -> PhantomPair:
    motion = breathing.sample_motion(
        generator(seed, "motion"), dome_mm=(6, 28), elastic_mm=1.6, shift_mm=3.0
    )
    t1_grid, t2_grid = _plan_grids(anatomy, protocol, motion, seed)
    field = breathing.displacement_field(
        anatomy.grid, anatomy.landmarks, motion, generator(seed, "elastic")
    )
    first = Scanner(anatomy.grid, t1_grid, None, 2)
    second = Scanner(anatomy.grid, t2_grid, breathing.to_transform(field), 4)
    rng = generator(seed, "scan")
    t1 = first.image(anatomy.signals.t1, rng, protocol.noise[0], protocol.bias[0])
    t2 = second.image(anatomy.signals.t2, rng, protocol.noise[1], protocol.bias[1])
    dixon_noise = 0.5 * protocol.noise[0]
    water, fat = (
        first.image(signal, rng, dixon_noise, 0.0)
        for signal in (anatomy.signals.water, anatomy.signals.fat)
    )
    rng = generator(seed, "annotation")
    t1_masks = first.masks(anatomy.liver.mask, rng, protocol.annotation_mm[0], 0.0)
    t2_masks = second.masks(anatomy.liver.mask, rng, protocol.annotation_mm[1], protocol.slice_mm)
    fraction = fat_fraction_percent(
        sitk.GetArrayViewFromImage(water), sitk.GetArrayViewFromImage(fat)
    )
    return PhantomPair(
        t1=t1,
        t2=t2,
        t1_mask=t1_masks[0],
        t2_mask=t2_masks[0],
        t1_true_mask=t1_masks[1],
        t2_true_mask=t2_masks[1],
        deformation=field,
        motion=motion,
        t1_lesions=first.labels(anatomy.liver.lesions),
        t2_lesions=second.labels(anatomy.liver.lesions),
        water=water,
        fat=fat,
        fat_fraction=image_like(fraction, t1_grid),
    )
