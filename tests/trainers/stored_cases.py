"""A tiny preprocessed dataset with a liver mask as its last channel, as nnU-Net stores it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2, nnUNetDatasetNumpy

SHAPE = (10, 24, 20)
IMAGE_CHANNELS = 2
STORED = {"b2nd": nnUNetDatasetBlosc2, "npz": nnUNetDatasetNumpy}


def case_arrays(
    seed: int, labels: tuple[int, ...], *, liver: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Image (3, ...) whose last channel is a liver with interpolation's overshoot, and label map
    (1, ...) with −1 around."""
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(IMAGE_CHANNELS + 1, *SHAPE)).astype(np.float32)
    data[-1] = rng.uniform(-0.1, 0.45, SHAPE)
    if liver:
        data[-1, 2:8, 5:20, 4:16] = rng.uniform(0.55, 1.1, (6, 15, 12))
    seg = np.zeros((1, *SHAPE), np.int8)
    seg[:, :, :2] = -1
    for number, label in enumerate(labels):
        corner = rng.integers((2, 5, 4), (6, 17, 13))
        seg[
            0,
            corner[0] : corner[0] + 2,
            corner[1] : corner[1] + 3,
            corner[2] + number : corner[2] + number + 3,
        ] = label
    return data, seg


def store_case(
    folder: Path,
    name: str,
    seed: int,
    labels: tuple[int, ...],
    *,
    ending: str = "b2nd",
    liver: bool = True,
) -> None:
    """Writes one case with its properties as nnU-Net's preprocessing would."""
    folder.mkdir(exist_ok=True)
    data, seg = case_arrays(seed, labels, liver=liver)
    locations = DefaultPreprocessor._sample_foreground_locations(seg, [1, 2])
    chunks: dict[str, Any] = (
        {"chunks": (1, 5, 12, 10), "blocks": (1, 5, 6, 10)} if ending == "b2nd" else {}
    )
    STORED[ending].save_case(
        data,
        seg,
        {"class_locations": locations, "spacing": (1, 1, 1)},
        str(folder / name),
        **chunks,
    )


def load_dataset(folder: Path, ending: str = "b2nd") -> Any:
    return STORED[ending](str(folder))
