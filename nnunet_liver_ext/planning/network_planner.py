"""The planner for the networks of this package: arguments from the fingerprint, patch and batch
from memory.

nnU-Net's planner makes the frame (spacing, transposition, normalisation, resampling); topology,
patch and batch are replaced. There is one configuration, 3d_fullres: these networks take no 2D
images and have no cascade. Axes are (z, y, x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.planning.architectures import SLICE, architecture_entry
from nnunet_liver_ext.planning.described_network import network_without_weights
from nnunet_liver_ext.planning.planner import LiverPlanner, too_little
from nnunet_liver_ext.planning.sizing import (
    SHORTEST_AXIS,
    SMALLEST_BATCH,
    Patch,
    batch_covering,
    first_patch,
    first_that_fits,
    ladder,
    largest_batch,
    multiples,
)

SHARED_DATA = "nnUNetPlans"
"""Data at nnU-Net's own spacing serve all architectures, as in nnU-Net's planner of residual
encoders."""
SMALLEST_FEATURE_MAP = 4
"""Voxels of the coarsest stage along each axis, unless the images are smaller, as in nnU-Net."""
SLICE_EDGE = 256
"""Largest edge of a slice (student report with Antaros Medical, section 2.2)."""
SMALLEST_SLICE_EDGE = 64
PAPER_TILE = (72, 236, 236)
"""What the unpadded network takes (Hänsch et al. 2022, figure 1)."""


class NetworkPlanner(LiverPlanner):
    """One of the package's own networks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lowres_creation_threshold = 0  # there is no cascade

    def generate_data_identifier(self, configuration_name: str) -> str:
        if self.request.spacing_mm is None:
            return f"{SHARED_DATA}_{configuration_name}"
        return super().generate_data_identifier(configuration_name)

    def static_estimate_VRAM_usage(self, *args: Any, **kwargs: Any) -> float:
        return 1.0  # nnU-Net's frame needs no patch

    def plan_experiment(self) -> dict[str, Any]:
        if (
            max(
                shape[self._slice_axis()] for shape in self.dataset_fingerprint["shapes_after_crop"]
            )
            == 1
        ):
            raise InputError(
                f"{self.dataset_name} holds single slices, and {self.request.architecture.name} is"
                " for volumes: plan with --architecture nnunet and train its configuration 2d."
            )
        return super().plan_experiment()

    def _slice_axis(self) -> int:
        return self.determine_transpose()[0][0]

    def get_plans_for_configuration(
        self,
        spacing: Any,
        median_shape: Any,
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict,
    ) -> dict[str, Any]:
        if len(spacing) == 2:
            return {}  # left out when the plans are saved
        plan = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache
        )
        sizes = [max(1.0, float(n)) for n in median_shape]
        plan["architecture"] = architecture_entry(
            self.request.architecture, list(spacing), sizes, self.request.options
        )
        patches = ladder(self._allowed(plan, spacing, sizes), sizes)
        if self.request.tiny:
            return {**plan, "batch_size": 1, "patch_size": patches[-1]}
        plan["batch_size"], plan["patch_size"] = self._fitting(plan, spacing, patches)
        if self.fixed_batch is None:
            most = batch_covering(approximate_n_voxels_dataset, plan["patch_size"])
            plan["batch_size"] = largest_batch(
                lambda batch: self.memory(plan, spacing, batch).total_gb,
                self.request.gpu_memory_gb,
                smallest=plan["batch_size"],
                largest=most,
            )
        return plan

    def save_plans(self, plans: dict[str, Any]) -> None:
        plans["configurations"] = {
            name: entry for name, entry in plans["configurations"].items() if "spacing" in entry
        }
        super().save_plans(plans)

    def _fitting(
        self, plan: dict[str, Any], spacing: Any, patches: Sequence[Patch]
    ) -> tuple[int, Patch]:
        """Batch and patch: the largest patch for the protocol's batch or for two; rather one whole
        image than two parts."""
        target, batch = self.request.gpu_memory_gb, self.fixed_batch or SMALLEST_BATCH

        def needed(patch: Patch, batch: int) -> float:
            return self.memory({**plan, "patch_size": patch}, spacing, batch).total_gb

        if (
            self.request.architecture.takes_whole_images
            and self.fixed_batch is None
            and needed(patches[0], batch) > target
        ):
            batch = 1
        patch = first_that_fits(patches, lambda patch: needed(patch, batch) <= target)
        if patch is None:
            raise too_little(target, needed(patches[-1], batch))
        return batch, patch

    def _allowed(
        self, plan: dict[str, Any], spacing: Any, sizes: Sequence[float]
    ) -> list[list[int]]:
        """What each axis of the patch may be, ascending."""
        network = network_without_weights(plan["architecture"])
        most = self._largest(spacing, sizes)
        if getattr(network, "padding", "same") == "valid":
            return [
                _unpadded(axis, size, n)
                for axis, size, n in zip(network.geometry.axes, sizes, most, strict=True)
            ]
        most = [min(n, size) for n, size in zip(most, sizes, strict=True)]
        if self.request.architecture is SLICE:
            slices = (
                SHORTEST_AXIS + 2 * network.neighbours
            )  # four of them have all their neighbours in the patch
            plane = zip(network.size_multiple[1:], most[1:], strict=True)
            return [
                [slices],
                *(multiples(step, smallest=SMALLEST_SLICE_EDGE, largest=n) for step, n in plane),
            ]
        return [
            multiples(step, smallest=SMALLEST_FEATURE_MAP * step, largest=n)
            for step, n in zip(network.size_multiple, most, strict=True)
        ]

    def _largest(self, spacing: Any, sizes: Sequence[float]) -> Sequence[float]:
        """The largest patch that makes sense."""
        protocol, architecture = self.request.protocol, self.request.architecture
        if (
            protocol is not None
            and protocol.patch_size is not None
            and protocol.architecture == architecture.name
        ):
            return protocol.patch_size
        if self.request.options.get("padding") == "valid":
            return PAPER_TILE
        if architecture is SLICE:
            return [SLICE_EDGE] * 3
        return sizes if architecture.takes_whole_images else first_patch(spacing, sizes)


def _unpadded(axis: Any, size: float, largest: float) -> list[int]:
    """Inputs that fit an unpadded network, ascending, up to `largest` or to what covers an image of
    `size`."""
    first, last = axis.output_for(axis.step), axis.output_for(math.ceil(size))
    outputs = range(
        first, max(first, min(last, math.floor(largest) - 2 * axis.margin)) + 1, axis.step
    )
    return [output + 2 * axis.margin for output in outputs]
