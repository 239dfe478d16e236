"""Patches of random size and ratio (Couteaux et al. 2021, section 3.1).

"We [...] crop inputs into cuboids of random sizes and ratios."

The paper draws any size. Here a few sizes are chosen once, and each batch has one of them:
torch.compile and cuDNN prepare anew for every size that they see. No size has more voxels than the
planned patch, so none needs more memory than it.

B batch, C channels, ... spatial axes, (z, y, x) or (y, x).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from torch import Tensor

from nnunet_liver_ext.errors import InputError

Size = tuple[int, ...]
MOST_LENGTHS = 24
"""Lengths of one axis that are considered; with more multiples than that, evenly spaced ones."""


def bucketed_sizes(
    patch_size: Sequence[int],
    size_multiple: Sequence[int],
    image_size: Sequence[int],
    *,
    count: int,
    smallest: float,
    seed: int,
) -> list[Size]:
    """Sizes to crop to: the planned patch, and random ones with at most its number of voxels.

    Each axis is a multiple of `size_multiple`, at least `smallest` of the patch and at most twice
    the patch, and not longer than the image needs. A size is drawn with a probability in proportion
    to 1 / (its voxels), which makes every ratio of two axes as likely as its inverse, without
    replacement.

    Args:
        patch_size: of the plans, in voxels; may exceed the image.
        size_multiple: what the network needs each axis to be a multiple of.
        image_size: of a typical image, in voxels.
        count: how many sizes; fewer if there are not so many.
        smallest: share of the patch along each axis, in (0, 1].
        seed: same seed, same sizes.

    Returns:
        Different sizes, the planned patch first.

    Raises:
        InputError: the patch is no multiple of `size_multiple`, or `count` or `smallest` is out of
            range.
    """
    patch = tuple(int(n) for n in patch_size)
    if any(n % step for n, step in zip(patch, size_multiple, strict=True)):
        raise InputError(
            f"patch size {patch}: each axis must be a multiple of {tuple(size_multiple)} for this"
            " network."
        )
    if count < 1 or not 0 < smallest <= 1:
        raise InputError(
            f"random crops need at least one size and a smallest share in (0, 1], found {count},"
            f" {smallest:g}."
        )
    axes = zip(patch, size_multiple, image_size, strict=True)
    lengths = [_lengths(n, step, whole, smallest) for n, step, whole in axes]
    others = [
        size for size in product(*lengths) if math.prod(size) <= math.prod(patch) and size != patch
    ]
    if not others or count == 1:
        return [patch]
    weights = np.array([1 / math.prod(size) for size in others])
    drawn = np.random.default_rng(seed).choice(
        len(others), min(count - 1, len(others)), replace=False, p=weights / weights.sum()
    )
    return [patch, *(others[index] for index in drawn)]


def _lengths(patch: int, step: int, image: int, smallest: float) -> list[int]:
    """Multiples of `step` that an axis may have."""
    high = min(math.ceil(image / step) * step, 2 * patch)
    low = min(
        max(1, math.ceil(smallest * patch / step - 1e-9)) * step, high
    )  # 0.55 * 100 is a little more than 55
    multiples = np.arange(low, high + 1, step)
    kept = np.unique(
        np.linspace(0, len(multiples) - 1, min(len(multiples), MOST_LENGTHS)).round().astype(int)
    )
    return [int(n) for n in multiples[kept]]


def envelope(sizes: Sequence[Size]) -> Size:
    """The smallest size that holds all sizes: what the loader has to extract."""
    return tuple(max(axis) for axis in zip(*sizes, strict=True))


def core(sizes: Sequence[Size]) -> Size:
    """The largest size that all sizes hold.

    As nnU-Net's `final_patch_size` it lets the envelope reach so far beyond an image that centre
    crops of every size reach the image's border.
    """
    return tuple(min(axis) for axis in zip(*sizes, strict=True))


def draw_size(sizes: Sequence[Size]) -> Size:
    """One of the sizes, each as likely, from numpy's global state."""
    return sizes[np.random.randint(len(sizes))]


def crop_batch(
    batch: Mapping[str, Any], size: Size, scales: Sequence[Sequence[float]] | None
) -> dict[str, Any]:
    """The middle of a batch. Deep supervision's levels show exactly the same region.

    For that the region begins at a multiple of the coarsest level's voxels, so its centre is up to
    half such a voxel off the batch's.

    Args:
        batch: of nnU-Net's loader: `data` (B, C, ...), `target` of the same size, or a list with
            one for each scale.
        size: of the result, spatial axes.
        scales: of the targets in the list, relative to the data, factors for each axis; None for a
            single target.

    Returns:
        The batch with other `data` and `target`, contiguous.
    """
    data, target = batch["data"], batch["target"]
    levels = [[1.0] * len(size)] if scales is None else scales
    coarsest = [round(1 / min(factors)) for factors in zip(*levels, strict=True)]
    whole = data.shape[2:]
    if any(n > available for n, available in zip(size, whole, strict=True)):
        raise ValueError(f"a crop of {size} does not fit into a batch of {tuple(whole)} voxels")
    starts = [
        _start(available, n, step) for available, n, step in zip(whole, size, coarsest, strict=True)
    ]
    targets = [
        _region(level, starts, size, factors)
        for level, factors in zip(
            target if isinstance(target, list) else [target], levels, strict=True
        )
    ]
    return {
        **batch,
        "data": _region(data, starts, size),
        "target": targets if isinstance(target, list) else targets[0],
    }


def _start(available: int, n: int, step: int) -> int:
    """Where the middle begins, rounded to a multiple of `step`.

    Halves are rounded up, so that the central voxel stays inside.
    """
    return min(math.floor((available - n) / 2 / step + 0.5), (available - n) // step) * step


def _region(
    tensor: Tensor, starts: Sequence[int], size: Size, factors: Sequence[float] | None = None
) -> Tensor:
    factors = [1.0] * len(size) if factors is None else factors
    for axis, (start, n, factor) in enumerate(zip(starts, size, factors, strict=True), start=2):
        tensor = tensor.narrow(axis, round(start * factor), round(n * factor))
    return tensor.contiguous()
