"""How the images of a case enter and leave the network.

Source: Couteaux et al. 2021, "Comparing deep learning strategies", section 3.2, table 1.

A strategy wraps the network that the plans describe. It takes the channels of a case and gives one
VIEW for each image that has its own mask: the logits of that image. Training needs the views;
everything else (nnU-Net's predictor, its validation) needs one array of logits for nnU-Net's
labels, which for a pair are the joint logits (`pairing`).

B batch, M images of a case, K classes, ... spatial axes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import join_logits, num_marginal_classes

Levels = Any
"""A tensor (B, K, ...), or with deep supervision a list of them, finest first."""
CERTAIN = 20.0
"""Difference of logits that stands for certainty, also after averages over tiles and folds."""
BuildNetwork = Callable[[int, int], nn.Module]
"""(input channels, output channels) -> the plans' network."""


class Strategy(nn.Module, ABC):
    """Wraps the plans' network(s): views in training, nnU-Net's logits in evaluation."""

    is_pair = True
    """Whether it needs two images with a mask each."""
    takes_lone_images = False
    """Whether each image is segmented without a look at the other."""
    strips_organ_mask = False
    """Whether the last channel is an organ mask that the network does not see."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    @classmethod
    @abstractmethod
    def build(cls, build: BuildNetwork, num_inputs: int, num_outputs: int) -> Strategy:
        """The strategy for cases of `num_inputs` channels and `num_outputs` nnU-Net labels."""

    @abstractmethod
    def views(self, x: Tensor) -> list[Levels]:
        """Logits of each image that has a mask, K classes each, from channels (B, M, ...)."""

    def forward(self, x: Tensor) -> list[Levels] | Levels:
        """Views in training mode, nnU-Net's logits in evaluation mode."""
        views = self.views(x)
        return views if self.training else self.nnunet_logits(views)

    def nnunet_logits(self, views: list[Levels]) -> Levels:
        """Logits for nnU-Net's labels, (B, K², ...) for a pair.

        Each view's log-probabilities are joined rather than its logits. The two differ by one
        number per voxel, which neither softmax nor averages nor interpolation see; but nnU-Net adds
        up tiles in float16, where the confidence in one image would otherwise round away what is
        known of the other.
        """
        return map_levels(lambda u, v: join_logits(u.log_softmax(1), v.log_softmax(1)), *views)

    @property
    def decoder(self) -> _Decoders:
        """What nnU-Net sets `deep_supervision` on."""
        return _Decoders(self.networks)

    @property
    def whole_volume(self) -> bool:
        """Whether, in evaluation, one look at a whole volume is exact and fits into memory."""
        return all(getattr(network, "whole_volume", False) for network in self.networks)

    @property
    def margin(self) -> tuple[int, ...]:
        """Voxels that a patch loses on each side in training; () if it keeps its size."""
        return tuple(getattr(self.networks[0], "margin", ()))

    @property
    def supervised_scales(self) -> list[list[float]] | None:
        """Resolution of each supervised output along each axis; None: nnU-Net's."""
        return getattr(self.networks[0], "supervised_scales", None)

    @property
    def supervision_weights(self) -> list[float] | None:
        """Weight of each supervised output; None: nnU-Net's, half of the next finer one's."""
        scales = self.supervised_scales
        if scales is not None and len(scales) == 1:
            return [1.0]
        return getattr(self.networks[0], "supervision_weights", None)

    @contextmanager
    def as_in_training(self) -> Iterator[None]:
        """Meanwhile unpadded networks give the smaller output of training in evaluation, too."""
        keeping: list[Any] = [
            network
            for network in self.networks
            if getattr(network, "keeps_size_in_evaluation", False)
        ]
        for network in keeping:
            network.keeps_size_in_evaluation = False
        try:
            yield
        finally:
            for network in keeping:
                network.keeps_size_in_evaluation = True


