"""What the masks in a folder are of: prediction.json, with dataset.json for the classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.postprocessing.border_lesions_folder import KERNELS_KEY

FILE_NAME = "prediction.json"
MISSING_IN_EARLIER_VERSIONS: Mapping[str, Any] = {"postprocessing": []}
"""What earlier versions did not write, as it was then."""


def describe_predictions(
    description: Mapping[str, Any],
    class_names: Sequence[str],
    out: Path,
    *,
    overwrite: bool,
    file_format: str = "nii.gz",
) -> str:
    """Writes what the masks in `out` are of (prediction.json) and their classes (dataset.json).

    Returns:
        The file format of the masks that were described there before; else `file_format`.

    Raises:
        InputError: there are masks of something else, and `overwrite` is False.
    """
    path = out / FILE_NAME
    if file_format != "nii.gz":
        description = {**description, "format": file_format}
    added = {key: value for key, value in MISSING_IN_EARLIER_VERSIONS.items() if key in description}
    before = added | read_json(path) if path.exists() else description
    kernels = {key: before[key] for key in (KERNELS_KEY,) if key in before and not overwrite}
    if not overwrite and before != {**description, **kernels}:
        raise InputError(
            f"{out}: holds predictions of another model, of other studies or with other options;"
            " choose another folder, or replace them with --overwrite."
        )
    labels = {name: label for label, name in enumerate(class_names)}
    for target, content in (
        (path, {**description, **kernels}),
        (out / "dataset.json", {"labels": labels, "file_ending": f".{file_format}"}),
    ):
        with atomic_write(target) as unfinished:
            unfinished.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return str(before.get("format", "nii.gz"))
