"""Companion networks of the adversarial objectives: the discriminator of masks and the gambler.

Couteaux et al. 2021 give neither architecture; these are our choice. Both configure themselves from
the patch with nnU-Net's own rule: an axis is halved while at least 4 voxels stay, coarse axes later
than fine ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dynamic_network_architectures.architectures.unet import PlainConvUNet
from dynamic_network_architectures.building_blocks.helper import (
    convert_dim_to_conv_op,
    get_matching_instancenorm,
)
from nnunetv2.experiment_planning.experiment_planners.network_topology import (
    get_pool_and_conv_props,
)
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from nnunet_liver_ext.networks.network import pad_behind

SMALLEST_AXIS = 4
MOST_HALVINGS = 4
DISCRIMINATOR_FEATURES = (32, 64, 128, 256)
GAMBLER_FEATURES = (16, 32, 64, 128, 128)


class Discriminator(nn.Module):
    """Strided convolutions, instance norm, leaky ReLU, then one logit for each region seen.

    The first layer has no norm, so that the amount of foreground is seen.
    """

    def __init__(
        self,
        channels: int,
        *,
        patch_size: Sequence[int],
        spacing_mm: Sequence[float],
        spectral: bool = False,
    ):
        """
        Args:
            channels: of the masks.
            patch_size: voxels along each axis, 2 or 3 of them.
            spacing_mm: in the same order.
            spectral: spectral norm of every convolution (Miyato et al. 2018).
        """
        super().__init__()
        convolution = convert_dim_to_conv_op(len(patch_size))
        instance_norm = get_matching_instancenorm(convolution)
        wrap = spectral_norm if spectral else nn.Identity()
        layers = []
        for index, (stride, kernel) in enumerate(_strided_stages(patch_size, spacing_mm)):
            features = DISCRIMINATOR_FEATURES[index]
            padding = [size // 2 for size in kernel]
            layer: list[nn.Module] = [
                wrap(convolution(channels, features, kernel, stride, padding))
            ]
            layer += [instance_norm(features, affine=True)] if index > 0 else []
            layers.append(nn.Sequential(*layer, nn.LeakyReLU(0.2)))
            channels = features
        self.layers = nn.ModuleList(layers)
        self.answer = wrap(convolution(channels, 1, 1))

    def forward(self, masks: Tensor) -> Tensor:
        """Logits (B, 1, ...) for masks (B, C, ...): one-hot annotations or probabilities."""
        logits: Tensor = self.answer(self.features(masks, len(self.layers)))
        return logits

    def features(self, masks: Tensor, layer: int) -> Tensor:
        """D_k: what comes out of layer k, the first is 1."""
        for network in list(self.layers)[:layer]:
            masks = network(masks)
        return masks


def num_discriminator_layers(patch_size: Sequence[int], spacing_mm: Sequence[float]) -> int:
    """How many layers a discriminator of such patches has."""
    return len(_strided_stages(patch_size, spacing_mm))


def _strided_stages(
    patch_size: Sequence[int], spacing_mm: Sequence[float]
) -> list[tuple[list[int], list[int]]]:
    """(stride, kernel size) of each layer.

    The first layer has a stride already, unless the patch is too small for any.
    """
    stages = list(zip(*strides_and_kernels(patch_size, spacing_mm), strict=True))
    return stages[1:] or stages


class Gambler(PlainConvUNet):
    """nnU-Net's U-Net for inputs of any size: zeros are added behind and cut off again."""

    multiple: tuple[int, ...]
    """What the strides need the input's size to be a multiple of."""

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        padded = [-(-n // step) * step for n, step in zip(size, self.multiple, strict=True)]
        logits: Tensor = super().forward(pad_behind(x, padded))
        return logits[(slice(None), slice(None), *(slice(n) for n in size))]


def build_gambler(
    channels: int, *, patch_size: Sequence[int], spacing_mm: Sequence[float]
) -> nn.Module:
    """A small U-Net: image and probabilities (B, C, ...) in, betting logits (B, 1, ...) out."""
    strides, kernels = strides_and_kernels(patch_size, spacing_mm)
    if len(strides) == 1:  # a U-Net has two stages at least
        strides, kernels = 2 * strides, 2 * kernels
    stages = len(strides)
    convolution = convert_dim_to_conv_op(len(patch_size))
    gambler = Gambler(
        channels,
        stages,
        GAMBLER_FEATURES[:stages],
        convolution,
        kernels,
        strides,
        n_conv_per_stage=1,
        num_classes=1,
        n_conv_per_stage_decoder=1,
        conv_bias=True,
        norm_op=get_matching_instancenorm(convolution),
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )
    gambler.multiple = tuple(math.prod(axis) for axis in zip(*strides, strict=True))
    return gambler


def strides_and_kernels(
    patch_size: Sequence[int], spacing_mm: Sequence[float]
) -> tuple[list[list[int]], list[list[int]]]:
    """Strides (the first is 1) and kernel sizes of each stage; the strides divide the patch."""
    _, strides, kernels, _, _ = get_pool_and_conv_props(
        spacing_mm, patch_size, SMALLEST_AXIS, MOST_HALVINGS
    )
    size, dividing = list(patch_size), []
    for stage in strides[: MOST_HALVINGS + 1]:
        dividing.append(
            [stride if n % stride == 0 else 1 for stride, n in zip(stage, size, strict=True)]
        )
        size = [n // stride for stride, n in zip(dividing[-1], size, strict=True)]
    return dividing, [list(kernel) for kernel in kernels[: MOST_HALVINGS + 1]]
