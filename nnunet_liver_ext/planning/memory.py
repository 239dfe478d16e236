"""How much memory a training needs: networks, losses and optimizers on patches of a size.

nnU-Net's planner knows one network and its own loss. Here one training step is traced
(`fake_tensor_memory`): the segmentor, or two of them, on one image or on both of a pair, and the
companion network. To that come weights and optimizers, and what CUDA and cuDNN take for
themselves. The latter is set so that nnU-Net's own rule comes out, 560e6 numbers in the feature
maps of one sample at a batch of two for 8 GB (`ExperimentPlanner.UNet_reference_val_3d`): see
benchmarks/memory.py.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import lru_cache

from torch import nn

from nnunet_liver_ext.planning.fake_tensor_memory import LiveStorages, fake_tensors
from nnunet_liver_ext.planning.training_step import Sizes, Training, TrainingStep

GB = 1e9
RESERVED_GB = 1.85
"""CUDA's context, cuDNN's workspaces and what the allocator cannot use."""


@dataclass(frozen=True)
class Memory:
    """Of a training, in GB (10^9 bytes)."""

    activations_gb: float
    """What a step takes at its worst moment.

    It is what is kept for the backward pass, gradients included, and what is needed on the way.
    """
    weights_gb: float
    """Weights of all networks, and their optimizers' states."""
    reserved_gb: float = RESERVED_GB
    """What CUDA, cuDNN and the allocator take."""

    @property
    def total_gb(self) -> float:
        return self.activations_gb + self.weights_gb + self.reserved_gb

    def to_json(self) -> dict[str, float]:
        return {"estimated_gb": round(self.total_gb, 3)} | {
            key: round(gb, 3) for key, gb in asdict(self).items()
        }


@dataclass(frozen=True)
class Trace:
    """Bytes of one traced step."""

    kept: int
    """Held after the segmentor's loss: the batch and all that the backward pass needs."""
    peak: int
    segmentor_parameters: int
    """How many numbers, of all networks of the strategy."""
    companion_parameters: int


def estimate_memory(training: Training, sizes: Sizes) -> Memory:
    """The memory of a training on a GPU.

    Raises:
        InputError: the network, the strategy or the objective cannot be built for these sizes.
    """
    architecture = json.dumps(
        sizes.architecture, default=int
    )  # nnU-Net's planner has numpy's numbers in it
    patch, spacing = tuple(map(int, sizes.patch_size)), tuple(map(float, sizes.spacing_mm))
    return _estimate(training, architecture, patch, spacing, sizes.batch_size)


@lru_cache(maxsize=256)
def _estimate(
    training: Training,
    architecture: str,
    patch_size: tuple[int, ...],
    spacing_mm: tuple[float, ...],
    batch_size: int,
) -> Memory:
    trace = trace_step(
        training, Sizes(json.loads(architecture), patch_size, spacing_mm, batch_size)
    )
    recipe = training.recipe
    gradients = 4 * (
        trace.segmentor_parameters + trace.companion_parameters
    )  # those of the last step are still there
    weights = trace.segmentor_parameters * _bytes_per_weight(recipe.optimizer, recipe.momentum)
    weights += trace.companion_parameters * _bytes_per_weight(
        recipe.companion_optimizer, recipe.companion_momentum
    )
    return Memory(max(trace.peak, trace.kept + gradients) / GB, weights / GB)


def _bytes_per_weight(optimizer: str, momentum: float | None) -> int:
    """Of a weight and the optimizer's numbers for it."""
    states = 2 if optimizer.startswith("adam") else int(momentum != 0)
    return 4 * (1 + states)


def trace_step(training: Training, sizes: Sizes, *, mixed: bool = True) -> Trace:
    """Traces one step, the last phase's if the objective has a companion network.

    Args:
        training: the trainer and the dataset.
        sizes: the configuration.
        mixed: mixed precision as on CUDA; without it, as on a CPU.
    """
    with fake_tensors():
        step = TrainingStep(training, sizes)
        with LiveStorages() as live:
            kept = step.run(live, mixed)
        return Trace(
            kept,
            live.peak,
            _count_parameters(step.network),
            _count_parameters(step.objective.companion),
        )


def _count_parameters(network: nn.Module | None) -> int:
    return 0 if network is None else sum(parameter.numel() for parameter in network.parameters())
