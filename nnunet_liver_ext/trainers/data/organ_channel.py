"""A liver mask that only the loader sees: stored as the last image channel.

nnU-Net preprocesses and stores images and one label map per case. A mask that comes with the image
(Hänsch et al. 2022: the liver mask serves sampling and the loss, and is never an input of the
network) is therefore converted as a last channel "noNorm", which dataset.json names
(`nnunet_liver_ext.dataset_json.organ_mask`). Preprocessing interpolates it with splines, so here it
becomes a mask again (above one half), and nnU-Net's loader gets it where a cascade would have the
segmentation of its first stage: segmentation channel 1. So it is cropped, flipped and deformed like
a label, and no intensity transform touches it. Outside the image the loader pads with −1, which
nnU-Net's transforms turn into 0.

Stored arrays stay on disk; a patch is all that is read.

C image channels, ... the spatial axes (z, y, x).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset

from nnunet_liver_ext.errors import InputError


class OrganChannel:
    """A preprocessed dataset whose last channel is nnU-Net's `seg_prev` rather than an image.

    Everything else is the dataset's own; the network gets one channel less.

    Args:
        dataset: of one fold.
        channel: index of the liver mask, the last one.
    """

    def __init__(self, dataset: nnUNetBaseDataset, channel: int) -> None:
        self.dataset = dataset
        self.channel = channel
        self.identifiers = dataset.identifiers

    def load_case(self, identifier: str) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Image (C − 1, ...), label map (1, ...), liver mask (...) of int8, nnU-Net's properties.

        Raises:
            InputError: the stored case has not its liver mask as the last channel, or is the second
                stage of a cascade.
        """
        data, seg, previous, properties = self.dataset.load_case(identifier)
        if previous is not None:
            raise InputError(
                f"{identifier}: a cascade cannot be trained on a dataset with an organ_mask."
            )
        if data.shape[0] != self.channel + 1:
            raise InputError(
                f"{identifier}: is stored with {data.shape[0]} channels, but its liver mask should"
                f" be the last of {self.channel + 1}; preprocess the dataset again."
            )
        return LeadingChannels(data, self.channel), seg, Mask(data, self.channel), properties

    def properties(self, identifier: str) -> dict[str, Any]:
        """What nnU-Net has stored beside a case's arrays, without opening those."""
        return load_pickle(str(Path(self.dataset.source_folder) / f"{identifier}.pkl"))


class LeadingChannels:
    """The first channels of an image, (C, ...); what is not asked for is not read."""

    def __init__(self, stored: Any, channels: int) -> None:
        self.stored = stored
        self.shape = (channels, *stored.shape[1:])
        self.ndim = len(self.shape)
        self.dtype = stored.dtype

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is Ellipsis:
            first, rest = slice(None), [Ellipsis, *rest] if rest else []
        if not isinstance(first, slice):
            return np.asarray(
                self.stored[(range(self.shape[0])[first], *rest)]
            )  # IndexError beyond the last one
        return np.asarray(self.stored[(slice(*first.indices(self.shape[0])), *rest)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype=dtype)


class Mask:
    """One channel of an image as a mask, (...) of int8: 1 where it is above one half."""

    def __init__(self, stored: Any, channel: int) -> None:
        self.stored = stored
        self.channel = channel
        self.shape = tuple(stored.shape[1:])
        self.ndim = len(self.shape)
        self.dtype = np.dtype(np.int8)

    def __getitem__(self, key: Any) -> np.ndarray:
        rest = key if isinstance(key, tuple) else (key,)
        channel = np.asarray(self.stored[(slice(self.channel, self.channel + 1), *rest)])[0]
        return (channel > 0.5).astype(np.int8)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self[:], dtype=dtype)
