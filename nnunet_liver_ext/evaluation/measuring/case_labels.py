"""The labels of a case: prediction and references as arrays on one grid."""

from __future__ import annotations

import numpy as np

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.files.case_files import CaseFiles
from nnunet_liver_ext.space.images import Grid, array, image_like
from nnunet_liver_ext.space.mask_resampling import mask_on_grid

MOST_LABELS = 256


def labels_on_one_grid(
    case: CaseFiles, *, resample: bool = False
) -> tuple[np.ndarray, dict[str, np.ndarray], Grid]:
    """Labels of the prediction and of each rater's reference (z, y, x), and their grid.

    Args:
        case: which files.
        resample: put the prediction on the reference's grid if theirs differ, by the shape of
            its labels.

    Raises:
        InputError: a file cannot be read, or the grids differ.
    """
    read = {rater: reference.read() for rater, reference in case.references.items()}
    grid = next(iter(read.values()))[1]
    for rater, (_, other) in read.items():
        if not other.matches(grid):
            raise InputError(
                f"the masks of the raters are on different grids ({rater}: {other};"
                f" {next(iter(read))}: {grid})."
            )
    pred, pred_grid = case.prediction.read()
    if not pred_grid.matches(grid):
        if not resample:
            raise InputError(
                f"prediction and reference are on different grids ({pred_grid}; {grid}):"
                f" {_advise(case)}."
            )
        pred = _labels_on_grid(pred, pred_grid, grid)
    return pred, {rater: labels for rater, (labels, _) in read.items()}, grid


def _labels_on_grid(labels: np.ndarray, labels_grid: Grid, grid: Grid) -> np.ndarray:
    present = np.union1d([0], labels)
    if len(present) > MOST_LABELS:
        raise InputError(
            f"a label map with {len(present)} labels cannot be put on another grid; predict on the"
            " reference's."
        )
    indices = mask_on_grid(
        image_like(np.searchsorted(present, labels).astype(np.uint8), labels_grid),
        grid,
        len(present),
    )
    return present[array(indices)].astype(labels.dtype)


def _advise(case: CaseFiles) -> str:
    if case.prediction.half is not None and case.reference.half is None:
        return "split the joint label maps first (nnunet_liver predict --split)"
    return (
        "predict the reference's image, or let the prediction be resampled (--resample reference)"
    )
