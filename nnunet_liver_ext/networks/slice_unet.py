"""The 2D U-Net for liver volume and fat fraction.

Source: student report with Antaros Medical, sections 2.2 to 2.6 and 3.4.

nnU-Net sees a 3D network; within, every slice is segmented by a padded 2D U-Net of four poolings.
Of single slices it sees a 2D network, the same one.
The report's options V, R and T are arguments: neighbouring slices as channels, short skips over the
convolution blocks, the encoder of VGG11. Its option E, elastic deformation, is an augmentation.
Chosen here, for the report does not say:

- The plain encoder has the features of the first U-Net, 64 to 1024; there is no norm, unless one is
  given.
- A short skip is added before the block's last activation, through a 1x1 convolution where the
  features differ (He et al. 2016); the encoder of VGG11 can have them, too.
- Beyond the first and the last slice the same slice stands again as its neighbour.
- VGG11's fifth pooling is left away, so that both encoders have four.

B batch, C channels of the image, S slices, W = 2 · neighbours + 1 slices seen, K classes, Z Y X
voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn
from torch.nn import functional

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.networks.convolution_style import Style
from nnunet_liver_ext.networks.network import Decoder, SegmentationNetwork
from nnunet_liver_ext.networks.stages import Stages, resolve_stages

EncoderKind = Literal["plain", "vgg11"]

STRIDES = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2), (1, 2, 2))
PLAIN_FEATURES = (64, 128, 256, 512, 1024)
VGG11_FEATURES = (64, 128, 256, 512, 512)
VGG11_CONVOLUTIONS = (1, 1, 2, 2, 2)
VGG11_LAYERS = ((0,), (3,), (6, 8), (11, 13), (16, 18))
"""Where torchvision's `vgg11().features` has the convolutions of each stage."""
DROPOUT = 0.5
STAGES_WITH_DROPOUT = 2
SLICES_AT_ONCE = 8
"""Slices of a chunk in evaluation.

Each of 256 x 256 pixels takes 17 MB for a map of 64 features in float32.
"""
IN_PLANE: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: nn.BatchNorm2d,
    nn.BatchNorm3d: nn.BatchNorm2d,
    nn.InstanceNorm2d: nn.InstanceNorm2d,
    nn.InstanceNorm3d: nn.InstanceNorm2d,
}


