"""Datasets that have a fingerprint and no images: all that planning looks at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nnunet_liver_ext.pairing import PairLabels

CASES = 100
PAIR = PairLabels(("T1", "T2"), ("background", "liver"))
COMMON = {
    "numTraining": CASES,
    "file_ending": ".nii.gz",
    "overwrite_image_reader_writer": "SimpleITKIO",
}
PAIRS = {
    **COMMON,
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": PAIR.dataset_labels(),
    "pair": PAIR.to_json(),
}
IMAGES = {**COMMON, "channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}
TUMOURS = {
    **COMMON,
    "channel_names": {"0": "noNorm CT", "1": "noNorm liver"},
    "labels": {"background": 0, "tumour": 1},
    "organ_mask": {"name": "liver", "channel": 1},
}


def write_dataset(
    root: Path,
    dataset_json: dict[str, Any],
    spacing: tuple[float, float, float] = (3.0, 1.5, 1.5),
    shape: tuple[int, int, int] = (72, 210, 265),
    number: int = 601,
) -> tuple[Path, Path]:
    """(raw, preprocessed) of a dataset whose images all have this spacing (mm) and shape (z, y,
    x)."""
    name = f"Dataset{number}_MadeUp"
    raw, preprocessed = root / "raw" / name, root / "preprocessed" / name
    for folder in (raw, preprocessed):
        folder.mkdir(parents=True)
    files = {"a": {"images": ["a_0000.nii.gz"], "label": "a.nii.gz"}}
    (raw / "dataset.json").write_text(json.dumps({**dataset_json, "dataset": files}))
    of_foreground = {"mean": 0.0, "std": 1.0, "percentile_00_5": -3.0, "percentile_99_5": 3.0}
    fingerprint = {
        "spacings": [spacing] * CASES,
        "shapes_after_crop": [shape] * CASES,
        "foreground_intensity_properties_per_channel": {
            str(channel): of_foreground for channel in range(len(dataset_json["channel_names"]))
        },
        "median_relative_size_after_cropping": 1.0,
    }
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    return raw, preprocessed
