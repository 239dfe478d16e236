"""How a registor finds a shift and a linear map.

The shift comes from a correlation of learned features, the map from both masks about their
centroids.

The paper gives no network for translations and rigid transforms. Convolutions with global pooling
forget where things are; a correlation of small learned features over all shifts knows it from the
beginning and only has to learn to be sharp.

B batch, C classes, F features, D spatial axes, ... the D spatial axes themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_liver_ext.deformation import voxel_positions, warp

CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
MAX_POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class CorrelationShift(nn.Module):
    """The shift d for which first(p + d) looks like second(p), by correlation of learned features.

        r(d) = Σ_F Σ_p f1(p + d) · f2(p) / (‖f1‖ · ‖f2‖)
        shift = Σ_d d · softmax(sharpness · r)(d)

    over all d within the bound, on a grid that is up to four times coarser than the voxels; the
    mean of a smooth peak is finer than its grid. The features have no bias, so that the background
    is zero and no different from the outside: without foreground the shift is zero.
    """

    features = 8
    finest_grid = 32
    """Axes are averaged as long as the patch keeps so many cells."""
    sharpness_per_weight = 1000.0
    """Sharpness that a weight of one stands for.

    Adam moves a weight by about its learning rate in a step: at 1e-3 the sharpness grows by one.
    """
    initial_sharpness = 0.002

    def __init__(
        self, channels: int, *, patch_size: Sequence[int], max_shift_voxels: Sequence[float]
    ) -> None:
        super().__init__()
        convolution = CONVOLUTION[len(patch_size)]
        self.stride = tuple(_cell_size(n, self.finest_grid) for n in patch_size)
        self.reach = tuple(
            math.ceil(bound / cell) + 1
            for bound, cell in zip(max_shift_voxels, self.stride, strict=True)
        )
        self.extract = nn.Sequential(
            convolution(channels, self.features, 3, padding=1, bias=False),
            nn.ReLU(),
            convolution(self.features, self.features, 3, padding=1, bias=False),
        )
        self.sharpness = nn.Parameter(
            torch.tensor(self.initial_sharpness / self.sharpness_per_weight)
        )
        self.register_buffer(
            "bound", torch.tensor(max_shift_voxels, dtype=torch.float32), persistent=False
        )
        initialise_he(self.extract)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Masks (B, C, ...), float32 -> shift in voxels (B, D), within the bounds."""
        coarse = _average(torch.cat([first, second]), self.stride)
        correlation = cross_correlation(*self.extract(coarse).chunk(2), reach=self.reach)
        likely = (correlation.flatten(1) * (self.sharpness * self.sharpness_per_weight)).softmax(1)
        cells = voxel_positions(correlation.shape[1:], likely) - _as_column(
            likely.new_tensor(self.reach)
        )
        shift = (likely[:, None] * cells.flatten(2)).sum(2) * likely.new_tensor(self.stride)
        bound: Tensor = self.get_buffer("bound")
        return shift.clamp(-bound, bound)


LONGEST_SIDE_CELLS = {2: 32, 3: 20}
"""Cells of `CentredLook` along the longest side of the patch."""


