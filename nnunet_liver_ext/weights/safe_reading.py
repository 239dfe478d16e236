"""Reading a foreign checkpoint without running any of its code.

Of a .pt or .pth file, which is a pickle, tensors, numbers and containers are read and nothing else
(`checkpoint_files`). A .safetensors file holds a JSON header and raw numbers, so there is nothing
to run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from nnunet_liver_ext.checkpoint_files import read_torch_file
from nnunet_liver_ext.errors import InputError

PLACES = ("network_weights", "state_dict", "model_state_dict", "model")
"""Where checkpoints hold their weights: the first that is there, else the file itself."""
WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel, DistributedDataParallel and torch.compile put before every name."""
HOW_TO_READ = (
    "if you trust its author, read it with --trust, or save the state_dict alone with torch.save"
)


@dataclass(frozen=True)
class ForeignCheckpoint:
    """Weights by name, and what else the file says."""

    path: Path
    sha256: str
    weights: dict[str, Tensor]
    content: Mapping[str, Any]
    """All of the file; empty for .safetensors."""


def read_checkpoint(path: Path, *, trust: bool = False) -> ForeignCheckpoint:
    """Reads a .pt, .pth or .safetensors file on the CPU, names without wrappers' prefixes.

    Args:
        path: the file.
        trust: its author may run what he wrote.

    Raises:
        InputError: no such file, no checkpoint, one that needs more than tensors and numbers
            (nothing of it is run), one without weights by name, or weights that are NaN or
            infinite.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a checkpoint (.pt, .pth or .safetensors).")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    content = (
        _read_safetensors(path)
        if path.suffix.lower() == ".safetensors"
        else read_torch_file(path, trust=trust, advice=HOW_TO_READ)
    )
    weights = strip_wrappers(_find_weights(content, path))
    _check_finite(weights, path)
    return ForeignCheckpoint(
        path, digest, weights, content if path.suffix.lower() != ".safetensors" else {}
    )


def strip_wrappers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the names that they have in the bare network."""
    weights = dict(weights)
    while prefix := next(
        (wrapper for wrapper in WRAPPERS if all(name.startswith(wrapper) for name in weights)), None
    ):
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: is no complete .safetensors file ({_first_line(error)})."
        ) from None


def _find_weights(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        place = next((key for key in PLACES if isinstance(content.get(key), Mapping)), None)
        named = content if place is None else content[place]
        weights = {
            name: value
            for name, value in named.items()
            if isinstance(name, str) and isinstance(value, Tensor)
        }
        if weights:
            return weights
    content_text = (
        ", ".join(map(str, list(content)[:5]))
        if isinstance(content, Mapping)
        else type(content).__name__
    )
    raise InputError(
        f"{path}: holds no weights by name (found: {content_text or 'nothing'}); save a state_dict."
    )


def _check_finite(weights: Mapping[str, Tensor], path: Path) -> None:
    spoiled = [
        name
        for name, tensor in weights.items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if spoiled:
        raise InputError(
            f"{path}: {len(spoiled)} of {len(weights)} weights are NaN or infinite, first"
            f" {spoiled[0]}; take an earlier checkpoint."
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