class _Decoders:
    """The decoders of all wrapped networks, switched together."""

    def __init__(self, networks: Any) -> None:
        self._networks = networks

    @property
    def deep_supervision(self) -> bool:
        return bool(self._networks[0].decoder.deep_supervision)

    @deep_supervision.setter
    def deep_supervision(self, enabled: bool) -> None:
        for network in self._networks:
            network.decoder.deep_supervision = enabled


class OneView(Strategy):
    """An ordinary dataset with one mask for all channels: the plans' network as it is.

    Pre-registered pairs are such datasets.
    """

    is_pair = False

    @classmethod
    def build(cls, build: BuildNetwork, num_inputs: int, num_outputs: int) -> Strategy:
        return cls([build(num_inputs, num_outputs)])

    def views(self, x: Tensor) -> list[Levels]:
        return [self.networks[0](x)]

    def nnunet_logits(self, views: list[Levels]) -> Levels:
        return views[0]


class ImageAlone(OneView):
    """One mask, and an organ mask as the last channel, which the network never sees.

    Source: Hänsch et al. 2022, Methods.

    In training the loader has taken that channel away already; at inference nnU-Net hands it over
    like an image, and what is found beyond the organ is taken back: the loss says nothing about
    what lies there.
    """

    strips_organ_mask = True

    @classmethod
    def build(cls, build: BuildNetwork, num_inputs: int, num_outputs: int) -> Strategy:
        if num_inputs < 2:
            raise InputError(
                "a tumour network needs an image and an organ mask, but the dataset has one"
                " channel."
            )
        strategy = cls([build(num_inputs - 1, num_outputs)])
        strategy.image_channels = num_inputs - 1
        return strategy

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__(networks)
        self.image_channels = 1

    def views(self, x: Tensor) -> list[Levels]:
        return super().views(x[:, : self.image_channels])

    def forward(self, x: Tensor) -> list[Levels] | Levels:
        logits = super().forward(x)
        if self.training or x.shape[1] == self.image_channels:
            return logits
        inside = x[:, self.image_channels :] > 0.5  # nnU-Net has interpolated the mask
        return map_levels(lambda level: _force_background(level, inside), logits)


def _force_background(logits: Tensor, inside: Tensor) -> Tensor:
    """Logits (B, K, ...) with certain background where a mask (B, 1, ...) is False.

    Coarser levels stay as they are.
    """
    if logits.shape[2:] != inside.shape[2:]:
        return logits
    background = logits[:, :1]
    foreground = torch.where(inside, logits[:, 1:], background - CERTAIN)
    return torch.cat([background, foreground], 1)


class SingleInput(Strategy):
    """One network, one image at a time: u = f(x1), v = f(x2).

    Both images run as one batch of 2B, unless the network normalises with the batch's statistics.
    """

    inputs_per_image = 1
    takes_lone_images = True

    @classmethod
    def build(cls, build: BuildNetwork, num_inputs: int, num_outputs: int) -> Strategy:
        _check_channels(cls, num_inputs)
        return cls([build(cls.inputs_per_image, num_marginal_classes(num_outputs))])

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__(networks)
        self.mixes_batch = any(
            _uses_batch_statistics_in_evaluation(network) for network in networks
        )
        self.shares_in_training = getattr(networks[0], "views_share_statistics", True)

    def views(self, x: Tensor) -> list[Levels]:
        inputs = select_inputs(x, self.inputs_per_image)
        network = self.networks[0]
        if self.mixes_batch and not (self.training and self.shares_in_training):
            return [network(image) for image in inputs]
        return split_levels(lambda level: level.chunk(2), network(torch.cat(inputs)))


class SingleInputSpecialized(Strategy):
    """A network for each modality: u = f1(x1), v = f2(x2)."""

    inputs_per_image = 1
    takes_lone_images = True

    @classmethod
    def build(cls, build: BuildNetwork, num_inputs: int, num_outputs: int) -> Strategy:
        _check_channels(cls, num_inputs)
        return cls(
            [
                build(cls.inputs_per_image, num_marginal_classes(num_outputs))
                for _ in range(num_inputs)
            ]
        )

    def views(self, x: Tensor) -> list[Levels]:
        return [
            network(image)
            for network, image in zip(
                self.networks, select_inputs(x, self.inputs_per_image), strict=True
            )
        ]


