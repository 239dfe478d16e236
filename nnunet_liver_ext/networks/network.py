"""The contract of our networks with nnU-Net, the trainers and the predictor.

`Network(input_channels=…, num_classes=…)` is the paper's network; all else are keyword arguments,
by nnU-Net's names where it has one, so that a plans file can give them.

B batch, C channels of the image, K classes, Z Y X voxels.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd

from nnunet_liver_ext.errors import InputError

Size = tuple[int, int, int]


class PatchSizes(NamedTuple):
    """Sizes that a training patch may have along one axis: smallest + n · step, n = 0, 1, ..."""

    smallest: int
    step: int

    def hold(self, size: int) -> bool:
        """Whether `size` is one of them."""
        return size >= self.smallest and (size - self.smallest) % self.step == 0


class Decoder(nn.Module):
    """Has the switch that nnU-Net looks for in `network.decoder`."""

    def __init__(self, deep_supervision: bool) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision


class SegmentationNetwork(nn.Module, ABC):
    """Images (B, C, Z, Y, X) of any size in, logits (B, K, Z, Y, X) out.

    With deep supervision a list of logits comes out, finest first.
    """

    whole_volume: bool = False
    """Whether in evaluation one call with a whole volume is exact and takes bounded memory.

    Then no window has to slide.
    """
    keeps_size_in_evaluation: bool = True
    """False: unpadded networks give the middle of a patch in evaluation, too, as in training."""
    takes_slices: bool = False
    """Whether it can be built for 2D images (B, C, Y, X), with conv_op Conv2d."""
    uses_batch_statistics: bool = False
    """Whether it normalises with the batch's own statistics in evaluation.

    Then the samples of a batch influence each other.
    """

    decoder: Decoder

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        *,
        conv_op: Any = nn.Conv3d,
        unknown: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            input_channels: C of the images.
            num_classes: K.
            conv_op: nnU-Net's argument of this name; Conv2d only where the network takes slices.
            unknown: arguments that the network does not have.

        Raises:
            InputError: the network cannot be built with these arguments.
        """
        super().__init__()
        _check_arguments(type(self), input_channels, num_classes, conv_op, unknown or {})
        self.input_channels, self.num_classes = input_channels, num_classes

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for images (B, C, Z, Y, X).

        While `decoder.deep_supervision` is on, it is a list of them, finest first.
        """
        levels = self.levels(x)
        return levels if self.decoder.deep_supervision else levels[0]

    def levels(self, x: Tensor) -> list[Tensor]:
        """All outputs that are wanted, finest first, for images of any size.

        Zeros are added behind the image and cut off again.
        """
        size = x.shape[2:]
        wanted = [
            [max(1, round(n * scale)) for n, scale in zip(size, scales, strict=True)]
            for scales in self.supervised_scales
        ]
        outputs = self.segment(pad_behind(x, self.padded_size(size)))
        return [cut_behind(level, size) for level, size in zip(outputs, wanted, strict=False)]

    @abstractmethod
    def segment(self, x: Tensor) -> list[Tensor]:
        """The outputs, or the finest alone, for sizes that are multiples of `size_multiple`."""

    @property
    @abstractmethod
    def size_multiple(self) -> tuple[int, ...]:
        """Images are computed at sizes that are multiples of this (z, y, x)."""

    @property
    def patch_sizes(self) -> tuple[PatchSizes, ...]:
        """What a training's patches may measure along each axis (z, y, x)."""
        return tuple(PatchSizes(step, step) for step in self.size_multiple)

    def check_patch(self, size: Sequence[int]) -> None:
        """Raises InputError for a size (z, y, x) that no patch of a training may have."""
        if not all(sizes.hold(n) for sizes, n in zip(self.patch_sizes, size, strict=True)):
            raise InputError(
                f"{type(self).__name__} cannot take patches of {' x '.join(map(str, size))} voxels"
                f" (z y x): they must be multiples of {self.size_multiple}."
            )

    @property
    def supervised_scales(self) -> list[list[float]]:
        """Resolution (z, y, x) of each supervised output relative to the image, finest first."""
        return [[1.0] * len(self.size_multiple)]

    @property
    def supervision_weights(self) -> list[float] | None:
        """Weight of each output's loss, finest first.

        None leaves it to nnU-Net, which halves it from each level to the next.
        """
        return None

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Numbers that all convolutions give for one training image; nnU-Net's measure of memory.

        A copy of the network without content runs once, and every convolution's output is counted.

        Args:
            input_size: of the image (z, y, x), in voxels.

        Raises:
            InputError: an unpadded network does not take this size.
        """
        network = deepcopy(self).to("meta").train()
        numbers: list[int] = []
        for module in network.modules():
            if isinstance(module, _ConvNd):
                module.register_forward_hook(lambda _, __, output: numbers.append(output.numel()))
        with torch.no_grad():  # two images, for one may be too little for batch norm
            network(torch.empty(2, self.input_channels, *input_size, device="meta"))
        return sum(numbers) // 2

    @property
    def num_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(parameter.numel() for parameter in self.parameters())

    def padded_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """The size (z, y, x) at which an image of `size` is computed."""
        return tuple(
            -(-n // multiple) * multiple
            for n, multiple in zip(size, self.size_multiple, strict=True)
        )


def pad_behind(x: Tensor, size: Sequence[int]) -> Tensor:
    """Zeros behind each axis of (B, C, Z, Y, X), up to `size`."""
    missing = [wanted - n for n, wanted in zip(x.shape[2:], size, strict=True)]
    if not any(missing):
        return x
    return functional.pad(x, [number for n in reversed(missing) for number in (0, n)])


def cut_behind(x: Tensor, size: Sequence[int]) -> Tensor:
    """What `pad_behind` has added to a tensor of `size` cut off again."""
    for axis, n in enumerate(size, start=2):
        x = x.narrow(axis, 0, n)
    return x


def _check_arguments(
    network: type[SegmentationNetwork],
    input_channels: int,
    num_classes: int,
    conv_op: Any,
    unknown: Mapping[str, Any],
) -> None:
    name = network.__name__
    if unknown:
        known = [
            key
            for key, value in inspect.signature(network).parameters.items()
            if value.kind != value.VAR_KEYWORD
        ]
        raise InputError(
            f"{name} has no argument {', '.join(map(repr, unknown))}: it has {', '.join(known)}."
        )
    if conv_op is not nn.Conv3d and not (network.takes_slices and conv_op is nn.Conv2d):
        raise InputError(
            f"{name} needs conv_op torch.nn.Conv3d, but it is {_display_name(conv_op)}: take"
            " nnU-Net's own network for 2D images."
        )
    if input_channels < 1 or num_classes < 1:
        raise InputError(
            f"{name} needs one channel and one class at least, but has input_channels"
            f" {input_channels} and num_classes {num_classes}."
        )


def _display_name(thing: Any) -> str:
    return getattr(thing, "__qualname__", repr(thing))
