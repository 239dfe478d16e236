"""What is segmented in datasets that number their labels alike."""

from __future__ import annotations

from collections.abc import Mapping

from nnunet_liver_ext.dataset_conversion.public_dataset import SegmentationTask

LABELS = {"liver": 1, "tumour": 2}
"""Labels of masks in which the liver is 1 without its tumours, and these are 2."""
LIVER_AND_TUMOURS: Mapping[str, SegmentationTask] = {
    "liver": SegmentationTask(labels={"liver": (LABELS["liver"], LABELS["tumour"])}),
    "tumour": SegmentationTask(
        labels={"tumour": (LABELS["tumour"],)},
        ignored_labels=(LABELS["liver"],),
        organ=tuple(LABELS.values()),
    ),
    "liver-and-tumour": SegmentationTask(labels={name: (value,) for name, value in LABELS.items()}),
}
"""Tasks of any dataset whose masks have `LABELS`."""


def organ_tasks(organs: Mapping[str, int]) -> dict[str, SegmentationTask]:
    """The liver alone (the other organs are background), or all organs.

    Args:
        organs: number of each organ in the masks by name, "liver" among them.
    """
    others = tuple(value for name, value in organs.items() if name != "liver")
    return {
        "liver": SegmentationTask(labels={"liver": (organs["liver"],)}, ignored_labels=others),
        "organs": SegmentationTask(labels={name: (value,) for name, value in organs.items()}),
    }
