"""Folders of nnU-Net for datasets without images, and a memory that is quick to compute."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_liver_ext.planning.memory import Memory
from nnunet_liver_ext.planning.training_step import Sizes, Training


@pytest.fixture
def empty_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for kind in ("raw", "preprocessed", "results"):
        (tmp_path / kind).mkdir()
        monkeypatch.setenv(f"nnUNet_{kind}", str(tmp_path / kind))
    return tmp_path


BYTES_PER_VOXEL = 1000


def by_voxels(training: Training, sizes: Sizes) -> Memory:
    """1000 bytes for each voxel of the batch."""
    return Memory(sizes.batch_size * math.prod(sizes.patch_size) * BYTES_PER_VOXEL / 1e9, 0.25, 1.0)


@pytest.fixture
def memory_by_voxels(monkeypatch: pytest.MonkeyPatch) -> Callable[[Training, Sizes], Memory]:
    """Replaces the traced step, which takes half a second for a network of full size."""
    from nnunet_liver_ext.planning import configuration_memory, nnunet_planners

    for module in (configuration_memory, nnunet_planners):
        monkeypatch.setattr(module, "estimate_memory", by_voxels)
    return by_voxels
