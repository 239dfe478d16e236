"""The network that plans describe, without memory for its weights: to ask it what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans


def network_without_weights(architecture: Mapping[str, Any]) -> Any:
    """For one channel and two classes, from `architecture` of a configuration.

    Raises:
        InputError: arguments that the network does not know, or that do not go together.
    """
    of_plans = [
        architecture[key] for key in ("network_class_name", "arch_kwargs", "_kw_requires_import")
    ]
    with torch.device("meta"):
        return get_network_from_plans(*of_plans, 1, 2, allow_init=False)