class SliceUNet(SegmentationNetwork):
    """Slices in, with `neighbours` on each side; without arguments the report's base network.

    The report takes 1 neighbour for liver volume and 4 for fat fraction. Patches need 2 ·
    neighbours + 1 slices at least for a slice with all its neighbours. In evaluation slices run in
    chunks, so that any number of them fits. With conv_op Conv2d images are single slices (B, C, Y,
    X), which stand for their own neighbours.
    """

    whole_volume = True
    takes_slices = True

    encoder: nn.ModuleList
    decoder: _Decoder

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool = False,
        *,
        neighbours: int = 0,
        residual: bool = False,
        encoder: EncoderKind = "plain",
        n_stages: int | None = None,
        strides: Sequence[Sequence[int]] = STRIDES,
        features_per_stage: Sequence[int] | None = None,
        n_conv_per_stage: Sequence[int] | int | None = None,
        conv_op: type[nn.Module] = nn.Conv3d,
        conv_bias: bool = True,
        norm_op: type[nn.Module] | None = None,
        norm_op_kwargs: Mapping[str, Any] | None = None,
        dropout_op: type[nn.Module] | None = nn.Dropout,
        dropout_op_kwargs: Mapping[str, Any] | None = None,
        nonlin: type[nn.Module] | None = nn.ReLU,
        nonlin_kwargs: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> None:
        """
        Args:
            neighbours: slices seen on each side, as channels (option V).
            residual: short skips over each block of convolutions (option R).
            encoder: "vgg11" has VGG11's convolutions, for `vgg11_names` (option T).
            features_per_stage: by default the encoder's own; VGG11's are fixed.
            n_conv_per_stage: likewise; the decoder has two in each stage.
            strides: (1, y, x), or (y, x) of single slices.
            conv_op: Conv3d, for nnU-Net sees a 3D network, or Conv2d for single slices.
            norm_op: batch or instance norm, taken in 2D.
            dropout_op_kwargs: a dropout without them has the report's p = 0.5; it follows the two
                coarsest stages.
            others: as in nnU-Net's networks.

        Raises:
            InputError: arguments that do not exist or do not go together.
        """
        super().__init__(input_channels, num_classes, conv_op=conv_op, unknown=unknown)
        if neighbours < 0:
            raise InputError(f"SliceUNet needs neighbours of 0 or more, but has {neighbours}.")
        self.neighbours, self.encoder_kind = neighbours, encoder
        self.single_slices = conv_op is nn.Conv2d
        features, convolutions = _encoder_sizes(encoder, features_per_stage, n_conv_per_stage)
        self.stages = resolve_stages(
            "SliceUNet",
            strides=_with_slice_axis(strides) if self.single_slices else strides,
            features_per_stage=features,
            n_conv_per_stage=convolutions,
            n_stages=n_stages,
        )
        _check_in_plane(self.stages, norm_op)
        norm = None if norm_op is None else IN_PLANE[norm_op]
        style = Style(nn.Conv2d, conv_bias, norm, norm_op_kwargs, nonlin, nonlin_kwargs)
        dropout = (
            None if dropout_op is None else dropout_op(**(dropout_op_kwargs or {"p": DROPOUT}))
        )
        channels = input_channels * (2 * neighbours + 1)
        self.encoder = nn.ModuleList(
            _encoder_blocks(style, self.stages, channels, residual, dropout)
        )
        self.decoder = _Decoder(style, self.stages, num_classes, residual, deep_supervision)
        self.slices_at_once = SLICES_AT_ONCE

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """He's normal distribution."""
        InitWeights_He(0)(module)

    def vgg11_names(self) -> dict[str, str]:
        """Names in torchvision's VGG11 -> names in `state_dict()`.

        The first convolution has `input_channels` · W channels instead of three: slice by slice,
        from the lowest z, each with all channels.

        Raises:
            InputError: the encoder is not VGG11's.
        """
        if self.encoder_kind != "vgg11":
            raise InputError("This SliceUNet has no VGG11 encoder: plan it with encoder='vgg11'.")
        return {
            f"features.{layer}.{parameter}": (
                f"encoder.{stage}.units.{index}.convolution.{parameter}"
            )
            for stage, layers in enumerate(VGG11_LAYERS)
            for index, layer in enumerate(layers)
            for parameter in ("weight", "bias")
        }

    @property
    def size_multiple(self) -> tuple[int, ...]:
        multiple = self.stages.total_stride
        return multiple[1:] if self.single_slices else multiple

    def segment(self, x: Tensor) -> list[Tensor]:
        if self.single_slices:
            return [self._segment_slices(x[:, :, None], 0, 1)[:, :, 0]]
        slices = x.shape[2]
        chunk = slices if self.training else self.slices_at_once
        chunks = [
            self._segment_slices(x, first, min(first + chunk, slices))
            for first in range(0, slices, chunk)
        ]
        return [chunks[0] if len(chunks) == 1 else torch.cat(chunks, 2)]

    def _segment_slices(self, x: Tensor, first: int, last: int) -> Tensor:
        """Logits (B, K, S, Y, X) of the slices from `first` to before `last`."""
        seen = gather_neighbours(x, first, last, self.neighbours)
        slices = seen.flatten(0, 1)
        skips: list[Tensor] = []
        for block, (_, y, x_) in zip(self.encoder, self.stages.strides, strict=True):
            slices = block(slices if not skips else functional.max_pool2d(slices, (y, x_)))
            skips.append(slices)
        logits: Tensor = self.decoder(skips)
        return logits.reshape(*seen.shape[:2], *logits.shape[1:]).movedim(1, 2)


def gather_neighbours(x: Tensor, first: int, last: int, neighbours: int) -> Tensor:
    """Slices `first` to before `last` of (B, C, Z, Y, X) with their neighbours: (B, S, W·C, Y, X).

    The neighbours of the first and the last slice of x are these slices themselves.
    """
    offsets_W = torch.arange(-neighbours, neighbours + 1, device=x.device)
    index_SW = torch.arange(first, last, device=x.device)[:, None] + offsets_W
    seen_BCSWYX = x[:, :, index_SW.clamp(0, x.shape[2] - 1)]
    return seen_BCSWYX.permute(0, 2, 3, 1, 4, 5).flatten(2, 3)


