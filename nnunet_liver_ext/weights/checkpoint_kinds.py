"""The kinds of foreign checkpoints: whose names they have, and which network they are for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from nnunet_liver_ext.errors import InputError


@dataclass(frozen=True)
class CheckpointKind:
    """What is known of one kind of checkpoint."""

    name: str
    title: str
    heads: tuple[str, ...]
    """Parts of the names of segmentation heads."""
    source_names: Callable[[nn.Module], Mapping[str, str]]
    """A network's names -> the checkpoint's names, for everything that the kind can give."""
    is_counted: Callable[[nn.Module], Callable[[str], bool]]
    """Whether a weight of the network, by its name, is one of those that an import is for."""
    counted_part: str
    check: Callable[[nn.Module, str], None]
    """InputError if these weights are not for this network; the text says which plans it is of."""
    licence: str | None = None


def _same_names(network: nn.Module) -> Mapping[str, str]:
    return {name: name for name in network.state_dict()}


def _encoder(network: nn.Module) -> Callable[[str], bool]:
    """nnU-Net calls it `encoder`; of other networks everything but the heads is counted."""
    if any(name.startswith("encoder.") for name in network.state_dict()):
        return lambda name: name.startswith("encoder.")
    return lambda name: ".seg_layers." not in name


def _check_models_genesis(network: nn.Module, where: str) -> None:
    from nnunet_liver_ext.networks.models_genesis_unet import ModelsGenesisUNet

    if not isinstance(network, ModelsGenesisUNet):
        raise InputError(
            f"{where}: its network is {type(network).__name__}, but Models Genesis weights are for"
            " ModelsGenesisUNet: plan with nnunet_liver plan --architecture models-genesis."
        )


def _check_vgg11(network: nn.Module, where: str) -> None:
    from nnunet_liver_ext.networks.slice_unet import SliceUNet

    if not isinstance(network, SliceUNet) or network.encoder_kind != "vgg11":
        which = f" with encoder {network.encoder_kind!r}" if isinstance(network, SliceUNet) else ""
        raise InputError(
            f"{where}: its network is {type(network).__name__}{which}, but VGG11 weights are for"
            " SliceUNet with encoder 'vgg11': plan with nnunet_liver plan --architecture slice"
            " --architecture-option encoder=vgg11."
        )


def _vgg11_names(network: nn.Module) -> Mapping[str, str]:
    return network.vgg11_names()  # type: ignore[operator]


MODELS_GENESIS = CheckpointKind(
    name="models-genesis",
    title="Models Genesis",
    heads=("out_tr.",),
    source_names=_same_names,
    is_counted=lambda network: lambda name: name.startswith("down_tr"),
    counted_part="encoder",
    check=_check_models_genesis,
    licence="non-commercial licence",
)
"""Zhou et al. 2019, "Models Genesis": self-supervised on chest CT. The names are the network's
own."""

VGG11 = CheckpointKind(
    name="vgg11",
    title="VGG11",
    heads=(),
    source_names=lambda network: {ours: theirs for theirs, ours in _vgg11_names(network).items()},
    is_counted=lambda network: set(_vgg11_names(network).values()).__contains__,
    counted_part="VGG11 encoder",
    check=_check_vgg11,
)
"""Simonyan & Zisserman 2015, configuration A, by torchvision's names: ImageNet, RGB."""

NNUNET = CheckpointKind(
    name="nnunet",
    title="nnU-Net",
    heads=(".seg_layers.",),
    source_names=_same_names,
    is_counted=_encoder,
    counted_part="encoder",
    check=lambda network, where: None,
)
"""A checkpoint of one of nnU-Net's own trainers, of the same network."""

KINDS: dict[str, CheckpointKind] = {kind.name: kind for kind in (MODELS_GENESIS, VGG11, NNUNET)}
