"""Checkpoints of PyTorch: read without running what is in them.

A .pth file is a pickle, and unpickling may run whatever its author wrote. torch's `weights_only`
reader builds tensors, numbers and containers and nothing else. To these numpy's scalars are added,
which nnU-Net writes beside its weights (the best moving average, the log). Whoever trusts an author
says so: `--trust`, `trust=True`, or `NNUNET_LIVER_TRUST=1` where nnUNetv2_train has no option.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnunet_liver_ext.environment import TRUST_VARIABLE
from nnunet_liver_ext.errors import InputError

FORCE, DO_NOT_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
"""Variables that torch.load obeys, whatever its caller asked for."""
HOW_TO_TRUST = (
    "if you trust its author, read it with --trust"
    f" ({TRUST_VARIABLE}=1 in a training, trust=True in Python)"
)


@contextmanager
def restricted_loading(*, trust: bool) -> Iterator[None]:
    """Within the block torch.load builds tensors, numbers and containers, whoever calls it.

    So nnU-Net's own loaders, which ask for all of a pickle, meet none that could run anything.

    Args:
        trust: torch.load does what its caller asks for.
    """
    if trust:
        yield
        return
    allowed = torch.serialization.get_safe_globals()
    variables = {name: os.environ.pop(name, None) for name in (FORCE, DO_NOT_FORCE)}
    os.environ[FORCE] = "1"
    torch.serialization.add_safe_globals(_numpy_scalars())
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(allowed)
        del os.environ[FORCE]
        os.environ.update({name: value for name, value in variables.items() if value is not None})


def read_torch_file(
    path: Path,
    *,
    trust: bool,
    kind: str = "checkpoint of PyTorch",
    advice: str = HOW_TO_TRUST,
) -> Any:
    """What a file of torch.save holds, on the CPU.

    Args:
        path: the file; weights stay on the disk until they are used (torch's `mmap`).
        trust: its author may run what he wrote.
        kind: what it should be, for the sentence about a damaged file.
        advice: what to do with a file that needs more than tensors and numbers.

    Raises:
        InputError: the file needs more than tensors and numbers (nothing of it is run), or it is
            damaged or no file of torch.save.
    """
    try:
        with restricted_loading(trust=trust):
            return torch.load(
                path, map_location="cpu", weights_only=not trust, mmap=zipfile.is_zipfile(path)
            )
    except Exception as error:  # whatever a damaged or foreign file makes of torch's reader
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        if wanted is not None or "TorchScript" in str(error):
            what = f"holds {wanted[1]}" if wanted is not None else "is a TorchScript program"
            raise InputError(
                f"{path}: {what} beside tensors and numbers; reading that could run code, so"
                f" nothing was read: {advice}."
            ) from None
        raise InputError(
            f"{path}: is no complete {kind} ({type(error).__name__}): it is damaged or of another"
            " kind; copy it again, or give another."
        ) from None


def read_nnunet_checkpoint(path: Path, *, trust: bool) -> dict[str, Any]:
    """A checkpoint of nnU-Net or of this package's trainers, by the names of its entries.

    Args:
        path: the file.
        trust: its author may run what he wrote.

    Raises:
        InputError: as `read_torch_file`, or no trainer of nnU-Net wrote the file.
    """
    content = read_torch_file(path, trust=trust, kind=(kind := "nnU-Net checkpoint"))
    if not isinstance(content, dict) or not {"trainer_name", "network_weights"} <= content.keys():
        raise InputError(f"{path}: is no complete {kind}, it names no trainer or holds no weights.")
    return content


def _numpy_scalars() -> list[Any]:
    """What a pickled numpy scalar is made of, by the names of numpy 1 and 2."""
    scalar = np.float64(0).__reduce__()[0]  # private, and elsewhere in numpy 1
    kinds = [type(np.dtype(name)) for name in ("f2", "f4", "f8", "i4", "i8", "u1", "bool")]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*names, np.dtype, *kinds]
