"""Augmentation of the papers: flips, contrast, shift and elastic deformation in-plane.

Flips, contrast and shift are those of Hänsch et al. 2022 ("Image pre-processing and augmentation")
and Couteaux et al. 2021 (section 3.1), the deformation is that of the Antaros report (sections 2
and 3.4).

They are batchgeneratorsv2 transforms as nnU-Net's own: images (C, ...) and segmentations (S, ...)
of one sample, ... being (z, y, x) or (y, x). They draw from numpy's global state, which the loader
seeds for each batch. They leave no memory of the input behind: a tensor that is changed is a new
one.

Intensities change in images only. A liver mask that the loader needs travels as a segmentation
(`organ_channel`), so it is flipped and deformed like one and is never shifted.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform, ImageOnlyTransform
from scipy.interpolate import CubicSpline
from torch import Tensor
from torch.nn import functional

from nnunet_liver_ext.errors import InputError


def paper_transforms(
    *,
    flip_probability: float,
    contrast_low: float,
    contrast_high: float,
    shift_sd: float,
    shift_range: float,
    elastic_sd_voxels: float,
    elastic_points: int,
) -> list[BasicTransform]:
    """The transforms that these numbers switch on.

    They come before nnU-Net removes label −1 and downsamples.

    Args:
        flip_probability: of each spatial axis on its own; 0 is off.
        contrast_low: lower end of the factor of `Contrast`; both ends 1 is off.
        contrast_high: upper end, not reached.
        shift_sd: standard deviation of `Shift`, in the image's own unit; 0 is off.
        shift_range: half the width of `Shift`'s uniform part, in the image's own unit; 0 is off.
        elastic_sd_voxels: standard deviation of `ElasticDeformation` along y and along x; 0 is off.
        elastic_points: control points along y and along x.

    Returns:
        None, some or all of them, in the order in which they act.

    Raises:
        InputError: the contrast's ends are the wrong way round, or there are fewer than two control
            points.
    """
    if contrast_low > contrast_high:
        raise InputError(
            f"recipe: contrast_low ({contrast_low:g}) must not exceed contrast_high"
            f" ({contrast_high:g})."
        )
    if elastic_sd_voxels > 0 and elastic_points < 2:
        raise InputError(f"recipe: elastic_points must be at least 2, found {elastic_points}.")
    switches: list[tuple[bool, BasicTransform]] = [
        (elastic_sd_voxels > 0, ElasticDeformation(elastic_sd_voxels, elastic_points)),
        (flip_probability > 0, Flips(flip_probability)),
        ((contrast_low, contrast_high) != (1, 1), Contrast(contrast_low, contrast_high)),
        (shift_sd > 0 or shift_range > 0, Shift(shift_sd, shift_range)),
    ]
    return [transform for on, transform in switches if on]


class Flips(BasicTransform):
    """Each spatial axis is reversed with a probability of its own; images and segmentations alike.

    Unlike nnU-Net's mirroring this is no promise that prediction may mirror too.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        drawn = np.random.uniform(size=data_dict["image"].ndim - 1) < self.probability
        return {"axes": [axis for axis, flipped in enumerate(drawn, start=1) if flipped]}

    def _apply_to_image(self, img: Tensor, **params: Any) -> Tensor:
        return torch.flip(img, params["axes"]) if params["axes"] else img

    def _apply_to_segmentation(self, segmentation: Tensor, **params: Any) -> Tensor:
        return self._apply_to_image(segmentation, **params)


