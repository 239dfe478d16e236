"""What the images of a case say about its masks: where the body is, and the fat fraction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.body import body_mask, midline_mm
from nnunet_liver_ext.evaluation.fat_and_tumour_burden import check_percent
from nnunet_liver_ext.evaluation.files.case_files import CaseFiles
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.space.images import Grid, array, read_image, resample


@dataclass(frozen=True)
class Surroundings:
    """For all classes of a case; arrays (z, y, x) on the masks' grid."""

    grid: Grid
    fat_percent: np.ndarray | None = None
    body: np.ndarray | None = None
    midline_mm: float | None = None
    """x in LPS of the body's middle."""


def read_surroundings(
    case: CaseFiles, grid: Grid, masks: Sequence[np.ndarray], options: Options
) -> tuple[Surroundings, list[str]]:
    """What the images say, and notes on what they do not.

    Args:
        case: which images; none are needed.
        grid: of the masks; images on other grids are interpolated.
        masks: of all classes, bool; where the fat fraction has to be a percentage.
        options: the body is looked for if plausibility is wanted.
    """
    around, notes = Surroundings(grid), []
    if case.image is not None and options.wants("plausibility"):
        try:
            image = sitk.Cast(read_image(case.image), sitk.sitkFloat32)
            body = body_mask(_on(grid, image, outside=float(array(image).min())))
            around = replace(around, body=body, midline_mm=midline_mm(body, grid))
        except InputError as error:
            notes.append(f"the body was not found: {case.reason(error)}")
    if case.fat is not None:
        try:
            fat_percent = array(
                _on(grid, sitk.Cast(read_image(case.fat), sitk.sitkFloat32), outside=math.nan)
            )
            check_percent(fat_percent, np.logical_or.reduce(list(masks)))
            around = replace(around, fat_percent=fat_percent)
        except InputError as error:
            notes.append(f"the fat fraction was not measured: {case.reason(error)}")
    return around, notes


def _on(grid: Grid, image: sitk.Image, *, outside: float) -> sitk.Image:
    return image if Grid.from_image(image).matches(grid) else resample(image, grid, outside=outside)
