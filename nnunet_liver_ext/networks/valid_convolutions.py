"""Unpadded encoder-decoder networks: what they lose, which sizes fit, and tiles of a volume.

A `ValidAxis` holds what concerns one axis; three of them make a `ValidGeometry`. A stage's encoder
and decoder block lose `loss` voxels in all at that stage's resolution. Sizes fit when every pooling
and every transposed convolution divides without a rest (Hänsch et al. 2022, figure 1: 236 x 236 x
72 in, 52 x 52 x 32 out).

B batch, C channels of the image, K classes, Z Y X voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from torch import Tensor
from torch.nn import functional

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks.network import Size


@dataclass(frozen=True)
class ValidAxis:
    """One axis of an unpadded network.

    encoder_loss[0] … [n-1] and decoder_loss[0] … [n-2] in voxels of the stage, both sides together;
    strides[0] is 1.
    """

    encoder_loss: tuple[int, ...]
    decoder_loss: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def step(self) -> int:
        """Sizes that fit are so far apart."""
        return prod(self.strides)

    @property
    def crops(self) -> tuple[int, ...]:
        """What is cut from each side of a stage's encoder output before it is concatenated."""
        crops: list[int] = [0]  # of the coarsest stage, which has no skip
        for stage in reversed(range(len(self.decoder_loss))):
            below = self.encoder_loss[stage + 1] // 2 + crops[-1]
            below += self.decoder_loss[stage + 1] // 2 if stage + 1 < len(self.decoder_loss) else 0
            crops.append(self.strides[stage + 1] * below)
        return tuple(crops[:0:-1])

    @property
    def margin(self) -> int:
        """Voxels that the output lacks on each side."""
        return self.encoder_loss[0] // 2 + self.crops[0] + self.decoder_loss[0] // 2

    @property
    def smallest_output(self) -> int:
        """The smallest output that fits; adding multiples of `step` gives all others."""
        return next(size for size in range(1, self.step + 1) if self._fits(size))

    @property
    def smallest_input(self) -> int:
        """The smallest input that fits."""
        return self.smallest_output + 2 * self.margin

    def _fits(self, output: int) -> bool:
        for loss, stride in zip(self.decoder_loss, self.strides[1:], strict=True):
            if (output + loss) % stride:
                return False
            output = (output + loss) // stride
        return True

    def output_for(self, size: int) -> int:
        """The smallest output that fits and has `size` voxels at least."""
        return (
            self.smallest_output
            + max(0, -(-(size - self.smallest_output) // self.step)) * self.step
        )

    def takes(self, size: int) -> bool:
        """Whether an input of `size` fits."""
        output = size - 2 * self.margin
        return output >= 1 and self.output_for(output) == output

    def nearest_inputs(self, size: int) -> list[int]:
        """The inputs that fit next below and above `size`; `size` alone if it fits."""
        if self.takes(size):
            return [size]
        above = self.output_for(size - 2 * self.margin)
        outputs = [output for output in (above - self.step, above) if output >= 1]
        return [output + 2 * self.margin for output in outputs]

    def tiling(self, size: int, largest: int) -> tuple[int, int, int]:
        """Equal tiles for a volume of `size`: how many, how far apart, and each one's output.

        They are multiples of `step` apart, so that each voxel is computed as in one tile of the
        whole volume.
        """
        if self.output_for(size) <= max(largest, self.smallest_output):
            return 1, 0, self.output_for(size)
        advance = max(largest // self.step * self.step, self.step)
        number = -(-size // advance)
        advance = -(-size // (number * self.step)) * self.step
        return -(-size // advance), advance, self.output_for(advance)


@dataclass(frozen=True)
class ValidGeometry:
    """The three axes (z, y, x) of an unpadded network."""

    axes: tuple[ValidAxis, ValidAxis, ValidAxis]

    @property
    def margin(self) -> Size:
        z, y, x = (axis.margin for axis in self.axes)
        return z, y, x

    def crops(self, stage: int) -> Size:
        """What is cut from each side of a stage's skip."""
        z, y, x = (axis.crops[stage] for axis in self.axes)
        return z, y, x

    def check_input(self, name: str, size: Sequence[int]) -> None:
        """Raises InputError for a size that does not fit, with those next to it that do."""
        if all(axis.takes(n) for axis, n in zip(self.axes, size, strict=True)):
            return
        fitting = [
            "/".join(map(str, axis.nearest_inputs(n)))
            for axis, n in zip(self.axes, size, strict=True)
        ]
        raise InputError(
            f"{name} with padding='valid' cannot take patches of {_join_numbers(size)} voxels"
            f" (z y x): take sizes such as {_join_numbers(fitting)}, which are"
            f" {_join_numbers([2 * n for n in self.margin])} larger than its output."
        )

    def segment_whole_volume(
        self, network: Callable[[Tensor], Tensor], x: Tensor, *, largest: Sequence[int]
    ) -> Tensor:
        """Logits of the size of the volume: zeros around it, and the network on tiles of it.

        Args:
            network: unpadded, from (B, C, Z, Y, X) to (B, K, ...) smaller by the margin.
            x: a volume of any size.
            largest: output of a tile (z, y, x), in voxels.

        Returns:
            What one pass over the whole padded volume gives. Only one tile's feature maps are held
            at a time.
        """
        size = x.shape[2:]
        tilings = [
            axis.tiling(n, most) for axis, n, most in zip(self.axes, size, largest, strict=True)
        ]
        padded = self._padded(x, tilings)
        logits: Tensor | None = None
        for starts in product(
            *(range(0, max(1, number * advance), max(1, advance)) for number, advance, _ in tilings)
        ):
            ends = [
                start + output + 2 * n
                for start, (_, _, output), n in zip(starts, tilings, self.margin, strict=True)
            ]
            tile = network(padded[_region(starts, ends)])
            if logits is None:
                logits = tile.new_empty((*tile.shape[:2], *size))
            kept = [min(tile.shape[2 + axis], n - starts[axis]) for axis, n in enumerate(size)]
            logits[_region(starts, [start + n for start, n in zip(starts, kept, strict=True)])] = (
                tile[_region((0, 0, 0), kept)]
            )
        if logits is None:
            raise InputError(f"A volume of {_join_numbers(size)} voxels has nothing to segment.")
        return logits

    def _padded(self, x: Tensor, tilings: Sequence[tuple[int, int, int]]) -> Tensor:
        behind = [
            (number - 1) * advance + output + margin - n
            for (number, advance, output), margin, n in zip(
                tilings, self.margin, x.shape[2:], strict=True
            )
        ]
        around = zip(reversed(self.margin), reversed(behind), strict=True)
        return functional.pad(x, [n for before_and_behind in around for n in before_and_behind])


def crop(x: Tensor, margin: Sequence[int]) -> Tensor:
    """Cuts `margin` voxels from both sides of each axis of (B, C, Z, Y, X)."""
    return x[_region(margin, [size - n for n, size in zip(margin, x.shape[2:], strict=True)])]


def _join_numbers(numbers: Sequence[int] | Sequence[str]) -> str:
    return " x ".join(map(str, numbers))


def _region(starts: Sequence[int], ends: Sequence[int]) -> Any:
    return (..., *[slice(start, end) for start, end in zip(starts, ends, strict=True)])
