"""Small versions of the four architectures, with the layers of the real ones, for tests of several
files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_liver_ext.networks import (
    DI2IN,
    AnisotropicUNet,
    ModelsGenesisUNet,
    SegmentationNetwork,
    SliceUNet,
)
from nnunet_liver_ext.networks.models_genesis_unet import BatchStatisticsNorm3d

Build = Callable[..., SegmentationNetwork]
SMALL = {"features_per_stage": (2, 3, 4), "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2))}
SMALL_ANISOTROPIC = {**SMALL, "kernel_sizes": ((1, 3, 3), (3, 3, 3), (3, 3, 3))}
SMALL_SLICES = {
    "features_per_stage": (2, 3, 4),
    "strides": ((1, 1, 1), (1, 2, 2), (1, 2, 2)),
    "norm_op": nn.BatchNorm3d,
}


def _build(network: type[Any], **fixed: Any) -> Build:
    def build(input_channels: int = 1, num_classes: int = 2, **others: Any) -> SegmentationNetwork:
        torch.manual_seed(0)
        return network(input_channels, num_classes, **{**fixed, **others})

    return build


BUILD: dict[str, Build] = {
    "anisotropic_valid": _build(AnisotropicUNet, **SMALL_ANISOTROPIC),
    "anisotropic_same": _build(AnisotropicUNet, padding="same", **SMALL_ANISOTROPIC),
    "di2in": _build(DI2IN, features_per_stage=(2, 3, 4), strides=((1, 1, 1), (2, 2, 2), (1, 2, 2))),
    "slices": _build(SliceUNet, neighbours=1, residual=True, **SMALL_SLICES),
    "models_genesis": _build(ModelsGenesisUNet, features_per_stage=(4, 4, 6, 8)),
}
FITTING = {
    "anisotropic_valid": (18, 44, 48),
    "anisotropic_same": (4, 8, 12),
    "di2in": (4, 8, 12),
    "slices": (3, 8, 12),
    "models_genesis": (8, 8, 16),
}
"""A small patch (z, y, x) that fits in training."""


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_positive(network: SegmentationNetwork) -> SegmentationNetwork:
    """All kernels 1, no biases, no norms, in float64: an output is zero unless it sees something
    that is not."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d | BatchStatisticsNorm3d):
                setattr(module, name, nn.Identity())
    for name, parameter in network.named_parameters():
        nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
    return network.double().eval()


def outputs_along(network: SegmentationNetwork, axis: int, lit: Tensor, others: int = 4) -> Tensor:
    """Outputs (N, L) along a line in the middle, for images whose planes across `axis` are lit as
    in (N, L)."""
    size = [others] * 3
    size[axis] = lit.shape[1]
    shape = [1, 1, 1]
    shape[axis] = -1
    with torch.no_grad():
        logits = [network(line.double().view(shape).expand(1, 1, *size))[0, 0] for line in lit]
    return torch.stack(logits).movedim(1 + axis, 1)[:, :, others // 2, others // 2]
