"""Registors: networks that find the deformation between two masks.

Source: Couteaux et al. 2021, "Cooperating networks".

u = R(s1, s2) is such that warp(s1, u) looks like s2, within a class Ω of transforms. All classes of
the masks share it.

- elastic: the paper's network (section 3.2.2). It prints a pooling of 2x2x2 in each of its four
  blocks; here axes that are too short or too coarse for that are pooled less often.
- translation, rigid, affine: the paper names the first two as Ω (sections 2 and 3.1) and gives no
  network; ours are in `registor_heads`.

B batch, C classes, D spatial axes (2 or 3), ... the D spatial axes themselves.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_liver_ext.deformation import affine_displacement, upsample_control_grid, warp
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks.linear_maps import (
    DEFAULT_BOUNDS,
    Bounds,
    bound_rotation,
    linear_map,
    num_rotations,
    num_stretches,
)
from nnunet_liver_ext.networks.registor_heads import (
    CONVOLUTION,
    MAX_POOL,
    CentredLook,
    CorrelationShift,
    centroid,
    initialise_he,
    initialise_near_zero,
    pad_to_multiple,
)
from nnunet_liver_ext.transform_classes import TRANSFORMS, Transforms

BLOCK_FEATURES = (16, 32, 64, 128)  # section 3.2.2
MIN_AXIS = 4


class Registor(nn.Module, ABC):
    """Two masks in, one displacement out."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The displacement u with warp(first, u) ≈ second.

        Args:
            first: probabilities or 0/1 masks of the foreground classes of image 1, (B, C, ...), of
                any size.
            second: those of image 2.

        Returns:
            (B, D, ...) in voxels, float32, also under autocast.
        """
        return self.displacement(first.float(), second.float())

    @abstractmethod
    def displacement(self, first: Tensor, second: Tensor) -> Tensor:
        """As `forward`, of float32 masks."""

    @abstractmethod
    def describe(self) -> str:
        """One line for the log."""


class ElasticRegistor(Registor):
    """The paper's fully convolutional network: vectors on a control grid, linearly interpolated."""

    def __init__(
        self, channels: int, *, patch_size: Sequence[int], spacing_mm: Sequence[float]
    ) -> None:
        super().__init__()
        dims = len(patch_size)
        self.pitch = control_grid_pitch(patch_size, spacing_mm)
        self.pitch_mm = tuple(
            n * spacing for n, spacing in zip(self.pitch, spacing_mm, strict=True)
        )
        blocks, width = [], 2 * channels
        for features, pooling in zip(BLOCK_FEATURES, block_poolings(self.pitch), strict=True):
            blocks.append(_build_block(dims, width, features, pooling))
            width = features
        self.blocks = nn.Sequential(*blocks)
        self.vectors = CONVOLUTION[dims](width, dims, 1)
        initialise_he(self.blocks)
        initialise_near_zero(self.vectors)
        nn.init.zeros_(self.vectors.get_parameter("bias"))

    def displacement(self, first: Tensor, second: Tensor) -> Tensor:
        size = first.shape[2:]
        control = self.control_vectors(first, second)
        return upsample_control_grid(control, self.pitch, size)

    def control_vectors(self, first: Tensor, second: Tensor) -> Tensor:
        """Displacement in voxels on the control grid, (B, D, ceil(size/pitch)), float32."""
        masks = pad_to_multiple(torch.cat([first, second], 1), self.pitch)
        features = self.blocks(masks)
        with _without_autocast(features):
            vectors: Tensor = self.vectors(features.float())
        return vectors

    def describe(self) -> str:
        pitch, pitch_mm = _join_numbers(self.pitch), _join_numbers(self.pitch_mm)
        return f"elastic, a vector every {pitch} voxels ({pitch_mm} mm)"


class TranslationRegistor(Registor):
    """One shift for all voxels."""

    def __init__(self, channels: int, *, patch_size: Sequence[int], bounds: Bounds) -> None:
        super().__init__()
        self.max_shift_voxels = bounds.max_shift_in(patch_size)
        self.shift = CorrelationShift(
            channels, patch_size=patch_size, max_shift_voxels=self.max_shift_voxels
        )

    def displacement(self, first: Tensor, second: Tensor) -> Tensor:
        with _without_autocast(first):
            shift_BD: Tensor = self.shift(first, second)
        dims = shift_BD.shape[1]
        return shift_BD.view(-1, dims, *[1] * dims).expand(-1, -1, *first.shape[2:])

    def describe(self) -> str:
        return f"translation by at most {_join_numbers(self.max_shift_voxels)} voxels"


