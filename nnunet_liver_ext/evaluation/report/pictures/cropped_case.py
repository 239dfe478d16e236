"""What a picture shows: label maps and image in the patient's axes, cut to the object's box."""

# Z Y X voxels: towards the head, towards the back, towards the patient's left

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.evaluation.files.case_files import CaseFiles
from nnunet_liver_ext.evaluation.files.described_labels import Classes
from nnunet_liver_ext.evaluation.masks import VoxelBox, bounding_box
from nnunet_liver_ext.evaluation.measuring.case_labels import labels_on_one_grid
from nnunet_liver_ext.space.images import Grid, image_like, read_image, resample

MARGIN_MM = 35.0


@dataclass(frozen=True)
class CroppedCase:
    """Label maps (Z, Y, X) of prediction and references, and the image or None."""

    pred: np.ndarray
    ref: np.ndarray
    image: np.ndarray | None
    spacing_mm: tuple[float, float, float]
    other_refs: tuple[np.ndarray, ...] = ()
    """References of further raters."""

    @property
    def everything(self) -> np.ndarray:
        """Bool (Z, Y, X): where there is anything of prediction or references."""
        return np.logical_or.reduce(
            [labels != 0 for labels in (self.pred, self.ref, *self.other_refs)]
        )

    @property
    def centre(self) -> tuple[int, int, int]:
        """Index of the reference's centre of mass, else of the prediction's, else of the volume."""
        mask = self.ref if self.ref.any() else self.pred
        if not mask.any():
            return mask.shape[0] // 2, mask.shape[1] // 2, mask.shape[2] // 2
        z, y, x = (round(float(indices.mean())) for indices in np.nonzero(mask))
        return z, y, x


def read_cropped_case(case: CaseFiles, classes: Classes | None) -> CroppedCase:
    """What the picture of one case shows, on the reference's grid.

    Args:
        case: which files.
        classes: labels of each class by name, or None to show every label.

    Raises:
        InputError: one of the files cannot be read.
    """
    pred, references, grid = labels_on_one_grid(case, resample=True)
    maps = [
        _turn_to_patient_axes(image_like(_keep_classes(labels, classes), grid))
        for labels in (pred, *references.values())
    ]
    image = None
    if case.image is not None:
        image = _turn_to_patient_axes(
            _put_on_grid(grid, sitk.Cast(read_image(case.image), sitk.sitkFloat32))
        )
    spacing_mm = Grid.from_image(sitk.DICOMOrient(grid.empty_image(), "LPS")).spacing_mm
    box = box_with_margin(
        np.logical_or.reduce([labels != 0 for labels in maps]), spacing_mm, MARGIN_MM
    )
    pred, ref, *others = (labels[box] for labels in maps)
    return CroppedCase(pred, ref, None if image is None else image[box], spacing_mm, tuple(others))


def box_with_margin(
    mask: np.ndarray, spacing_mm: tuple[float, float, float], margin_mm: float
) -> VoxelBox:
    """The box of a mask with a margin, within the volume; the whole volume for an empty mask."""
    if not mask.any():
        return (slice(None),) * 3
    margins = [round(margin_mm / step) for step in spacing_mm]
    return tuple(
        slice(max(0, side.start - margin), min(size, side.stop + margin))
        for side, margin, size in zip(bounding_box(mask), margins, mask.shape, strict=True)
    )


def _keep_classes(labels: np.ndarray, classes: Classes | None) -> np.ndarray:
    """Label maps without what no class names."""
    if classes is None:
        return labels.astype(np.int32)
    known = sorted({label for values in classes.values() for label in values})
    return np.where(np.isin(labels, known), labels, 0).astype(np.int32)


def _turn_to_patient_axes(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))


def _put_on_grid(grid: Grid, image: sitk.Image) -> sitk.Image:
    return image if Grid.from_image(image).matches(grid) else resample(image, grid)
