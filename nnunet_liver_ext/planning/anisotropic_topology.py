"""Where an anisotropic U-Net pools and convolves through the slices, by the spacing.

nnU-Net takes an axis along as soon as its spacing is less than twice the finest. Here it is √2
times: the stage at which the in-plane spacing, doubled at each pooling, comes nearest to that of
the slices. The topology of Hänsch et al. 2022 (figure 1: two in-plane poolings, then two of all
axes) so comes out for their slices of 3 to 5 mm at 1 mm in-plane; with nnU-Net's factor it would be
another one at 3 mm. Axes are (z, y, x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

STAGES = 5
BASE_FEATURES = 16
SHORTEST_FEATURE_MAP = 4
"""Voxels, as in nnU-Net (`UNet_featuremap_min_edge_length`)."""
FACTOR = math.sqrt(2)


def anisotropic_topology(
    spacing_mm: Sequence[float], size: Sequence[float], *, stages: int = STAGES
) -> tuple[list[list[int]], list[list[int]]]:
    """(strides, kernel sizes) of each stage; the first stride is 1.

    Short axes are pooled less often.

    Args:
        spacing_mm: of the images after resampling.
        size: of the median image in voxels; an axis is pooled while 4 voxels are left.
        stages: at most; there are fewer when no axis is long enough, two at least.
    """
    spacing, left = list(spacing_mm), [float(n) for n in size]
    kernel = [1] * len(spacing)
    strides, kernels = [[1] * len(spacing)], []
    while True:
        kernel = [
            3 if mm < FACTOR * min(spacing) else n for n, mm in zip(kernel, spacing, strict=True)
        ]
        kernels.append(list(kernel))
        stride = _next_stride(spacing, left)
        if len(strides) == stages or (max(stride) == 1 and len(strides) > 1):
            return strides, kernels
        strides.append(stride)
        spacing = [mm * step for mm, step in zip(spacing, stride, strict=True)]
        left = [n / step for n, step in zip(left, stride, strict=True)]


def _next_stride(spacing_mm: Sequence[float], size: Sequence[float]) -> list[int]:
    """The next pooling: 2 for the finest axis that is long enough, and for those near it."""
    long_enough = [n >= 2 * SHORTEST_FEATURE_MAP for n in size]
    finest = min(
        (mm for mm, can in zip(spacing_mm, long_enough, strict=True) if can), default=math.inf
    )
    return [
        2 if can and mm < FACTOR * finest else 1
        for mm, can in zip(spacing_mm, long_enough, strict=True)
    ]


def doubling_features(stages: int) -> list[int]:
    """16, 32, 64, 128, 256 (figure 1)."""
    return [BASE_FEATURES * 2**stage for stage in range(stages)]
