"""The network that plans describe, without memory for its weights: to ask it what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pydoc import locate
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_liver_ext.errors import InputError


def build_without_weights(architecture: Mapping[str, Any]) -> Any:
    """The network for one channel and two classes.

    Args:
        architecture: of a configuration of plans.

    Raises:
        InputError: arguments that the network does not know, or that do not go together.
    """
    keys = ("network_class_name", "arch_kwargs", "_kw_requires_import")
    with torch.device("meta"):
        return get_network_from_plans(*(architecture[key] for key in keys), 1, 2, allow_init=False)


def check_patch(architecture: Mapping[str, Any], patch_size: Any) -> None:
    """Raises InputError if no patch of a training may measure `patch_size`.

    Networks that do not say themselves what fits take multiples of their strides.
    """
    factors = [prod(steps) for steps in zip(*architecture["arch_kwargs"]["strides"], strict=True)]
    is_size = isinstance(patch_size, list | tuple) and len(patch_size) == len(factors)
    is_size = is_size and all(isinstance(n, int) and n > 0 for n in patch_size)
    if is_size and hasattr(locate(architecture.get("network_class_name", "")), "check_patch"):
        build_without_weights(architecture).check_patch(patch_size)
    elif not is_size or any(n % factor for n, factor in zip(patch_size, factors, strict=True)):
        raise InputError(
            f"patch_size {patch_size} must be {len(factors)} multiples of the network's strides"
            f" {factors}."
        )