class _Block(nn.Module):
    """Convolutions of one stage, with or without a short skip over them, then dropout."""

    def __init__(
        self,
        style: Style,
        inputs: int,
        features: int,
        convolutions: int,
        residual: bool,
        dropout: nn.Module | None = None,
    ) -> None:
        super().__init__()
        widths = [inputs, *[features] * convolutions]
        self.units = nn.ModuleList(
            style.unit(widths[index], features, (3, 3), activated=index < convolutions - 1)
            for index in range(convolutions)
        )
        if residual:
            self.shortcut: nn.Module | None = (
                nn.Identity() if inputs == features else nn.Conv2d(inputs, features, 1)
            )
        else:
            self.shortcut = None
        self.activation = style.activation()
        self.dropout = nn.Identity() if dropout is None else dropout

    def forward(self, x: Tensor) -> Tensor:
        features = x
        for unit in self.units:
            features = unit(features)
        if self.shortcut is not None:
            features = features + self.shortcut(x)
        output: Tensor = self.dropout(self.activation(features))
        return output


class _Decoder(Decoder):
    """Transposed convolutions, concatenation, two convolutions, and a head of 1x1.

    Lists go from fine to coarse.
    """

    def __init__(
        self, style: Style, stages: Stages, num_classes: int, residual: bool, deep_supervision: bool
    ) -> None:
        super().__init__(deep_supervision)
        self.transposed, self.blocks = nn.ModuleList(), nn.ModuleList()
        for stage, features in enumerate(stages.features[:-1]):
            stride = stages.strides[stage + 1][1:]
            self.transposed.append(
                nn.ConvTranspose2d(stages.features[stage + 1], features, stride, stride)
            )
            self.blocks.append(_Block(style, 2 * features, features, 2, residual))
        self.seg_layers = nn.ModuleList([nn.Conv2d(stages.features[0], num_classes, 1)])

    def forward(self, skips: list[Tensor]) -> Tensor:
        x = skips[-1]
        for stage in reversed(range(len(self.blocks))):
            x = self.blocks[stage](torch.cat([self.transposed[stage](x), skips[stage]], 1))
        logits: Tensor = self.seg_layers[0](x)
        return logits


def _encoder_blocks(
    style: Style, stages: Stages, inputs: int, residual: bool, dropout: nn.Module | None
) -> Iterator[nn.Module]:
    for stage, features in enumerate(stages.features):
        is_deep = stage >= len(stages) - STAGES_WITH_DROPOUT
        yield _Block(
            style,
            inputs,
            features,
            stages.convolutions[stage],
            residual,
            dropout if is_deep else None,
        )
        inputs = features


def _encoder_sizes(
    kind: EncoderKind, features: Sequence[int] | None, convolutions: Sequence[int] | int | None
) -> tuple[Sequence[int], Sequence[int] | int]:
    """Features and number of convolutions in each stage."""
    if kind == "plain":
        return features or PLAIN_FEATURES, convolutions or 2
    if kind != "vgg11":
        raise InputError(f"SliceUNet has encoder 'plain' or 'vgg11', not {kind!r}.")
    if features not in (None, VGG11_FEATURES) and tuple(features or ()) != VGG11_FEATURES:
        raise InputError(
            f"SliceUNet's VGG11 encoder has features_per_stage {list(VGG11_FEATURES)}, not"
            f" {list(features or ())}."
        )
    if (
        convolutions is not None
        and convolutions != list(VGG11_CONVOLUTIONS)
        and convolutions != VGG11_CONVOLUTIONS
    ):
        raise InputError(
            f"SliceUNet's VGG11 encoder has n_conv_per_stage {list(VGG11_CONVOLUTIONS)}, not"
            f" {convolutions}."
        )
    return VGG11_FEATURES, VGG11_CONVOLUTIONS


def _with_slice_axis(strides: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """(1, y, x) of each (y, x)."""
    return [(1, *stride) if len(stride) == 2 else stride for stride in strides]


def _check_in_plane(stages: Stages, norm_op: type[nn.Module] | None) -> None:
    if any(z != 1 for z, _, _ in stages.strides):
        raise InputError(
            "SliceUNet cannot pool across slices: its strides are [1, y, x], not"
            f" {list(stages.strides)}."
        )
    if norm_op is not None and norm_op not in IN_PLANE:
        raise InputError(
            f"SliceUNet knows batch norm and instance norm as norm_op, not {norm_op.__name__}."
        )
