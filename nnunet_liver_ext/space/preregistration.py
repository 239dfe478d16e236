"""Image 1 warped onto image 2 before segmentation: the pre-registered strategy.

Source: Couteaux et al. 2021, section 3.2.

Affine, then B-spline, both by Mattes mutual information (SimpleITK) of image 2 resampled to 4 mm.
The paper says only "non-linear registration"; metric, pitch and schedule are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError, last_line
from nnunet_liver_ext.space.common_grid import common_grid, image_on_grid, parse_spacing
from nnunet_liver_ext.space.padding import replace_padding_of_image
from nnunet_liver_ext.workers import limit_threads

BINS = 32
SPACING_MM = 4.0
"""Size of the metric's voxels.

On the grid of thick slices the B-spline made phantom livers worse than the affine alone.
"""
CONTROL_PITCH_MM = 80.0
SAMPLED = 0.3
SEED = 20210


def preregister_pair(
    moving: sitk.Image, fixed: sitk.Image, conversion: Mapping[str, Any]
) -> tuple[sitk.Image, sitk.Image, sitk.Transform]:
    """Puts image 2 onto its grid and warps image 1 onto it.

    Args:
        moving: image 1 (T1).
        fixed: image 2 (T2).
        conversion: `conversion` of dataset.json: spacing and interpolation.

    Returns:
        Image 2 on its grid, image 1 warped onto the same grid, and the transform (points of image 2
        to points of image 1).

    Raises:
        InputError: the images do not overlap, or the registration finds no common voxels.
    """
    common_grid([fixed, moving])  # raises if they do not overlap
    grid = common_grid([fixed], parse_spacing(conversion["spacing"]))
    target = image_on_grid(fixed, grid, conversion["interpolation"])
    moving = sitk.Cast(replace_padding_of_image(moving), sitk.sitkFloat32)
    transform = register(target, moving)
    warped = sitk.Resample(
        moving,
        grid.empty_image(),
        transform,
        sitk.sitkLinear,
        0.0,
        sitk.sitkFloat32,
    )
    return target, warped, transform


def register(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    """The transform of points of `fixed` to points of `moving`: affine, then a B-spline on top.

    Deterministic: the metric's voxels are drawn with a fixed seed, and everything runs on one
    thread.
    """
    coarse = image_on_grid(fixed, common_grid([fixed], (SPACING_MM,) * 3), "linear")
    initial = sitk.AffineTransform(3)  # identity: scanner coordinates are the best guess there is
    initial.SetCenter(
        coarse.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in coarse.GetSize()])
    )
    mesh = [max(1, round(n * SPACING_MM / CONTROL_PITCH_MM)) for n in coarse.GetSize()]
    spline = sitk.BSplineTransformInitializer(coarse, mesh)
    # several threads add up numbers in any order; the optimisers obey the global default
    with limit_threads(1):
        affine = _optimise(coarse, moving, initial, shrink=(4, 2), iterations=60)
        bent = _optimise(coarse, moving, spline, shrink=(2,), iterations=20, before=affine)
    return sitk.CompositeTransform([affine, bent])


def _optimise(
    fixed: sitk.Image,
    moving: sitk.Image,
    initial: sitk.Transform,
    *,
    shrink: tuple[int, ...],
    iterations: int,
    before: sitk.Transform | None = None,
) -> sitk.Transform:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(SAMPLED, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(list(shrink))
    method.SetSmoothingSigmasPerLevel([factor * SPACING_MM / 2 for factor in shrink])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    if before is None:
        method.SetOptimizerAsRegularStepGradientDescent(
            2.0, 1e-2, iterations, gradientMagnitudeTolerance=1e-6
        )
        method.SetOptimizerScalesFromPhysicalShift()
    else:
        method.SetMovingInitialTransform(before)
        method.SetOptimizerAsLBFGS2(numberOfIterations=iterations)
    method.SetInitialTransform(initial, inPlace=True)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:
        raise InputError(
            f"the images cannot be registered ({last_line(error)}); check their scanner"
            " coordinates."
        ) from None
    return initial
