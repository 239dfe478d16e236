"""The classes that plans name: nnU-Net imports whatever stands there, so strangers' are looked at.

`network_class_name` and the arguments in `_kw_requires_import` (convolution, norm, ...) are looked
up by their dotted names and called. In another person's plans they may be classes of networks of
the packages that nnU-Net's and this package's plans need, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

import dynamic_network_architectures
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from torch import nn

from nnunet_liver_ext.checkpoint_files import HOW_TO_TRUST
from nnunet_liver_ext.errors import InputError

PACKAGES = ("torch.nn", "dynamic_network_architectures", "nnunet_liver_ext")


def check_plans_classes(plans: Mapping[str, Any], source: Path) -> None:
    """Refuses plans that name anything but networks and layers of `PACKAGES`.

    Args:
        plans: content of a plans file.
        source: the file, for the message.

    Raises:
        InputError: a name is none of a network or layer that is known.
    """
    try:
        named = list(_named_classes(plans))
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{source}: is no complete plans file of nnU-Net ({type(error).__name__}: {error})."
        ) from None
    for configuration, key, name in named:
        if not _is_known(name):
            raise InputError(
                f"{source}: {key} of configuration {configuration} is {name}, no network or layer"
                f" of {', '.join(PACKAGES)}; importing it could run code, so nothing was loaded:"
                f" {HOW_TO_TRUST}."
            )


def _named_classes(plans: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(configuration, key, dotted name) of what nnU-Net would import."""
    for configuration, entry in plans["configurations"].items():
        architecture = entry.get("architecture")
        if architecture is None:  # inherited; for plans of early versions nnU-Net chooses itself
            continue
        yield configuration, "network_class_name", architecture["network_class_name"]
        for key in architecture["_kw_requires_import"]:
            if architecture["arch_kwargs"][key] is not None:
                yield configuration, key, architecture["arch_kwargs"][key]


def _is_known(name: Any) -> bool:
    """Whether a dotted name leads to a network or layer of `PACKAGES`; imports these alone."""
    if not isinstance(name, str) or not _is_within_packages(name):
        return False
    try:
        found = locate(name)
    except ErrorDuringImport:
        return False
    if found is None:  # nnU-Net then searches for the last part of the name
        found = recursive_find_python_class(
            str(Path(dynamic_network_architectures.__path__[0]) / "architectures"),
            name.rpartition(".")[2],
            "dynamic_network_architectures.architectures",
        )
    return (
        isinstance(found, type)
        and issubclass(found, nn.Module)
        and _is_within_packages(found.__module__)
    )


def _is_within_packages(name: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in PACKAGES)
