"""dataset.json and splits_final.json of a converted dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.missing_images import find_incomplete_pairs
from nnunet_liver_ext.dataset_conversion.splits import Splitting, update_splits
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import CaseFailure, InputError, SomeCasesFailed
from nnunet_liver_ext.json_files import read_json


def write_description(
    folder: Path,
    manifest: Manifest,
    settings: ConversionSettings,
    splitting: Splitting,
    notes: Mapping[str, Any],
    failures: Sequence[CaseFailure],
) -> None:
    """Writes the splits, then dataset.json.

    Without enough converted patients neither is written, so that nobody trains on random splits.
    Splits of `nnunet_liver splits` that are no plain cross-validation stay as they are.
    """
    groups = manifest.training_groups()
    too_few = bool(groups) and len(set(groups.values())) < splitting.folds
    if not manifest.cases or too_few:
        total = len(manifest.cases) + len(failures)
        raise InputError(
            f"{SomeCasesFailed(failures, total)}\n{folder} has no dataset.json yet: too few"
            " patients could be converted."
        )
    path = folder / "splits_final.json"
    if groups:
        before = read_json(path) if path.exists() else None
        if before is None or "own" not in manifest.splitting:
            _write_json(update_splits(before, groups, splitting), path)
    content = settings.dataset_json(len(groups))
    incomplete = find_incomplete_pairs(manifest.cases, settings)
    _write_json(
        content | ({"incomplete": incomplete} if incomplete else {}) | dict(notes),
        folder / "dataset.json",
    )


def _write_json(content: Any, path: Path) -> None:
    """Writes the file unless it says so already: what is unchanged keeps its time."""
    if path.exists() and path.read_text() == json.dumps(content, indent=2):
        return
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2))
