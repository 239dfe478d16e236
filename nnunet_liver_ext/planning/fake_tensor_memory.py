"""Memory of a computation that is not done: fake tensors have sizes only, storages are counted.

What a training step keeps for its backward pass, and what it needs beside that for a moment, so
follows from the networks and the losses themselves, whatever they are. Autocast is the CPU's in
bfloat16, as large as CUDA's float16; `_AsOnCuda` mends where the two choose other types.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

HALF = torch.bfloat16


class LiveStorages(TorchDispatchMode):
    """Counts storages that are made meanwhile and not given back; views of one count once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        """Of the storages that are there now."""
        self.peak = 0
        """The most that there ever were."""
        self._held: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {
            tensor.untyped_storage()._cdata
            for tensor in tree_iter((args, kwargs))
            if isinstance(tensor, Tensor)
        }
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage(), given)
        self.peak = max(self.peak, self.bytes)
        return result

    def _count(self, storage: Any, given: set[int]) -> None:
        key = storage._cdata
        if (
            key in self._held or key in given
        ):  # what was there before, such as weights, is changed in place or viewed
            return
        self._held[key] = storage.nbytes()
        self.bytes += storage.nbytes()
        weakref.finalize(storage, self._give_back, key)

    def _give_back(self, key: int) -> None:
        self.bytes -= self._held.pop(key)


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Tensors made meanwhile, also the weights of networks, have sizes and types only."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@contextmanager
def mixed_precision(enabled: bool = True) -> Iterator[None]:
    """The types that nnU-Net's autocast gives on CUDA, or float32 throughout."""
    if not enabled:
        yield
        return
    with torch.autocast("cpu", dtype=HALF), _AsOnCuda():
        yield


class _AsOnCuda(TorchFunctionMode):
    """Makes the CPU's autocast like CUDA's, which pools in half precision and not softmax."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if "max_pool" in name:
            with torch.autocast("cpu", enabled=False):
                return func(*args, **kwargs)
        if name in ("softmax", "log_softmax", "_log_softmax", "_softmax") and args[0].dtype == HALF:
            return func(args[0].float(), *args[1:], **kwargs)
        return func(*args, **kwargs)
