"""What the networks of this package have in common: the contract with nnU-Net, the trainers and the
predictor.

`Network(input_channels=…, num_classes=…)` is the paper's network; all else are keyword arguments,
by nnU-Net's names where it has one, so that a plans file can give them.

B batch, C channels of the image, K classes, Z Y X voxels.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from nnunet_liver_ext.errors import InputError

Size = tuple[int, int, int]


class Decoder(nn.Module):
    """Has the switch that nnU-Net looks for in `network.decoder`."""

    def __init__(self, deep_supervision: bool) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision


class SegmentationNetwork(nn.Module, ABC):
    """Images (B, C, Z, Y, X) of any size in, logits (B, K, Z, Y, X) out; with deep supervision a
    list, finest first."""

    whole_volume: bool = False
    """In evaluation one call with a whole volume gives the exact result in bounded memory: no
    sliding window is needed."""
    keeps_size_in_evaluation: bool = True
    """False: unpadded networks give the middle of a patch in evaluation, too, as in training."""
    uses_batch_statistics: bool = False
    """Normalises with the batch's own statistics in evaluation, so that the samples of a batch
    influence each other."""

    num_classes: int
    decoder: Decoder

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for images (B, C, Z, Y, X); a list of them, finest first, while
        `decoder.deep_supervision` is on."""
        levels = self.levels(x)
        return levels if self.decoder.deep_supervision else levels[0]

    def levels(self, x: Tensor) -> list[Tensor]:
        """All outputs that are wanted, finest first, for images of any size: zeros are added behind
        and cut off again."""
        size = x.shape[2:]
        wanted = [
            [max(1, round(n * scale)) for n, scale in zip(size, scales, strict=True)]
            for scales in self.supervised_scales
        ]
        outputs = self.segment(pad_behind(x, self.padded_size(size)))
        return [level[:, :, :z, :y, :x] for level, (z, y, x) in zip(outputs, wanted, strict=False)]

    @abstractmethod
    def segment(self, x: Tensor) -> list[Tensor]:
        """As `levels`, for images whose sizes are multiples of `size_multiple`; may be the finest
        alone."""

    @property
    @abstractmethod
    def size_multiple(self) -> Size:
        """The patches of a training are multiples of this (z, y, x)."""

    @property
    def supervised_scales(self) -> list[list[float]]:
        """Resolution of each output of deep supervision relative to the image, (z, y, x), finest
        first."""
        return [[1.0, 1.0, 1.0]]

    @property
    def supervision_weights(self) -> list[float] | None:
        """Weight of each output's loss; None leaves it to nnU-Net, which halves it from each level
        to the next."""
        return None

    @abstractmethod
    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Numbers that all convolutions give for one image of `input_size` voxels (z, y, x);
        nnU-Net plans by it."""

    @abstractmethod
    def voxels_seen(self, axis: int, voxel: int) -> tuple[int, int]:
        """First and last voxel of the image, along an axis, that one voxel of the finest output
        depends on.

        Counted as if the image had no end.
        """

    @property
    def receptive_field(self) -> Size:
        """Voxels (z, y, x) that one voxel of the finest output can depend on; the most, for it
        differs by position."""
        z, y, x = (self._widest_view(axis) for axis in range(3))
        return z, y, x

    def _widest_view(self, axis: int) -> int:
        views = [self.voxels_seen(axis, voxel) for voxel in range(self.size_multiple[axis])]
        return max(last - first + 1 for first, last in views)

    @property
    def num_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(parameter.numel() for parameter in self.parameters())

    def padded_size(self, size: Sequence[int]) -> Size:
        """The size (z, y, x) at which an image of `size` is computed."""
        z, y, x = [
            -(-n // multiple) * multiple
            for n, multiple in zip(size, self.size_multiple, strict=True)
        ]
        return z, y, x


def pad_behind(x: Tensor, size: Sequence[int]) -> Tensor:
    """Zeros behind each axis of (B, C, Z, Y, X), up to `size`."""
    missing = [wanted - n for n, wanted in zip(x.shape[2:], size, strict=True)]
    if not any(missing):
        return x
    return functional.pad(x, [number for n in reversed(missing) for number in (0, n)])


def check_arguments(
    network: SegmentationNetwork,
    *,
    input_channels: int,
    num_classes: int,
    conv_op: Any,
    unknown: Mapping[str, Any],
) -> None:
    """Raises InputError for arguments that the network does not know, or cannot be built with."""
    name = type(network).__name__
    if unknown:
        known = [
            key
            for key, value in inspect.signature(type(network)).parameters.items()
            if value.kind != value.VAR_KEYWORD
        ]
        raise InputError(
            f"{name} has no argument {', '.join(map(repr, unknown))}: it has {', '.join(known)}."
        )
    if conv_op is not nn.Conv3d:
        raise InputError(
            f"{name} needs conv_op torch.nn.Conv3d, but it is {_name(conv_op)}: take nnU-Net's own"
            " network for 2D images."
        )
    if input_channels < 1 or num_classes < 1:
        raise InputError(
            f"{name} needs one channel and one class at least, but has input_channels"
            f" {input_channels} and num_classes {num_classes}."
        )


def _name(thing: Any) -> str:
    return getattr(thing, "__qualname__", repr(thing))
