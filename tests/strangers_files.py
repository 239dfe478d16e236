"""Files that run something when they are read without care."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class RunsWhenUnpickled:
    """Writes a file when it is read by pickle."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return shutil.copyfile, (__file__, str(self.proof))


def make_hostile(checkpoint: Path, proof: Path) -> None:
    """Puts an object into a checkpoint's entries that writes `proof` when it is unpickled."""
    content = torch.load(checkpoint, weights_only=False)
    content["init_args"]["extra"] = RunsWhenUnpickled(proof)
    torch.save(content, checkpoint)


def loading_all_runs_it(checkpoint: Path, proof: Path) -> bool:
    """Whether a full pickle reader writes `proof`; or tests of refusals would prove nothing."""
    torch.load(checkpoint, weights_only=False)
    was_run = proof.exists()
    proof.unlink(missing_ok=True)
    return was_run
