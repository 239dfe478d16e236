"""The architectures of `nnunet_liver plan --architecture`: their networks' arguments for images of
some spacing and size.

`nnunet` and `resenc` are nnU-Net's own, with nnU-Net's planners. Sizes and spacings are (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.planning.topology import anisotropic_topology, features_of

Arguments = dict[str, Any]
IMPORTED = ("conv_op", "norm_op", "dropout_op", "nonlin")
"""Arguments whose names in the plans stand for classes."""


@dataclass(frozen=True)
class Architecture:
    """A network and how it is planned."""

    name: str
    title: str
    """Behind `nnUNetPlans` in the default name of the plans."""
    network: str
    """Where its class is."""
    arguments: Callable[[Sequence[float], Sequence[float], Mapping[str, Any]], Arguments] | None = (
        None
    )
    """(spacing in mm, median size, options) -> the network's arguments; None: nnU-Net's planner
    knows them."""
    spacing_mm: tuple[float, float, float] | None = None
    """Unless another is asked for; None: nnU-Net's choice."""
    takes_whole_images: bool = False
    """The patch is as large as the median image, and rather a batch of one than less."""

    @property
    def plans_name(self) -> str:
        return f"nnUNetPlans{self.title}"

    @property
    def is_nnunets(self) -> bool:
        return self.arguments is None


def _anisotropic(
    spacing_mm: Sequence[float], size: Sequence[float], options: Mapping[str, Any]
) -> Arguments:
    if options.get("padding") == "valid":  # the paper to the letter
        from nnunet_liver_ext.networks.anisotropic_unet import FEATURES, KERNEL_SIZES, STRIDES

        return (
            {"padding": "valid"}
            | _stages(STRIDES, FEATURES)
            | {"kernel_sizes": _lists(KERNEL_SIZES)}
        )
    strides, kernels = anisotropic_topology(spacing_mm, size)
    return (
        {"padding": "same"}
        | _stages(strides, features_of(len(strides)))
        | {"kernel_sizes": kernels}
    )


def _di2in(
    spacing_mm: Sequence[float], size: Sequence[float], options: Mapping[str, Any]
) -> Arguments:
    from nnunet_liver_ext.networks.di2in import FEATURES, STRIDES

    return _stages(STRIDES, FEATURES)


def _slice(
    spacing_mm: Sequence[float], size: Sequence[float], options: Mapping[str, Any]
) -> Arguments:
    from nnunet_liver_ext.networks.slice_unet import PLAIN_FEATURES, STRIDES, VGG11_FEATURES

    features = VGG11_FEATURES if options.get("encoder") == "vgg11" else PLAIN_FEATURES
    return {"neighbours": 0} | _stages(STRIDES, features)


def _models_genesis(
    spacing_mm: Sequence[float], size: Sequence[float], options: Mapping[str, Any]
) -> Arguments:
    from nnunet_liver_ext.networks.models_genesis_unet import FEATURES, STRIDES

    return _stages(STRIDES, FEATURES)


def _stages(strides: Sequence[Sequence[int]], features: Sequence[int]) -> Arguments:
    return {
        "n_stages": len(features),
        "strides": _lists(strides),
        "features_per_stage": list(features),
    }


def _lists(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    return [list(row) for row in rows]


DYNAMIC, OURS = "dynamic_network_architectures.architectures.unet", "nnunet_liver_ext.networks"
SLICE = Architecture("slice", "Slice", f"{OURS}.slice_unet.SliceUNet", _slice)
ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture("nnunet", "", f"{DYNAMIC}.PlainConvUNet"),
        Architecture("resenc", "ResEnc", f"{DYNAMIC}.ResidualEncoderUNet"),
        Architecture(
            "anisotropic", "Anisotropic", f"{OURS}.anisotropic_unet.AnisotropicUNet", _anisotropic
        ),
        Architecture(
            "di2in",
            "DI2IN",
            f"{OURS}.di2in.DI2IN",
            _di2in,
            spacing_mm=(3.0, 3.0, 3.0),
            takes_whole_images=True,
        ),
        SLICE,
        Architecture(
            "models-genesis",
            "ModelsGenesis",
            f"{OURS}.models_genesis_unet.ModelsGenesisUNet",
            _models_genesis,
        ),
    )
}


def architecture_of(name: str) -> Architecture:
    """InputError for a name that there is not."""
    if name not in ARCHITECTURES:
        raise InputError(
            f"there is no architecture {name!r}: choose from {', '.join(ARCHITECTURES)}."
        )
    return ARCHITECTURES[name]


def architecture_entry(
    architecture: Architecture,
    spacing_mm: Sequence[float],
    size: Sequence[float],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """`architecture` of a configuration of the plans.

    Args:
        architecture: one of ours.
        spacing_mm: of the images after resampling.
        size: of the median image in voxels.
        options: further arguments of the network, or others.
    """
    arguments_of = architecture.arguments
    if arguments_of is None:
        raise InputError(
            f"{architecture.name} is planned by nnU-Net itself, which takes no options."
        )
    arguments = {**arguments_of(spacing_mm, size, options), **options}
    imported = [name for name in IMPORTED if arguments.get(name) is not None]
    return {
        "network_class_name": architecture.network,
        "arch_kwargs": arguments,
        "_kw_requires_import": imported,
    }
