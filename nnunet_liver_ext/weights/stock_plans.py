"""What an nnU-Net checkpoint says of its network: nnU-Net keeps the plans beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_liver_ext.weights.safe_reading import ForeignCheckpoint

SAME_NETWORK = ("network_class_name", "arch_kwargs")
NOT_IN_WEIGHTS = ("deep_supervision",)
"""Arguments of a network that change none of its weights."""


def architecture_differences(
    checkpoint: ForeignCheckpoint, architecture: Mapping[str, Any]
) -> list[str]:
    """How the network of an nnU-Net checkpoint differs from the plans'; empty if it does not say.

    The strides of an encoder, for example, are in no weight's shape, but its weights were learnt
    for them.

    Args:
        checkpoint: of one of nnU-Net's trainers, with the plans in `init_args`.
        architecture: `network_class_name` and `arch_kwargs` of the plans.
    """
    theirs = _find_architecture(checkpoint)
    if theirs is None:
        return []
    if theirs["network_class_name"] != architecture["network_class_name"]:
        return [f"its class ({theirs['network_class_name'].split('.')[-1]})"]
    there, here = theirs["arch_kwargs"], architecture["arch_kwargs"]
    names = [name for name in {**there, **here} if name not in NOT_IN_WEIGHTS]
    return [
        f"{name} ({_shorten(there.get(name))})"
        for name in names
        if there.get(name) != here.get(name)
    ]


def _find_architecture(checkpoint: ForeignCheckpoint) -> Mapping[str, Any] | None:
    arguments = checkpoint.content.get("init_args")
    if not isinstance(arguments, Mapping):
        return None
    try:
        architecture = _inherited_architecture(
            arguments["plans"]["configurations"], arguments["configuration"]
        )
    except (KeyError, TypeError, AttributeError):
        return None
    return architecture if all(key in architecture for key in SAME_NETWORK) else None


def _inherited_architecture(configurations: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The architecture of a configuration or of what it inherits from."""
    for _ in configurations:
        if "architecture" in configurations[name]:
            break
        name = configurations[name]["inherits_from"]
    return configurations[name]["architecture"]


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
