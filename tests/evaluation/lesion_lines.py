"""Lesions in one row of voxels."""

from __future__ import annotations

import numpy as np

from nnunet_liver_ext.evaluation.lesions import detection_scores


def line(labels):
    """A volume of one row; "0110" is a mask with one lesion of two voxels, "1122" a map of two that
    touch."""
    return np.array([int(label) for label in labels])[None, None]


def counts(match):
    scores = detection_scores(match)
    return scores.true_positives, scores.false_positives, scores.false_negatives
