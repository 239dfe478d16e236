"""What is segmented in datasets that number their labels alike."""

from __future__ import annotations

from collections.abc import Mapping

from nnunet_liver_ext.dataset_conversion.catalogue import Task

LABELS = {"liver": 1, "tumour": 2}
"""Of masks in which the liver is 1 without its tumours, and these are 2."""
LIVER_AND_TUMOURS: Mapping[str, Task] = {
    "liver": Task(labels={"liver": (LABELS["liver"], LABELS["tumour"])}),
    "tumour": Task(
        labels={"tumour": (LABELS["tumour"],)},
        ignored_labels=(LABELS["liver"],),
        organ=tuple(LABELS.values()),
    ),
    "liver-and-tumour": Task(labels={name: (value,) for name, value in LABELS.items()}),
}
"""Tasks of any dataset whose masks have `LABELS`."""


def organ_tasks(organs: Mapping[str, int]) -> dict[str, Task]:
    """The liver alone (the other organs are background), or all organs.

    Args:
        organs: number of each organ in the masks by name, "liver" among them.
    """
    others = tuple(value for name, value in organs.items() if name != "liver")
    return {
        "liver": Task(labels={"liver": (organs["liver"],)}, ignored_labels=others),
        "organs": Task(labels={name: (value,) for name, value in organs.items()}),
    }
