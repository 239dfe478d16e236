"""Sizes and receptive fields of encoder-decoder networks, computed from their layers.

Stages are counted from full resolution (0) to the coarsest. All convolutions here have odd kernels;
their views are counted as if they were padded to keep the size, which is what cropping at the
centre makes of unpadded ones, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

View = tuple[int, int]
"""First and last voxel along one axis."""


@dataclass(frozen=True)
class UShape:
    """Convolutions of an encoder-decoder network, in the order in which they run within a stage.

    encoder[0] … encoder[n-1] and decoder[0] … decoder[n-2]; upsampling[i] leads from stage i+1 to
    stage i, and is a transposed convolution whose kernel is its stride, or None for linear
    interpolation. Strided convolutions stand in their encoder stage; pooling[i] is what is pooled
    before stage i, 1 where nothing is.
    """

    encoder: Sequence[nn.Module]
    decoder: Sequence[nn.Module]
    upsampling: Sequence[nn.Module | None]
    pooling: Sequence[Sequence[int]]
    strides: Sequence[Sequence[int]]

    def feature_maps(self, size: Sequence[int]) -> tuple[int, list[tuple[int, ...]]]:
        """Numbers that all convolutions give for one image of `size`, and the size of each stage's
        output in the decoder.

        The coarsest stage's output, last in the list, is the encoder's.
        """
        numbers, size = 0, tuple(size)
        for block, pooling in zip(self.encoder, self.pooling, strict=True):
            size = tuple(n // step for n, step in zip(size, pooling, strict=True))
            found, size = _through(block, size)
            numbers += found
        sizes = [size]
        for stage in reversed(range(len(self.decoder))):
            size = tuple(n * step for n, step in zip(size, self.strides[stage + 1], strict=True))
            numbers += sum(
                conv.out_channels * prod(size) for conv in _convolutions(self.upsampling[stage])
            )
            found, size = _through(self.decoder[stage], size)
            numbers += found
            sizes.append(size)
        return numbers, sizes[::-1]

    def view(self, axis: int, view: View, stage: int = 0) -> View:
        """Voxels of the image behind some voxels of the decoder's output in a stage (the encoder's
        in the coarsest)."""
        if stage == len(self.encoder) - 1:
            return self._encoder_view(axis, view, stage)
        inside = back_through(self.decoder[stage], axis, view)
        step = self.strides[stage + 1][axis]
        linear = self.upsampling[stage] is None
        below = (
            interpolated_view(inside, step) if linear else (inside[0] // step, inside[1] // step)
        )
        return hull(self._encoder_view(axis, inside, stage), self.view(axis, below, stage + 1))

    def _encoder_view(self, axis: int, view: View, stage: int) -> View:
        first, last = back_through(self.encoder[stage], axis, view)
        if stage == 0:
            return first, last
        step = self.pooling[stage][axis]
        return self._encoder_view(axis, (first * step, last * step + step - 1), stage - 1)


def back_through(block: nn.Module, axis: int, view: View) -> View:
    """What a chain of convolutions sees of its input."""
    first, last = view
    for convolution in reversed(list(_convolutions(block))):
        stride, reach = convolution.stride[axis], convolution.kernel_size[axis] // 2
        first, last = first * stride - reach, last * stride + reach
    return first, last


def interpolated_view(view: View, factor: int) -> View:
    """What linear interpolation by a factor (`align_corners=False`) sees of the coarse axis.

    Fine voxel i lies at (i + 1/2) / f - 1/2, between two coarse ones.
    """
    if factor == 1:
        return view

    def lower(voxel: int) -> int:
        return (2 * voxel + 1 - factor) // (2 * factor)

    first, last = view
    on_a_voxel = (2 * last + 1 - factor) % (2 * factor) == 0  # odd factors have such voxels
    return lower(first), lower(last) + (0 if on_a_voxel else 1)


def hull(*views: View) -> View:
    """The smallest view that holds all."""
    return min(first for first, _ in views), max(last for _, last in views)


def _through(block: nn.Module, size: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Numbers that the convolutions of a chain give, and the size of the last one's output."""
    numbers = 0
    for conv in _convolutions(block):
        axes = zip(size, conv.padding, conv.kernel_size, conv.stride, strict=True)
        size = tuple(
            (n + 2 * padding - kernel) // stride + 1 for n, padding, kernel, stride in axes
        )
        numbers += conv.out_channels * prod(size)
    return numbers, size


def _convolutions(block: nn.Module | None) -> Iterator[Any]:
    if block is not None:
        yield from (module for module in block.modules() if isinstance(module, _ConvNd))
