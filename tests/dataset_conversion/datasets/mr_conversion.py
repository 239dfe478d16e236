"""What was written of a dataset in which a patient may have several studies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.space.images import array, read_image


def written(folder: Path, case: str, channel: int | None = None, part: str = "Tr") -> sitk.Image:
    """A channel of a case, or its label map."""
    kind, name = ("labels", case) if channel is None else ("images", f"{case}_{channel:04d}")
    return read_image(folder / f"{kind}{part}" / f"{name}.nii.gz")


def voxels(folder: Path, case: str, channel: int | None = None, part: str = "Tr") -> np.ndarray:
    """As `written`, the array (z, y, x)."""
    return array(written(folder, case, channel, part))


def dataset_json(folder: Path) -> Mapping[str, Any]:
    return json.loads((folder / "dataset.json").read_text())


def case_of(folder: Path, patient: str, study: str) -> str:
    """The pseudonym of a study."""
    return Manifest.load(folder).names[patient][study]
