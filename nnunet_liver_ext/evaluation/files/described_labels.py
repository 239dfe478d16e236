"""What the dataset.json beside label maps says: their classes, and whether they are joint ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnunet_liver_ext.dataset_json.incomplete import IncompleteCases
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.pairing import PairLabels

Classes = Mapping[str, tuple[int, ...]]
"""The labels of each class by its name, several for a region."""


@dataclass(frozen=True)
class DescribedLabels:
    """What is known of label maps; nothing, if no dataset.json belongs to them."""

    pair: PairLabels | None = None
    classes: Classes | None = None
    incomplete: IncompleteCases = field(default_factory=IncompleteCases)
    """Pairs of which a mask is missing: in a joint label map it looks like an empty one."""


def describe_labels(path: Path) -> DescribedLabels:
    """Reads the dataset.json that belongs to label maps.

    Args:
        path: folder of label maps, or a file in it; dataset.json is in the folder, or above it for
            labelsTr, gt_segmentations and fold_0/validation.

    Raises:
        InputError: dataset.json is no valid JSON, has no labels, or has an ignore label.
    """
    folder = path if path.is_dir() else path.parent
    candidates = [folder]
    if folder.name.startswith("labels") or folder.name == "gt_segmentations":
        candidates.append(folder.parent)
    if folder.name == "validation":
        candidates.append(folder.parent.parent)
    for candidate in candidates:
        if (candidate / "dataset.json").is_file():
            return _read(candidate / "dataset.json")
    return DescribedLabels()


def _read(path: Path) -> DescribedLabels:
    content = read_json(path)
    try:
        pair = PairLabels.from_dataset_json(content)
        labels = content.get("labels")
        classes = _pair_classes(pair) if pair else _label_classes(labels) if labels else None
        return DescribedLabels(pair, classes, IncompleteCases.from_dataset_json(content))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: is no valid dataset.json ({type(error).__name__}: {error})."
        ) from None


def _pair_classes(pair: PairLabels) -> Classes:
    return {name: (label,) for label, name in enumerate(pair.classes) if label > 0}


def _label_classes(labels: Mapping[str, Any]) -> Classes:
    if "ignore" in labels:
        raise InputError(
            "an ignore label cannot be evaluated: surfaces next to ignored voxels have no distance."
        )
    return {
        name: tuple(int(value) for value in label) if isinstance(label, list) else (int(label),)
        for name, label in labels.items()
        if label != 0
    }
