"""A convolution with its norm and its activation, built one way throughout a network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Style:
    """How a network's convolutions are built; the fields are nnU-Net's keyword arguments."""

    conv_op: Any
    conv_bias: bool
    norm_op: type[nn.Module] | None
    norm_op_kwargs: Mapping[str, Any] | None
    nonlin: type[nn.Module] | None
    nonlin_kwargs: Mapping[str, Any] | None

    def unit(
        self,
        inputs: int,
        features: int,
        kernel: Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padded: bool = True,
        activated: bool = True,
    ) -> nn.Sequential:
        """Convolution, norm, activation. `padded` keeps the size where the stride is 1."""
        padding = tuple(size // 2 for size in kernel) if padded else 0
        stride = stride if isinstance(stride, int) else tuple(stride)
        layers: dict[str, nn.Module] = {
            "convolution": self.conv_op(
                inputs, features, tuple(kernel), stride, padding, bias=self.conv_bias
            )
        }
        if self.norm_op is not None:
            layers["norm"] = self.norm_op(features, **(self.norm_op_kwargs or {}))
        if activated:
            layers["activation"] = self.activation()
        return nn.Sequential(OrderedDict(layers))

    def activation(self) -> nn.Module:
        """A fresh activation; ReLUs work in place unless told otherwise."""
        if self.nonlin is None:
            return nn.Identity()
        in_place = {"inplace": True} if self.nonlin in (nn.ReLU, nn.LeakyReLU) else {}
        return self.nonlin(**(in_place if self.nonlin_kwargs is None else self.nonlin_kwargs))