class CentredLook(nn.Module):
    """Numbers for how two masks differ, each seen about its own centroid on one coarse grid.

    The grid has cells of one size in millimetres, as wide as the patch; its positions are kept (no
    global pooling), because where the masks differ is what tells a rotation from a stretch.
    """

    def __init__(
        self, channels: int, outputs: int, *, patch_size: Sequence[int], spacing_mm: Sequence[float]
    ) -> None:
        super().__init__()
        dims = len(patch_size)
        extent_mm = [n * spacing for n, spacing in zip(patch_size, spacing_mm, strict=True)]
        cell_mm = max(extent_mm) / LONGEST_SIDE_CELLS[dims]
        self.size = tuple(max(4, round(extent / cell_mm)) for extent in extent_mm)
        self.pitch = tuple(n / cells for n, cells in zip(patch_size, self.size, strict=True))
        self.stride = tuple(2 ** max(0, math.floor(math.log2(pitch))) for pitch in self.pitch)
        convolution, shrunk = (
            CONVOLUTION[dims],
            math.prod(math.ceil(math.ceil(n / 2) / 2) for n in self.size),
        )
        self.layers = nn.Sequential(
            convolution(2 * channels, 16, 3, padding=1, stride=2),
            nn.ReLU(),
            convolution(16, 32, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * shrunk, 128),
            nn.ReLU(),
            nn.Linear(128, outputs),
        )
        initialise_he(self.layers)
        # far from the centroid, small angles are many voxels
        initialise_near_zero(self.layers[-1], std=2e-4)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Masks (B, C, ...), float32 -> (B, outputs), near zero at first."""
        answer: Tensor = self.layers(torch.cat([self._centre(first), self._centre(second)], 1))
        return answer

    def _centre(self, masks: Tensor) -> Tensor:
        """(B, C, *self.size): the masks around their centroid."""
        averaged = _average(masks, self.stride)
        stride, pitch = averaged.new_tensor(self.stride), averaged.new_tensor(self.pitch)
        cells = voxel_positions(self.size, averaged)
        offset = (cells - _as_column(averaged.new_tensor(self.size) - 1) / 2) * _as_column(pitch)
        wanted = (offset + _as_column(centroid(masks)) + 0.5) / _as_column(stride) - 0.5
        return warp(averaged, wanted - cells)


def centroid(masks: Tensor) -> Tensor:
    """Centre of mass of all classes together in voxel coordinates, (B, D).

    Without foreground it is the centre of the grid.

    Args:
        masks: (B, C, ...), not negative.
    """
    weight = masks.sum(1, keepdim=True)
    size = masks.new_tensor(masks.shape[2:])
    positions = voxel_positions(masks.shape[2:], masks) - _as_column(
        (size - 1) / 2
    )  # about the centre: zero over zero is zero
    offset = (weight * positions).flatten(2).sum(2) / (weight.flatten(2).sum(2) + 1e-3)
    return offset + (size - 1) / 2


def cross_correlation(first: Tensor, second: Tensor, *, reach: Sequence[int]) -> Tensor:
    """r(d) = Σ_F Σ_p first(p + d) · second(p) / (‖first‖ · ‖second‖) for |d| <= reach.

    Beyond the images there are zeros.

    Args:
        first: (B, F, ...), float32.
        second: (B, F, ...).
        reach: in cells.

    Returns:
        (B, 2 · reach + 1, ...), the shift of zero in the middle; 0 where a side is empty.
    """
    axes = tuple(range(2, first.ndim))
    padded = [
        _next_smooth_number(max(n, cells + 1) + cells)
        for n, cells in zip(first.shape[2:], reach, strict=True)
    ]
    product = torch.fft.rfftn(first, padded, axes) * torch.fft.rfftn(second, padded, axes).conj()
    correlation: Tensor = torch.fft.irfftn(product.sum(1), padded, tuple(range(1, first.ndim - 1)))
    for axis, cells in enumerate(reach, start=1):
        correlation = correlation.roll(cells, axis).narrow(axis, 0, 2 * cells + 1)
    norms = first.flatten(1).square().sum(1) * second.flatten(1).square().sum(1)
    return correlation / (norms + 1e-12).sqrt().view(-1, *[1] * len(reach))


def initialise_he(module: nn.Module) -> None:
    """He initialisation of every layer in it that is followed by a ReLU, biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def initialise_near_zero(layer: nn.Module, std: float = 1e-3) -> None:
    """Gives a last layer small weights.

    The answer is nearly the identity at first, yet not the plateau that exact zeros are.
    """
    nn.init.normal_(layer.get_parameter("weight"), std=std)


def pad_to_multiple(masks: Tensor, steps: Sequence[int]) -> Tensor:
    """Zeros at the far end of each axis, up to a multiple of its step."""
    reversed_axes = zip(masks.shape[:1:-1], steps[::-1], strict=True)
    return functional.pad(masks, [amount for n, step in reversed_axes for amount in (0, -n % step)])


def _average(masks: Tensor, stride: Sequence[int]) -> Tensor:
    """Mean over cells of `stride` voxels, zero beyond the far end."""
    pool = functional.avg_pool2d if masks.ndim == 4 else functional.avg_pool3d
    return pool(pad_to_multiple(masks, stride), tuple(stride))


def _cell_size(n: int, finest: int) -> int:
    return max(step for step in (1, 2, 4) if step == 1 or n // step >= finest)


def _next_smooth_number(n: int) -> int:
    """The next even number with no prime factor beyond 5, which Fourier transforms like."""
    while n % 2 or _divide_out(n, (2, 3, 5)) > 1:
        n += 1
    return n


def _divide_out(n: int, factors: Sequence[int]) -> int:
    for factor in factors:
        while n % factor == 0:
            n //= factor
    return n


def _as_column(vector: Tensor) -> Tensor:
    """(D,) or (B, D) -> (1 or B, D, 1, ...), to be added to fields."""
    dims = vector.shape[-1]
    return vector.reshape(-1, dims, *[1] * dims)
