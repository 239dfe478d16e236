"""The 3D U-Net of Models Genesis (Zhou et al. 2019).

Couteaux et al. 2021 start from its published weights.

Names and shapes are those of the published checkpoint; written from their description. Three
poolings of 2x2x2; each stage has two 3x3x3 convolutions with batch norm and ReLU, the first with
half the features of the second in the encoder. The decoder's transposed convolutions keep the
channels, and what is upsampled stands before the skip.

Its batch norm uses the statistics of the batch in evaluation, too. The checkpoint has running
statistics that nothing reads; they are kept up to date in training, so that the files can be
exchanged. Logits come out, where the published network has a sigmoid.

B batch, C channels of the image, K classes, Z Y X voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn
from torch.nn import functional

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks.network import Decoder, SegmentationNetwork, Size
from nnunet_liver_ext.networks.stages import resolve_stages

STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
FEATURES = (64, 128, 256, 512)


class ModelsGenesisUNet(SegmentationNetwork):
    """Four stages; without arguments the published network.

    For one channel and one class it has 19,073,665 parameters.

    It has no deep supervision: heads for it would be no part of the checkpoint. Other
    `features_per_stage` are a network of this kind that the published weights do not fit.
    """

    uses_batch_statistics = True

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        n_stages: int | None = None,
        strides: Sequence[Sequence[int]] = STRIDES,
        features_per_stage: Sequence[int] = FEATURES,
        conv_op: type[nn.Module] = nn.Conv3d,
        views_share_statistics: bool = True,
        **unknown: Any,
    ) -> None:
        """
        Args:
            features_per_stage: even numbers; of the second convolution of each stage.
            views_share_statistics: whether strategies run the images of a pair as one batch in
                training, so that they share its statistics, which they never do in evaluation.
                Plans from before this argument do; new ones say False.
            others: as in nnU-Net's networks.

        Raises:
            InputError: arguments that do not exist or do not go together.
        """
        super().__init__(input_channels, num_classes, conv_op=conv_op, unknown=unknown)
        self.views_share_statistics = views_share_statistics
        name = "ModelsGenesisUNet"
        stages = resolve_stages(
            name, strides=strides, features_per_stage=features_per_stage, n_stages=n_stages
        )
        _check_fixed(stages.strides, stages.features)
        a, b, c, d = stages.features
        self.down_tr64 = _Down(input_channels, a)
        self.down_tr128 = _Down(a, b)
        self.down_tr256 = _Down(b, c)
        self.down_tr512 = _Down(c, d)
        self.up_tr256 = _Up(d, c)
        self.up_tr128 = _Up(c, b)
        self.up_tr64 = _Up(b, a)
        self.out_tr = _Out(a, num_classes)
        self.decoder = Decoder(deep_supervision)

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He's normal distribution."""
        InitWeights_He(0)(module)

    @property
    def size_multiple(self) -> Size:
        return 8, 8, 8

    def padded_size(self, size: Sequence[int]) -> Size:
        """The next multiple of eight; a lone voxel in the coarsest stage is avoided.

        One voxel has no variance, so 8 x 8 x 8 becomes 16 x 16 x 16.
        """
        z, y, x = super().padded_size(size)
        return (16, 16, 16) if (z, y, x) == (8, 8, 8) else (z, y, x)

    def segment(self, x: Tensor) -> list[Tensor]:
        fine = self.down_tr64(x)
        middle = self.down_tr128(functional.max_pool3d(fine, 2))
        coarse = self.down_tr256(functional.max_pool3d(middle, 2))
        x = self.down_tr512(functional.max_pool3d(coarse, 2))
        x = self.up_tr256(x, coarse)
        x = self.up_tr128(x, middle)
        return [self.out_tr(self.up_tr64(x, fine))]


class BatchStatisticsNorm3d(nn.Module):
    """Batch norm that never uses its running statistics; they are buffers, updated in training.

    None of torch's batch norms: those would be replaced on several GPUs, and the replacement
    evaluates with the buffers.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, features: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = (
            nn.Parameter(torch.ones(features)),
            nn.Parameter(torch.zeros(features)),
        )
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        mean, var = (self.running_mean, self.running_var) if self.training else (None, None)
        if self.training:
            self.num_batches_tracked.add_(1)
        return functional.batch_norm(
            x,
            mean,
            var,
            self.weight,
            self.bias,
            training=True,
            momentum=self.momentum,
            eps=self.eps,
        )


class _Unit(nn.Module):
    """Convolution, batch norm, ReLU, by the checkpoint's names."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, features, 3, padding=1)
        self.bn1 = BatchStatisticsNorm3d(features)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn1(self.conv1(x)), inplace=True)


class _Down(nn.Module):
    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.ops = nn.Sequential(_Unit(inputs, features // 2), _Unit(features // 2, features))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.ops(x)
        return features


class _Up(nn.Module):
    def __init__(self, below: int, features: int) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(below, below, 2, 2)
        self.ops = nn.Sequential(_Unit(below + features, features), _Unit(features, features))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        features: Tensor = self.ops(torch.cat([self.up_conv(x), skip], 1))
        return features


class _Out(nn.Module):
    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.final_conv = nn.Conv3d(features, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.final_conv(x)
        return logits


def _check_fixed(strides: Sequence[Sequence[int]], features: Sequence[int]) -> None:
    if tuple(strides) != STRIDES:
        raise InputError(f"ModelsGenesisUNet has the strides {list(STRIDES)}, not {list(strides)}.")
    if any(number % 2 for number in features):
        raise InputError(
            f"ModelsGenesisUNet needs even features_per_stage, but has {list(features)}."
        )