class Contrast(ImageOnlyTransform):
    """mean + a · (image − mean) with a from U[low, high) and the patch's mean, for each channel."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        return {"factors": np.random.uniform(self.low, self.high, size=data_dict["image"].shape[0])}

    def _apply_to_image(self, img: Tensor, **params: Any) -> Tensor:
        means = img.mean(dim=tuple(range(1, img.ndim)), keepdim=True)
        return means + reshape_per_channel(params["factors"], img) * (img - means)


class Shift(ImageOnlyTransform):
    """image + b with one b = N(0, sd) + U(−reach, reach) for each channel, in the image's own unit.

    The normal part is Hänsch et al.'s, the uniform one stands for Couteaux et al.'s "random
    intensity shift", whose law the paper does not give.
    """

    def __init__(self, sd: float, reach: float) -> None:
        super().__init__()
        self.sd, self.reach = sd, reach

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        channels = data_dict["image"].shape[0]
        normal, uniform = np.random.normal(size=channels), np.random.uniform(-1, 1, size=channels)
        return {"shifts": self.sd * normal + self.reach * uniform}

    def _apply_to_image(self, img: Tensor, **params: Any) -> Tensor:
        return img + reshape_per_channel(params["shifts"], img)


class ElasticDeformation(BasicTransform):
    """Random displacements of control points in the plane (y, x), the same for all slices.

    The grid spans the patch from corner to corner. Each point is displaced by N(0, sd) voxels along
    y and along x; between the points the displacement is the natural bicubic spline through them.
    So that no voxel moves past its neighbour, the standard deviation should stay well below the
    distance of two points, (side − 1) / (points − 1): 8 and 36 voxels in the report, with 8 x 8
    points on 256 x 256 voxels.

    Images are interpolated linearly, of segmentations the nearest voxel is taken. What comes from
    beyond the patch is the patch's nearest voxel, in both: a patch cuts through organs, and a
    repeated liver voxel is still liver.
    """

    def __init__(self, sd_voxels: float, points: int) -> None:
        super().__init__()
        self.sd_voxels, self.points = sd_voxels, points

    def get_parameters(self, **data_dict: Any) -> dict[str, Any]:
        control = self.sd_voxels * np.random.normal(size=(2, self.points, self.points))
        return {
            "displacement_2YX": interpolate_spline(control, tuple(data_dict["image"].shape[-2:]))
        }

    def _apply_to_image(self, img: Tensor, **params: Any) -> Tensor:
        return displace(img, params["displacement_2YX"], nearest=False)

    def _apply_to_segmentation(self, segmentation: Tensor, **params: Any) -> Tensor:
        return displace(segmentation, params["displacement_2YX"], nearest=True)


def reshape_per_channel(numbers: np.ndarray, img: Tensor) -> Tensor:
    """One number for each channel, (C, 1, ...), of the image's type."""
    return torch.as_tensor(numbers, dtype=img.dtype, device=img.device).view(
        -1, *[1] * (img.ndim - 1)
    )


def interpolate_spline(control: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The natural bicubic spline through values on a grid that spans the patch, corner to corner.

    Args:
        control: (2, points, points).
        size: (y, x) in voxels.

    Returns:
        (2, y, x); at a control point exactly its value.
    """
    rows, columns = (_spline_matrix(control.shape[axis + 1], n) for axis, n in enumerate(size))
    return rows @ control @ columns.T


@cache
def _spline_matrix(points: int, n: int) -> np.ndarray:
    """Values at n voxels of the splines through the unit vectors of control points, (n, points)."""
    knots = np.linspace(0, max(n - 1, 1), points)
    return CubicSpline(knots, np.eye(points), bc_type="natural")(np.arange(n))


def displace(tensor: Tensor, displacement_2YX: np.ndarray, *, nearest: bool) -> Tensor:
    """tensor(p + displacement(p)) in the plane, alike for all channels and slices.

    Beyond the edge it is the edge's value.

    Args:
        tensor: (C, z, y, x) or (C, y, x); integers keep their type.
        displacement_2YX: in voxels along y and along x.
        nearest: the nearest voxel instead of linear interpolation.
    """
    size = tensor.shape[-2:]
    axes = np.meshgrid(*[np.arange(n) for n in size], indexing="ij")
    positions = [
        (p + u) * 2 / max(n - 1, 1) - 1
        for p, u, n in zip(axes, displacement_2YX, size, strict=True)
    ]
    grid = torch.as_tensor(
        np.stack(positions[::-1], axis=-1), dtype=torch.float32, device=tensor.device
    )  # x before y
    moved = functional.grid_sample(
        tensor.reshape(1, -1, *size).float(),
        grid[None],
        mode="nearest" if nearest else "bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return moved.reshape(tensor.shape).to(tensor.dtype)
