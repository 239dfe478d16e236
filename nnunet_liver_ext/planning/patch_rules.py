"""What a training's patch may measure: for each axis the sizes that an architecture allows.

A rule takes the network (without weights), the spacing in mm, the median size of the images in
voxels and the largest patch that a protocol names, if it does. It gives ascending sizes for each
axis (z, y, x), of which the planner takes the largest that memory allows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from nnunet_liver_ext.planning.patch_search import SHORTEST_AXIS, isotropic_patch, multiples_between

PatchRule = Callable[
    [Any, Sequence[float], Sequence[float], Sequence[float] | None], list[list[int]]
]
"""(network, spacing in mm, median size, largest patch or None) -> sizes for each axis."""

SMALLEST_FEATURE_MAP = 4
"""Voxels of the coarsest stage along each axis, unless the images are smaller, as in nnU-Net."""
SLICE_EDGE = 256
"""Largest edge of a slice (student report with Antaros Medical, section 2.2)."""
SMALLEST_SLICE_EDGE = 64
PAPER_TILE = (72, 236, 236)
"""What the unpadded network takes (Hänsch et al. 2022, figure 1)."""


def isotropic_patches(
    network: Any,
    spacing_mm: Sequence[float],
    median_size: Sequence[float],
    largest: Sequence[float] | None = None,
) -> list[list[int]]:
    """nnU-Net's: up to 256³ voxels, isotropic in mm, no larger than the median image."""
    return _up_to(network, median_size, largest or isotropic_patch(spacing_mm, median_size))


def whole_images(
    network: Any,
    spacing_mm: Sequence[float],
    median_size: Sequence[float],
    largest: Sequence[float] | None = None,
) -> list[list[int]]:
    """Up to the median image."""
    return _up_to(network, median_size, largest or median_size)


def _up_to(network: Any, median_size: Sequence[float], largest: Sequence[float]) -> list[list[int]]:
    return [
        multiples_between(step, smallest=SMALLEST_FEATURE_MAP * step, largest=min(most, size))
        for (_, step), most, size in zip(network.patch_sizes, largest, median_size, strict=True)
    ]


def slabs(
    network: Any,
    spacing_mm: Sequence[float],
    median_size: Sequence[float],
    largest: Sequence[float] | None = None,
) -> list[list[int]]:
    """As many slices as give four all of their `neighbours`, in 2D none; in-plane up to 256."""
    slices = [[SHORTEST_AXIS + 2 * network.neighbours]] if len(median_size) == 3 else []
    steps = [step for _, step in network.patch_sizes][-2:]
    in_plane = (largest or (SLICE_EDGE,) * 2)[-2:]
    edges = [min(most, size) for most, size in zip(in_plane, median_size[-2:], strict=True)]
    return slices + [
        multiples_between(step, smallest=SMALLEST_SLICE_EDGE, largest=edge)
        for step, edge in zip(steps, edges, strict=True)
    ]


def unpadded_tiles(
    network: Any,
    spacing_mm: Sequence[float],
    median_size: Sequence[float],
    largest: Sequence[float] | None = None,
) -> list[list[int]]:
    """Inputs that fit an unpadded network, up to the paper's or to what covers the median image."""
    return [
        _unpadded_sizes(axis, size, most)
        for axis, size, most in zip(
            network.geometry.axes, median_size, largest or PAPER_TILE, strict=True
        )
    ]


def _unpadded_sizes(axis: Any, size: float, largest: float) -> list[int]:
    first, last = axis.output_for(axis.step), axis.output_for(math.ceil(size))
    last = max(first, min(last, math.floor(largest) - 2 * axis.margin))
    return [output + 2 * axis.margin for output in range(first, last + 1, axis.step)]
