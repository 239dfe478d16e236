"""The anisotropic U-Net for liver tumours (Hänsch et al. 2022, figure 1; "aU-Net").

In-plane convolutions in all stages, through-plane ones only in the coarse stages; figure 1 prints
the axes as (x, y, z), here they are (z, y, x). Where this deviates from the figure:

- It prints transposed convolutions of 2x2x2 in all four stages. They invert the poolings here
  (1x2x2 in the two finest stages): nothing else gives the published sizes, 72 x 236 x 236 in and 32
  x 52 x 52 out.
- "SpatialDropout 0.25" stands between concatenation and convolutions in the four decoder stages. It
  does with `dropout_before_convolutions`, which plans carry; without it dropout follows the
  convolutions, as it did in plans from before the argument existed.
- `padding="same"` is nnU-Net's way of using the same layers: padded convolutions, any size, deep
  supervision.

B batch, C channels of the image, K classes, Z Y X voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks.convolution_style import Style
from nnunet_liver_ext.networks.network import Decoder, PatchSizes, SegmentationNetwork, Size
from nnunet_liver_ext.networks.stages import Stages, resolve_stages
from nnunet_liver_ext.networks.valid_convolutions import ValidAxis, ValidGeometry, crop

Padding = Literal["valid", "same"]

STRIDES = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
KERNEL_SIZES = ((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3))
FEATURES = (16, 32, 64, 128, 256)
DROPOUT = 0.25
LARGEST_TILE = (32, 196, 196)
"""Output of a tile in evaluation.

Its input is 72 x 380 x 380 voxels; a map of 16 features takes 0.7 GB in float32.
"""


class AnisotropicUNet(SegmentationNetwork):
    """Five stages; `dropout_before_convolutions=True` alone makes it the paper's network.

    With padding="valid" a patch in training loses `margin` voxels on each side, and its size has to
    fit (`check_input` of `geometry`). In evaluation the network pads a volume with zeros and
    computes it in tiles, whose output equals that of one pass. `keeps_size_in_evaluation = False`
    leaves that away.

    Each kernel (kz, ky, kx) is two convolutions, (1, ky, kx) and (kz, 1, 1), the second only if kz
    > 1. The decoder's stage has the features of the encoder's next coarser stage, as in the paper.
    """

    encoder: nn.ModuleList
    decoder: _Decoder

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        padding: Padding = "valid",
        n_stages: int | None = None,
        strides: Sequence[Sequence[int]] = STRIDES,
        kernel_sizes: Sequence[Sequence[int]] = KERNEL_SIZES,
        features_per_stage: Sequence[int] = FEATURES,
        n_conv_per_stage: Sequence[int] | int = 2,
        conv_op: type[nn.Module] = nn.Conv3d,
        conv_bias: bool = True,
        norm_op: type[nn.Module] | None = nn.BatchNorm3d,
        norm_op_kwargs: Mapping[str, Any] | None = None,
        dropout_op: type[nn.Module] | None = nn.Dropout3d,
        dropout_op_kwargs: Mapping[str, Any] | None = None,
        dropout_before_convolutions: bool = False,
        nonlin: type[nn.Module] | None = nn.ReLU,
        nonlin_kwargs: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        """
        Args:
            padding: "valid", unpadded as in the paper, or "same".
            n_conv_per_stage: (1, ky, kx) convolutions of a stage, in the encoder and in the
                decoder.
            dropout_op_kwargs: a dropout without them has the paper's p = 0.25.
            dropout_before_convolutions: whether a decoder stage's dropout stands before its
                convolutions, as in the paper, or behind them.
            others: as in nnU-Net's networks.

        Raises:
            InputError: arguments that do not exist or do not go together.
        """
        super().__init__(input_channels, num_classes, conv_op=conv_op, unknown=unknown)
        if padding not in ("valid", "same"):
            raise InputError(f"AnisotropicUNet has padding 'valid' or 'same', not {padding!r}.")
        self.stages = resolve_stages(
            "AnisotropicUNet",
            strides=strides,
            features_per_stage=features_per_stage,
            kernel_sizes=kernel_sizes,
            n_conv_per_stage=n_conv_per_stage,
            n_stages=n_stages,
        )
        self.padding = padding
        self.whole_volume = padding == "valid"
        self.keeps_size_in_evaluation = True
        self.largest_tile: Size = LARGEST_TILE
        style = Style(conv_op, conv_bias, norm_op, norm_op_kwargs, nonlin, nonlin_kwargs)
        self.encoder = nn.ModuleList(_encoder_blocks(style, self.stages, input_channels, padding))
        dropout = None if dropout_op is None else (dropout_op, dropout_op_kwargs or {"p": DROPOUT})
        self.decoder = _Decoder(style, self.stages, num_classes, padding, dropout, deep_supervision)
        self.decoder.dropout_first = dropout_before_convolutions
        self.geometry = ValidGeometry(_axes(self.encoder, self.decoder.blocks, self.stages))
        if padding == "same":
            self.decoder.crops = None
        else:
            self.decoder.crops = [
                self.geometry.crops(stage) for stage in range(len(self.stages) - 1)
            ]

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Glorot-uniform kernels and zero biases, as Keras does and the paper did."""
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    @property
    def margin(self) -> Size:
        """Voxels (z, y, x) that an unpadded output lacks on each side; 0 with padding="same"."""
        return self.geometry.margin if self.padding == "valid" else (0, 0, 0)

    @property
    def size_multiple(self) -> Size:
        """The strides' product; sizes of unpadded patches are so far apart."""
        return self.stages.total_stride

    @property
    def patch_sizes(self) -> tuple[PatchSizes, ...]:
        if self.padding == "same":
            return super().patch_sizes
        return tuple(PatchSizes(axis.smallest_input, axis.step) for axis in self.geometry.axes)

    def check_patch(self, size: Sequence[int]) -> None:
        if self.padding == "valid":
            self.geometry.check_input("AnisotropicUNet", size)
        else:
            super().check_patch(size)

    @property
    def supervised_scales(self) -> list[list[float]]:
        """All stages of the decoder with padding="same", the finest alone when unpadded."""
        return [self.stages.scale(stage) for stage in range(len(self.decoder.seg_layers))]

    def levels(self, x: Tensor) -> list[Tensor]:
        if self.padding == "same":
            return super().levels(x)
        if self.training or not self.keeps_size_in_evaluation:
            self.geometry.check_input("AnisotropicUNet", x.shape[2:])
            return self.segment(x)
        return [
            self.geometry.segment_whole_volume(
                lambda tile: self.segment(tile)[0], x, largest=self.largest_tile
            )
        ]

    def segment(self, x: Tensor) -> list[Tensor]:
        """The network itself, on a size that fits."""
        skips: list[Tensor] = []
        for block, stride in zip(self.encoder, self.stages.strides, strict=True):
            skips.append(block(x if not skips else functional.max_pool3d(skips[-1], stride)))
        outputs: list[Tensor] = self.decoder(skips)
        return outputs