class AffineRegistor(Registor):
    """A rotation about the first masks' centroid, with `stretches` a stretch, and a shift.

    u(p) = A · (p + d − c) + c − p: `first` is turned about its centroid c, and d is then found by
    correlation.
    """

    def __init__(
        self,
        channels: int,
        *,
        patch_size: Sequence[int],
        spacing_mm: Sequence[float],
        bounds: Bounds,
        stretches: bool,
    ) -> None:
        super().__init__()
        dims = len(patch_size)
        self.spacing_mm, self.bounds = tuple(spacing_mm), bounds
        self.rotations, self.stretches = (
            num_rotations(dims),
            num_stretches(dims) if stretches else 0,
        )
        self.max_shift_voxels = bounds.max_shift_in(patch_size)
        outputs = self.rotations + self.stretches
        self.look = CentredLook(channels, outputs, patch_size=patch_size, spacing_mm=spacing_mm)
        self.shift = CorrelationShift(
            channels, patch_size=patch_size, max_shift_voxels=self.max_shift_voxels
        )

    def displacement(self, first: Tensor, second: Tensor) -> Tensor:
        size = first.shape[2:]
        with _without_autocast(first):
            centre_BD = centroid(first)
            matrix_BDD = self.matrix(first, second)
            turned = warp(
                first, affine_displacement(matrix_BDD, torch.zeros_like(centre_BD), centre_BD, size)
            )
            shift_BD = self.shift(turned, second)
            translation_BD = (matrix_BDD @ shift_BD[:, :, None])[:, :, 0]
            return affine_displacement(matrix_BDD, translation_BD, centre_BD, size)

    def matrix(self, first: Tensor, second: Tensor) -> Tensor:
        """A, (B, D, D), acting on voxel coordinates."""
        raw = self.look(first, second)
        rotation = bound_rotation(raw[:, : self.rotations], self.bounds.max_rotation_deg)
        stretch = (
            raw[:, self.rotations :].tanh() * self.bounds.max_log_stretch
            if self.stretches
            else None
        )
        return linear_map(rotation, stretch, spacing_mm=self.spacing_mm)

    def describe(self) -> str:
        stretch = (
            f"a stretch by at most exp(±{self.bounds.max_log_stretch:g}), "
            if self.stretches
            else ""
        )
        rotation = f"a rotation by at most {self.bounds.max_rotation_deg:g}°"
        shift = f"a shift by at most {_join_numbers(self.max_shift_voxels)} voxels"
        return f"{'affine' if stretch else 'rigid'}, {rotation}, {stretch}{shift}"


def build_registor(
    transforms: Transforms,
    *,
    channels: int,
    patch_size: Sequence[int],
    spacing_mm: Sequence[float],
    bounds: Bounds = DEFAULT_BOUNDS,
) -> Registor:
    """The registor for a class of transforms, in 2D or 3D by the length of `patch_size`.

    Args:
        transforms: elastic, translation, rigid or affine.
        channels: foreground classes of each image.
        patch_size: of the training's patches, in voxels; `forward` takes any size.
        spacing_mm: of the voxels.
        bounds: of translations, rotations and stretches; elastic has none.

    Raises:
        InputError: a class of transforms that does not exist, or a patch with fewer than four
            voxels along an axis.
    """
    check_registor_patch(patch_size)
    if transforms == "elastic":
        return ElasticRegistor(channels, patch_size=patch_size, spacing_mm=spacing_mm)
    if transforms == "translation":
        return TranslationRegistor(channels, patch_size=patch_size, bounds=bounds)
    if transforms in ("rigid", "affine"):
        stretches = transforms == "affine"
        return AffineRegistor(
            channels,
            patch_size=patch_size,
            spacing_mm=spacing_mm,
            bounds=bounds,
            stretches=stretches,
        )
    raise InputError(f"transforms is {transforms!r}, but there are only {', '.join(TRANSFORMS)}.")


def control_grid_pitch(patch_size: Sequence[int], spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """Voxels between two vectors of the elastic control grid along each axis.

    2^p with the largest p <= 4 for which the patch has at least two vectors and they are no more
    than 2 · 16 · (finest spacing) apart. That is 16 for the paper's 1.5 x 1.5 x 3 mm and patches of
    32 voxels or more (section 3.2.2: "down-sampling the input by a factor 16").

    Raises:
        InputError: the patch has fewer than four voxels along an axis.
    """
    check_registor_patch(patch_size)
    widest_mm = 2 * 16 * min(spacing_mm)

    def fits(pitch: int, n: int, spacing: float) -> bool:
        return n >= 2 * pitch and spacing * pitch <= widest_mm * (1 + 1e-6)

    return tuple(
        max((2**p for p in range(1, 5) if fits(2**p, n, spacing)), default=1)
        for n, spacing in zip(patch_size, spacing_mm, strict=True)
    )


def block_poolings(pitch: Sequence[int]) -> list[tuple[int, ...]]:
    """What each of the four blocks pools.

    Axes that are pooled less often are pooled in the last blocks.

    They are the short and the coarse ones: meanwhile the others catch up, and the later
    convolutions see the same distance in all directions. nnU-Net plans its poolings likewise.
    """
    blocks = len(BLOCK_FEATURES)
    return [
        tuple(2 if math.log2(step) >= blocks - block else 1 for step in pitch)
        for block in range(blocks)
    ]


def check_registor_patch(patch_size: Sequence[int]) -> None:
    """InputError for patches that are too small for a registor along an axis, in voxels."""
    if min(patch_size) < MIN_AXIS:
        raise InputError(
            f"A registor needs patches of at least {MIN_AXIS} voxels along each axis, but the patch"
            f" is {_join_numbers(patch_size)}: plan larger patches."
        )


def _build_block(dims: int, inputs: int, features: int, pooling: tuple[int, ...]) -> nn.Sequential:
    convolution = CONVOLUTION[dims]
    return nn.Sequential(
        convolution(inputs, features, 3, padding=1),
        nn.ReLU(inplace=True),
        convolution(features, features, 3, padding=1),
        nn.ReLU(inplace=True),
        MAX_POOL[dims](pooling),
    )


def _without_autocast(like: Tensor) -> torch.autocast:
    """Switches autocast off: positions and correlations need float32."""
    return torch.autocast(like.device.type, enabled=False)


def _join_numbers(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)
