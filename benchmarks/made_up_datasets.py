"""Datasets without images: all that nnU-Net's planner and trainers look at before they read one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHANNELS = {"0": "T1", "1": "T2"}
ONE_MASK = {"channel_names": CHANNELS, "labels": {"background": 0, "liver": 1}}
"""dataset.json of two channels and one mask."""


def pairs_content() -> dict[str, Any]:
    """dataset.json of T1/T2 pairs with two masks."""
    from nnunet_liver_ext.pairing import PairLabels

    pair = PairLabels(("T1", "T2"), ("background", "liver"))
    labels, entry = pair.dataset_labels(), pair.to_json()
    return {"channel_names": CHANNELS, "labels": labels, "pair": entry}


def complete_dataset_json(content: Mapping[str, Any], num_training: int) -> dict[str, Any]:
    """With the entries that every dataset.json has."""
    return {
        **content,
        "numTraining": num_training,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }


def write_dataset(
    root: Path,
    name: str,
    content: Mapping[str, Any],
    image_sizes: Sequence[Sequence[int]],
    spacing_mm: Sequence[float],
    cases: Sequence[str] = ("a",),
) -> dict[str, Any]:
    """Writes dataset.json, empty image files and the fingerprint; returns dataset.json.

    Args:
        root: gets nnU-Net's three folders.
        name: of the dataset.
        content: what its dataset.json has of its own.
        image_sizes: voxels (z, y, x) of each image of the fingerprint.
        spacing_mm: (z, y, x) of all.
        cases: have files, whose names alone are looked at.
    """
    raw, preprocessed = root / "raw" / name, root / "preprocessed" / name
    for folder in (raw / "imagesTr", raw / "labelsTr", preprocessed):
        folder.mkdir(parents=True)
    (root / "results").mkdir(exist_ok=True)
    for case in cases:
        for channel in range(len(content["channel_names"])):
            (raw / "imagesTr" / f"{case}_{channel:04d}.nii.gz").touch()
        (raw / "labelsTr" / f"{case}.nii.gz").touch()
    dataset_json = complete_dataset_json(content, len(image_sizes))
    (raw / "dataset.json").write_text(json.dumps(dataset_json))
    fingerprint = {
        "spacings": [list(spacing_mm)] * len(image_sizes),
        "shapes_after_crop": [list(size) for size in image_sizes],
        "foreground_intensity_properties_per_channel": {
            channel: {} for channel in content["channel_names"]
        },
        "median_relative_size_after_cropping": 1.0,
    }
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    return dataset_json
