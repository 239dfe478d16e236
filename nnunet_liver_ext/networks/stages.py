"""The stages of an encoder-decoder network: nnU-Net's arguments, checked, for each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks.network import Size


@dataclass(frozen=True)
class Stages:
    """Of each stage, from full resolution to the coarsest; sizes are (z, y, x)."""

    strides: tuple[Size, ...]
    features: tuple[int, ...]
    kernels: tuple[Size, ...]
    convolutions: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.strides)

    @property
    def total_stride(self) -> Size:
        """Voxels of the image in one of the coarsest stage's."""
        return self.stride_to(len(self) - 1)

    def stride_to(self, stage: int) -> Size:
        """Voxels of the image in one of the stage's."""
        z, y, x = 1, 1, 1
        for stride in self.strides[: stage + 1]:
            z, y, x = z * stride[0], y * stride[1], x * stride[2]
        return z, y, x

    def scale(self, stage: int) -> list[float]:
        """Resolution of a stage relative to the image."""
        return [1 / stride for stride in self.stride_to(stage)]


def resolve_stages(
    network: str,
    *,
    strides: Sequence[Sequence[int]],
    features_per_stage: Sequence[int],
    kernel_sizes: Sequence[Sequence[int] | int] | int = 3,
    n_conv_per_stage: Sequence[int] | int = 2,
    n_stages: int | None = None,
) -> Stages:
    """The stages that a network's arguments describe.

    Raises:
        InputError: lists of different lengths, a first stride that is not 1, even kernels, numbers
            below 1, or one stage.
    """
    number = len(strides)
    if number < 2 or n_stages not in (None, number):
        raise InputError(
            f"{network} needs two stages at least and as many strides as stages, but has n_stages"
            f" {n_stages} and strides {_as_text(strides)}."
        )
    stages = Stages(
        strides=tuple(_check_axes(network, "strides", stride) for stride in strides),
        features=_spread_over_stages(network, "features_per_stage", features_per_stage, number),
        kernels=_resolve_kernels(network, kernel_sizes, number),
        convolutions=_spread_over_stages(network, "n_conv_per_stage", n_conv_per_stage, number),
    )
    if stages.strides[0] != (1, 1, 1):
        raise InputError(
            f"{network} needs [1, 1, 1] as its first stride, but it is {_as_text(strides)}."
        )
    if any(size % 2 == 0 for kernel in stages.kernels for size in kernel):
        raise InputError(
            f"{network} needs odd kernel_sizes, but they are {_as_text(stages.kernels)}."
        )
    return stages


def _resolve_kernels(
    network: str, kernel_sizes: Sequence[Sequence[int] | int] | int, number: int
) -> tuple[Size, ...]:
    listed = [kernel_sizes] * number if isinstance(kernel_sizes, int) else list(kernel_sizes)
    if len(listed) != number:
        raise InputError(
            f"{network} has {number} strides, but {len(listed)} kernel_sizes: give one for each"
            " stage."
        )
    return tuple(
        _check_axes(network, "kernel_sizes", [size] * 3 if isinstance(size, int) else size)
        for size in listed
    )


def _check_axes(network: str, what: str, values: Sequence[int]) -> Size:
    if len(values) != 3 or min(values) < 1:
        raise InputError(
            f"{network} needs {what} of three numbers (z, y, x) from 1, but one is {list(values)}."
        )
    z, y, x = (int(value) for value in values)
    return z, y, x


def _spread_over_stages(
    network: str, what: str, values: Sequence[int] | int, number: int
) -> tuple[int, ...]:
    listed = [values] * number if isinstance(values, int) else [int(value) for value in values]
    if len(listed) != number or min(listed) < 1:
        raise InputError(
            f"{network} needs {what} of {number} numbers from 1, one for each stage, but has"
            f" {listed}."
        )
    return tuple(listed)


def _as_text(values: Sequence[Sequence[int]]) -> str:
    return str([list(value) for value in values])