class DualInput(SingleInput):
    """One network that sees both images and segments the first: u = f(x1, x2), v = f(x2, x1).

    Both orders run as one batch of 2B.
    """

    inputs_per_image = 2
    takes_lone_images = False


class DualInputSpecialized(SingleInputSpecialized):
    """A network for each modality that sees both images, its image first.

    u = f1(x1, x2), v = f2(x2, x1).
    """

    inputs_per_image = 2
    takes_lone_images = False


class DualOutputSpecialized(Strategy):
    """One network that sees both images in their order and segments both: (u, v) = f(x1, x2)."""

    @classmethod
    def build(cls, build: BuildNetwork, num_inputs: int, num_outputs: int) -> Strategy:
        _check_channels(cls, num_inputs)
        return cls([build(num_inputs, num_inputs * num_marginal_classes(num_outputs))])

    def views(self, x: Tensor) -> list[Levels]:
        return split_levels(lambda level: level.chunk(2, dim=1), self.networks[0](x))


class DualOutput(DualOutputSpecialized):
    """`DualOutputSpecialized` whose images are swapped with probability 1/2 in training.

    The views are swapped back, so that view i is always that of image i. In evaluation the order is
    (x1, x2).
    """

    def views(self, x: Tensor) -> list[Levels]:
        if not self.training:
            return super().views(x)
        swap_B = torch.rand(x.shape[0], device=x.device) < 0.5
        first, second = super().views(_select_cases(swap_B, x.flip(1), x))
        return [
            map_levels(lambda u, v: _select_cases(swap_B, v, u), first, second),
            map_levels(lambda u, v: _select_cases(swap_B, u, v), first, second),
        ]


STRATEGIES: dict[str, type[Strategy]] = {
    "one_view": OneView,
    "image_alone": ImageAlone,
    "single_input": SingleInput,
    "single_input_specialized": SingleInputSpecialized,
    "dual_input": DualInput,
    "dual_input_specialized": DualInputSpecialized,
    "dual_output": DualOutput,
    "dual_output_specialized": DualOutputSpecialized,
}


def select_inputs(x: Tensor, images: int) -> list[Tensor]:
    """What is seen for each image of (B, 2, ...): itself alone, or itself and then the other."""
    return [x[:, 0:1], x[:, 1:2]] if images == 1 else [x, x.flip(1)]


def _check_channels(strategy: type[Strategy], num_inputs: int) -> None:
    if num_inputs != 2:
        raise InputError(
            f"strategy {strategy.__name__} needs a pair of images, but the dataset has {num_inputs}"
            " channels."
        )


def map_levels(function: Callable[..., Any], *levels: Levels) -> Levels:
    """Applies a function of tensors at each level of deep supervision."""
    if isinstance(levels[0], Tensor):
        return function(*levels)
    return [function(*tensors) for tensors in zip(*levels, strict=True)]


def split_levels(split: Callable[[Tensor], Any], levels: Levels) -> list[Levels]:
    """Splits each level of deep supervision into that of image 1 and that of image 2."""
    halves = map_levels(split, levels)
    return (
        list(halves)
        if isinstance(levels, Tensor)
        else [list(half) for half in zip(*halves, strict=True)]
    )


def _select_cases(condition_B: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition_B.view(-1, *[1] * (a.ndim - 1)), a, b)


def unwrap(network: Any) -> Any:
    """The network inside DistributedDataParallel and torch.compile."""
    network = getattr(network, "module", network)
    return getattr(network, "_orig_mod", network)


def _uses_batch_statistics_in_evaluation(network: nn.Module) -> bool:
    if getattr(network, "uses_batch_statistics", False):
        return True
    return any(
        isinstance(module, _BatchNorm) and not module.track_running_stats
        for module in network.modules()
    )
