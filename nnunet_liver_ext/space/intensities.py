"""Intensities brought to a common range at conversion, and by the same numbers at prediction.

Slice-wise, patient-wise or over the dataset (the Antaros report, section 3.2.2): the outermost
intensities are clipped at two percentiles, and what is left goes to 0..1. By the liver (Hansch et
al. 2022, "Image pre-processing and augmentation"): the 2nd and the 98th percentile within the liver
mask go to 0 and 1, and nothing is clipped. nnU-Net does not touch such channels again: they are
called noNorm in dataset.json. With "none" the intensities stay as they are, also in nnU-Net; with
"zscore" nnU-Net gives every image a mean of 0 and a standard deviation of 1; with "nnunet" it does
what it does with a modality, which is the z-score but for CT.

Padding, such as -32768, is no intensity and counts as background (`padding`).

Axes: Z slices along the image's third axis, Y rows, X columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.padding import replace_padding

Kind = Literal["nnunet", "zscore", "none", "slice", "patient", "dataset", "organ"]
NOT_NORMALISED, Z_SCORE = "noNorm", "zscore"
"""Names of channels by which nnU-Net knows what to do with them."""
DEFAULT_PERCENTILES: Mapping[str, tuple[float, float]] = {"organ": (2.0, 98.0)}
"""Hansch et al. 2022."""
CLIPPED = (1.0, 99.0)
"""The report says "a certain percentile"; this is ours."""


@dataclass(frozen=True)
class Intensities:
    """How the channels of images are normalised before nnU-Net sees them.

    Raises:
        InputError: an unknown kind, or percentiles that are not low < high within 0..100.
    """

    kind: Kind = "nnunet"
    percentiles: tuple[float, float] = CLIPPED
    """Low and high, 0..100."""
    ranges: tuple[tuple[float, float], ...] = ()
    """What becomes 0 and 1 in each channel, once it was measured on the training images; kind
    "dataset" only."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"intensities are {', '.join(get_args(Kind))}, not {self.kind!r}.")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise InputError(
                f"percentiles are two numbers low < high in 0..100, found {low:g} and {high:g}."
            )

    @classmethod
    def of_kind(cls, kind: str, percentiles: Sequence[float] | None = None) -> Intensities:
        """Intensities of a kind; default percentiles are 2 and 98 for "organ", else 1 and 99."""
        low, high = percentiles or DEFAULT_PERCENTILES.get(kind, CLIPPED)
        return cls(kind, (float(low), float(high)))  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, entry: Mapping[str, Any] | None) -> Intensities:
        """What `to_json` wrote.

        Without an entry, and with a "none" of before there were names of channels, normalisation
        was left to nnU-Net.
        """
        if entry is None or entry == {"kind": "none"}:
            return cls()
        intensities = cls.of_kind(entry["kind"], entry.get("percentiles"))
        return intensities.with_ranges(
            [(float(low), float(high)) for low, high in entry.get("ranges", ())]
        )

    def to_json(self) -> dict[str, Any]:
        if not self.is_normalising:
            called = {} if self.channel_name is None else {"channels": self.channel_name}
            return {"kind": self.kind, **called}
        entry: dict[str, Any] = {"kind": self.kind, "percentiles": list(self.percentiles)}
        return entry | ({"ranges": [list(pair) for pair in self.ranges]} if self.ranges else {})

    def with_ranges(self, ranges: Sequence[tuple[float, float]]) -> Intensities:
        return replace(self, ranges=tuple(ranges))

    @property
    def is_normalising(self) -> bool:
        """Whether intensities are changed before nnU-Net sees them."""
        return self.kind not in ("nnunet", "zscore", "none")

    @property
    def channel_name(self) -> str | None:
        """What all channels are called in dataset.json; None: by their modalities."""
        return {"nnunet": None, "zscore": Z_SCORE}.get(self.kind, NOT_NORMALISED)

    @property
    def needs_measuring(self) -> bool:
        """Whether the training images have to be looked at before anything can be normalised."""
        return self.kind == "dataset" and not self.ranges

    def apply(
        self, channel_ZYX: np.ndarray, organ_ZYX: np.ndarray | None = None, *, index: int = 0
    ) -> np.ndarray:
        """One channel normalised.

        Args:
            channel_ZYX: intensities.
            organ_ZYX: liver mask of the same shape, needed by kind "organ".
            index: number of the channel; kind "dataset" has a range for each.

        Returns:
            float32 of the same shape, in 0..1 except for kind "organ"; the channel itself where
            nothing is to be done here.

        Raises:
            InputError: the image has no range (it is constant up to its percentiles), no liver mask
                or an empty one, or the ranges are not measured. The message does not know the file.
        """
        if not self.is_normalising:
            return channel_ZYX
        channel_ZYX = replace_padding(channel_ZYX)
        if self.kind == "slice":
            return self._slice_by_slice(channel_ZYX)
        if self.kind == "organ":
            return _scale(channel_ZYX, self._range_of(_values_within(channel_ZYX, organ_ZYX)))
        if self.kind == "dataset":
            return np.clip(_scale(channel_ZYX, self._measured_range(index)), 0, 1)
        return np.clip(_scale(channel_ZYX, self._range_of(channel_ZYX)), 0, 1)

    def _slice_by_slice(self, channel_ZYX: np.ndarray) -> np.ndarray:
        """Each slice in its own range; one without contrast becomes 0.

        An image that has no slice with contrast is refused.
        """
        limits_Z2 = np.percentile(channel_ZYX, self.percentiles, axis=(1, 2)).T
        if not (limits_Z2[:, 1] > limits_Z2[:, 0]).any():
            self._range_of(channel_ZYX[0])
        normalised = np.zeros(channel_ZYX.shape, np.float32)
        for z, (low, high) in enumerate(limits_Z2):
            if high > low:
                normalised[z] = np.clip(_scale(channel_ZYX[z], (low, high)), 0, 1)
        return normalised

    def _measured_range(self, index: int) -> tuple[float, float]:
        if index >= len(self.ranges):
            raise InputError(
                f"the dataset's range of channel {index} is not known; convert the dataset again."
            )
        return self.ranges[index]

    def _range_of(self, values: np.ndarray) -> tuple[float, float]:
        low, high = (float(value) for value in np.percentile(values, self.percentiles))
        if not high > low:
            of = "the liver mask" if self.kind == "organ" else "the image"
            raise InputError(
                f"has no contrast to normalise: percentiles {self.percentiles[0]:g} and"
                f" {self.percentiles[1]:g} of {of} are both {low:g}; take wider --clip-percentiles"
                " or leave the study out."
            )
        return low, high


def _scale(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    low, high = limits
    return ((values.astype(np.float32) - np.float32(low)) / np.float32(high - low)).astype(
        np.float32
    )


def _values_within(channel_ZYX: np.ndarray, organ_ZYX: np.ndarray | None) -> np.ndarray:
    if organ_ZYX is None:
        raise InputError("has no liver mask, by which its intensities would be normalised.")
    values = channel_ZYX[organ_ZYX > 0]
    if values.size == 0:
        raise InputError("has an empty liver mask, by which its intensities would be normalised.")
    return values
