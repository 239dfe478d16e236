"""The organ mask of a tumour dataset: the `organ_mask` entry of dataset.json.

    "organ_mask": {"name": "liver", "channel": 1}

The mask is the last channel of each case, 0 and 1. It serves intensities, sampling, the loss's
weight and post-processing, and is never an input of the network (Hänsch et al. 2022, Methods).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_liver_ext.errors import InputError


@dataclass(frozen=True)
class OrganMask:
    """The organ mask among a dataset's channels: for loader and loss, not for the network."""

    name: str
    """Name of the organ, "liver"."""
    channel: int
    """Which of nnU-Net's channels it is, counted from 0; always the last."""

    @classmethod
    def from_dataset_json(cls, dataset_json: Mapping[str, Any]) -> OrganMask | None:
        """The entry of a dataset.json, or None for a dataset without an organ mask.

        Raises:
            InputError: there is an entry, but it does not fit the channels.
        """
        entry = dataset_json.get("organ_mask")
        if entry is None:
            return None
        channels = len(dataset_json.get("channel_names") or dataset_json.get("modality", ()))
        if (
            not isinstance(entry, Mapping)
            or not {"name", "channel"} <= set(entry)
            or entry["channel"] != channels - 1
        ):
            raise InputError(
                "dataset.json: `organ_mask` must hold a `name` and the last `channel`"
                f" ({channels - 1}), found {entry!r}."
            )
        if channels < 2:
            raise InputError(
                "dataset.json: the organ mask is the only channel; there must be an image, too."
            )
        return cls(str(entry["name"]), int(entry["channel"]))
