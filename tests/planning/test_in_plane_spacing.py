"""Spacings of two numbers: nnU-Net resamples slices in their plane and leaves their distance as it
is, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_liver_ext.planning.plan_dataset import plan_dataset
from tests.planning.made_up_datasets import IMAGES, write_dataset

SPACING, SHAPE = (3.0, 1.5, 1.5), (13, 40, 44)


@pytest.mark.parametrize("slices_mm", [3.0, 1.0])
def test_there_and_back(slices_mm: float, empty_root: Path):
    """Of a case whose slices have another distance than the median."""
    write_dataset(empty_root, IMAGES, spacing=SPACING, shape=SHAPE)
    path = plan_dataset(601, architecture="slice", spacing_mm=(1.0, 1.0), tiny=True)
    plans, dataset_json = (
        PlansManager(str(path)),
        json.loads((path.parent / "dataset.json").read_text()),
    )
    configuration: Any = plans.get_configuration("3d_fullres")
    image, seg = np.ones((1, *SHAPE), np.float32), np.zeros((1, *SHAPE), np.int16)
    seg[:, 4:9, 10:30, 12:36] = 1
    properties = {"spacing": [slices_mm, 1.5, 1.5]}
    preprocessor = configuration.preprocessor_class(verbose=False)
    data, labels, properties = preprocessor.run_case_npy(
        image, seg, properties, plans, configuration, dataset_json
    )
    assert data.shape == labels.shape == (1, 13, 60, 66)
    assert (labels[0, 4:9, 15:45, 18:54] == 1).mean() > 0.99
    logits = np.concatenate([1.0 - labels, 1.0 * labels]).astype(np.float32)
    found = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        plans,
        configuration,
        plans.get_label_manager(dataset_json),
        properties,
        num_threads_torch=1,
    )
    assert found.shape == SHAPE
    assert (np.asarray(found) == seg[0]).mean() > 0.99
