"""DI2IN, the deep image-to-image network for livers in CT (Yang et al. 2017, section 2.1).

The text gives an encoder of 3x3x3 convolutions with strides of 2, a decoder of linear upsampling by
2, concatenated bridges, batch norm and leaky ReLU, and three supervised branches, upsampled by 16,
4 and 1. Everything else is in a figure that the text does not carry. Chosen here:

- 16, 32, 64, 128, 256 features, two convolutions in each stage; the first one of a stage has the
  stride.
- A branch is a convolution to the classes at its resolution, then linear interpolation to the
  image's. It has neither batch norm nor leaky ReLU, though the text has them with all convolutions:
  the outputs are logits, which batch norm would bind to the batch and the ReLU to one sign. For the
  same reason the final convolution has none behind it.
- The final output is a convolution over all branches, which pass a leaky ReLU before it. The text
  has the ReLU with this convolution ("convolution operations of all branches with the leaky ReLU"):
  behind it, negative logits would be squeezed to a hundredth. In the order of here, all outputs are
  logits of any sign.

B batch, C channels of the image, K classes, Z Y X voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn
from torch.nn import functional

from nnunet_liver_ext.networks.convolution_style import Style
from nnunet_liver_ext.networks.network import Decoder, SegmentationNetwork, Size
from nnunet_liver_ext.networks.stages import Stages, resolve_stages

STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
FEATURES = (16, 32, 64, 128, 256)


class DI2IN(SegmentationNetwork):
    """Whole volumes in, of any size; without arguments the paper's network as far as it is known.

    Deep supervision gives the final output and then the branches, finest first, all at the image's
    resolution; all weights are 1. The branches are those of the finest, the middle and the coarsest
    stage.
    """

    whole_volume = True

    encoder: nn.ModuleList
    decoder: _Decoder

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        n_stages: int | None = None,
        strides: Sequence[Sequence[int]] = STRIDES,
        kernel_sizes: Sequence[Sequence[int] | int] | int = 3,
        features_per_stage: Sequence[int] = FEATURES,
        n_conv_per_stage: Sequence[int] | int = 2,
        conv_op: type[nn.Module] = nn.Conv3d,
        conv_bias: bool = True,
        norm_op: type[nn.Module] | None = nn.BatchNorm3d,
        norm_op_kwargs: Mapping[str, Any] | None = None,
        nonlin: type[nn.Module] | None = nn.LeakyReLU,
        nonlin_kwargs: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        """
        Args:
            n_conv_per_stage: convolutions of a stage, in the encoder and in the decoder.
            others: as in nnU-Net's networks.

        Raises:
            InputError: arguments that do not exist or do not go together.
        """
        super().__init__(input_channels, num_classes, conv_op=conv_op, unknown=unknown)
        self.stages = resolve_stages(
            "DI2IN",
            strides=strides,
            features_per_stage=features_per_stage,
            kernel_sizes=kernel_sizes,
            n_conv_per_stage=n_conv_per_stage,
            n_stages=n_stages,
        )
        style = Style(conv_op, conv_bias, norm_op, norm_op_kwargs, nonlin, nonlin_kwargs)
        self.encoder = nn.ModuleList(_encoder_blocks(style, self.stages, input_channels))
        self.decoder = _Decoder(style, self.stages, num_classes, deep_supervision)

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He's normal distribution, as in nnU-Net."""
        InitWeights_He(1e-2)(module)

    @property
    def size_multiple(self) -> Size:
        return self.stages.total_stride

    @property
    def supervised_scales(self) -> list[list[float]]:
        """The final output and the branches, all at full resolution."""
        return [[1.0, 1.0, 1.0] for _ in range(1 + len(self.decoder.branches))]

    @property
    def supervision_weights(self) -> list[float]:
        return [1.0] * len(self.supervised_scales)

    def segment(self, x: Tensor) -> list[Tensor]:
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
        outputs: list[Tensor] = self.decoder(skips)
        return outputs


class _Decoder(Decoder):
    """Linear upsampling, concatenation, convolutions; branches and the convolution over them.

    Lists go from fine to coarse.
    """

    blocks: nn.ModuleList
    seg_layers: nn.ModuleList

    def __init__(
        self, style: Style, stages: Stages, num_classes: int, deep_supervision: bool
    ) -> None:
        super().__init__(deep_supervision)
        last = len(stages) - 1
        features, kernels = stages.features, stages.kernels
        self.factors = stages.strides[1:]
        self.branches = sorted({0, last // 2, last})
        self.blocks = nn.ModuleList(
            _build_block(style, stages, stage, features[stage + 1] + features[stage])
            for stage in range(last)
        )
        self.seg_layers = nn.ModuleList(
            _padded_convolution(features[stage], num_classes, kernels[stage])
            for stage in self.branches
        )
        self.activation = style.activation()
        self.final = _padded_convolution(len(self.branches) * num_classes, num_classes, kernels[0])

    def forward(self, skips: list[Tensor]) -> list[Tensor]:
        """[final, branch of the finest stage, …, of the coarsest], each (B, K, Z, Y, X)."""
        stages = [skips[-1]]
        for stage in reversed(range(len(self.blocks))):
            up = _upsample(stages[0], skips[stage].shape[2:])
            stages.insert(0, self.blocks[stage](torch.cat([up, skips[stage]], 1)))
        size = skips[0].shape[2:]
        branches = [
            _upsample(layer(stages[i]), size)
            for i, layer in zip(self.branches, self.seg_layers, strict=True)
        ]
        return [self.final(self.activation(torch.cat(branches, 1))), *branches]


def _encoder_blocks(style: Style, stages: Stages, inputs: int) -> Iterator[nn.Module]:
    for stage, features in enumerate(stages.features):
        yield _build_block(style, stages, stage, inputs, stride=stages.strides[stage])
        inputs = features


def _build_block(
    style: Style, stages: Stages, stage: int, inputs: int, stride: Sequence[int] = (1, 1, 1)
) -> nn.Sequential:
    units, features = [], stages.features[stage]
    for index in range(stages.convolutions[stage]):
        step = stride if index == 0 else 1
        units.append(
            style.unit(features if index else inputs, features, stages.kernels[stage], stride=step)
        )
    return nn.Sequential(*units)


def _padded_convolution(inputs: int, outputs: int, kernel: Size) -> nn.Conv3d:
    z, y, x = kernel
    return nn.Conv3d(inputs, outputs, kernel, padding=(z // 2, y // 2, x // 2))


def _upsample(x: Tensor, size: Sequence[int]) -> Tensor:
    if x.shape[2:] == tuple(size):
        return x
    return functional.interpolate(x, size=tuple(size), mode="trilinear", align_corners=False)