class _Decoder(Decoder):
    """Transposed convolutions, concatenation, convolutions with dropout, and a head of 1x1x1.

    Lists go from fine to coarse.
    """

    crops: list[Size] | None
    """What is cut from each side of a stage's skip; None where nothing is."""
    dropout_first: bool
    """Whether dropout stands before a stage's convolutions or behind them."""

    def __init__(
        self,
        style: Style,
        stages: Stages,
        num_classes: int,
        padding: Padding,
        dropout: tuple[type[nn.Module], Mapping[str, Any]] | None,
        deep_supervision: bool,
    ) -> None:
        super().__init__(deep_supervision)
        self.transposed, self.blocks, self.dropouts = (
            nn.ModuleList(),
            nn.ModuleList(),
            nn.ModuleList(),
        )
        for stage, skip in enumerate(stages.features[:-1]):
            wide = stages.features[stage + 1]
            below = wide if stage == len(stages) - 2 else stages.features[stage + 2]
            stride = stages.strides[stage + 1]
            self.transposed.append(
                nn.ConvTranspose3d(below, wide, stride, stride, bias=style.conv_bias)
            )
            self.blocks.append(_build_block(style, stages, stage, wide + skip, wide, padding))
            self.dropouts.append(nn.Identity() if dropout is None else dropout[0](**dropout[1]))
        supervised = stages.features[1:] if padding == "same" else stages.features[1:2]
        self.seg_layers = nn.ModuleList(
            nn.Conv3d(features, num_classes, 1) for features in supervised
        )

    def forward(self, skips: list[Tensor]) -> list[Tensor]:
        """Logits of the supervised stages, finest first, or of the finest alone."""
        x, outputs = skips[-1], []
        for stage in reversed(range(len(self.blocks))):
            skip = skips[stage] if self.crops is None else crop(skips[stage], self.crops[stage])
            x = torch.cat([self.transposed[stage](x), skip], 1)
            layers = [self.dropouts[stage], self.blocks[stage]]
            for layer in layers if self.dropout_first else reversed(layers):
                x = layer(x)
            if stage == 0 or (self.deep_supervision and stage < len(self.seg_layers)):
                outputs.append(self.seg_layers[stage](x))
        return outputs[::-1]


def _encoder_blocks(
    style: Style, stages: Stages, inputs: int, padding: Padding
) -> Iterator[nn.Module]:
    for stage, features in enumerate(stages.features):
        yield _build_block(style, stages, stage, inputs, features, padding)
        inputs = features


def _build_block(
    style: Style, stages: Stages, stage: int, inputs: int, features: int, padding: Padding
) -> nn.Sequential:
    """The convolutions of one stage: in-plane, then through-plane if the kernel extends in z."""
    kz, ky, kx = stages.kernels[stage]
    kernels = ((1, ky, kx), (kz, 1, 1)) if kz > 1 else ((1, ky, kx),)
    units: list[nn.Module] = []
    for kernel in kernels * stages.convolutions[stage]:
        units.append(style.unit(inputs, features, kernel, padded=padding == "same"))
        inputs = features
    return nn.Sequential(*units)


def _axes(
    encoder: nn.ModuleList, decoder: nn.ModuleList, stages: Stages
) -> tuple[ValidAxis, ValidAxis, ValidAxis]:
    def losses(blocks: nn.ModuleList, axis: int) -> tuple[int, ...]:
        return tuple(
            sum(
                conv.kernel_size[axis] - 1
                for conv in block.modules()
                if isinstance(conv, nn.Conv3d)
            )
            for block in blocks
        )

    z, y, x = (
        ValidAxis(
            losses(encoder, axis),
            losses(decoder, axis),
            tuple(stride[axis] for stride in stages.strides),
        )
        for axis in range(3)
    )
    return z, y, x
