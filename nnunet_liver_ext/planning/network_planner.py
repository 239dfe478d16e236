"""The planner for the networks of this package.

Arguments follow from the fingerprint, patch and batch from memory.

nnU-Net's planner makes the frame (spacing, transposition, normalisation, resampling); topology,
patch and batch are replaced. There is one configuration, 3d_fullres, or 2d where a dataset holds
single slices and the network takes them; there is no cascade. Axes are (z, y, x), or (y, x).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.planning.architectures import ARCHITECTURES, plans_entry
from nnunet_liver_ext.planning.network_of_plans import build_without_weights
from nnunet_liver_ext.planning.nnunet_planners import LiverPlanner, too_little_memory
from nnunet_liver_ext.planning.patch_search import (
    SMALLEST_BATCH,
    Patch,
    batch_by_dataset_share,
    largest_batch,
    largest_fitting_patch,
    patch_ladder,
)

SHARED_DATA = "nnUNetPlans"
"""Data at nnU-Net's own spacing serve all architectures, as with its residual encoders."""


class NetworkPlanner(LiverPlanner):
    """One of the package's own networks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lowres_creation_threshold = 0  # there is no cascade
        self.single_slices = True
        """Until nnU-Net asks for volumes, which it does before it asks for slices."""

    def generate_data_identifier(self, configuration_name: str) -> str:
        if self.request.spacing_mm is None:
            return f"{SHARED_DATA}_{configuration_name}"
        return super().generate_data_identifier(configuration_name)

    def static_estimate_VRAM_usage(self, *args: Any, **kwargs: Any) -> float:
        return 1.0  # nnU-Net's frame needs no patch

    def plan_experiment(self) -> dict[str, Any]:
        slice_axis = self.determine_transpose()[0][0]
        if all(shape[slice_axis] == 1 for shape in self.dataset_fingerprint["shapes_after_crop"]):
            self._check_takes_single_slices()
        return super().plan_experiment()

    def get_plans_for_configuration(
        self,
        spacing: Any,
        median_shape: Any,
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict,
    ) -> dict[str, Any]:
        if len(spacing) == 3:
            self.single_slices = False
        elif not self.single_slices:
            return {}  # left out when the plans are saved
        else:
            self._check_takes_single_slices()
        plan = super().get_plans_for_configuration(
            spacing, median_shape, data_identifier, approximate_n_voxels_dataset, _cache
        )
        sizes = [max(1.0, float(n)) for n in median_shape]
        plan["architecture"] = plans_entry(
            self.request.architecture, list(spacing), sizes, self.request.options
        )
        network = build_without_weights(plan["architecture"])
        allowed = self.request.architecture.patches(
            network, list(spacing), sizes, self._protocol_patch()
        )
        patches = patch_ladder(allowed, sizes)
        if self.request.tiny:
            return {**plan, "batch_size": 1, "patch_size": patches[-1]}
        plan["batch_size"], plan["patch_size"] = self._choose_batch_and_patch(
            plan, spacing, patches
        )
        if self.fixed_batch is None:
            most = batch_by_dataset_share(approximate_n_voxels_dataset, plan["patch_size"])
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

    def _check_takes_single_slices(self) -> None:
        architecture = self.request.architecture
        if not architecture.takes_single_slices:
            taking = [name for name, entry in ARCHITECTURES.items() if entry.takes_single_slices]
            raise InputError(
                f"{self.dataset_name} holds single slices, and {architecture.name} is for volumes:"
                f" plan with --architecture {' or '.join(taking)}, or with nnunet, and train its"
                " configuration 2d."
            )

    def _choose_batch_and_patch(
        self, plan: dict[str, Any], spacing: Any, patches: Sequence[Patch]
    ) -> tuple[int, Patch]:
        """Batch and patch: the largest patch for the protocol's batch, or for two.

        An architecture of whole images rather takes one image than two parts.
        """
        target, batch = self.request.gpu_memory_gb, self.fixed_batch or SMALLEST_BATCH

        def needed(patch: Patch, batch: int) -> float:
            return self.memory({**plan, "patch_size": patch}, spacing, batch).total_gb

        if (
            self.request.architecture.prefers_one_large_patch
            and self.fixed_batch is None
            and needed(patches[0], batch) > target
        ):
            batch = 1
        patch = largest_fitting_patch(patches, lambda patch: needed(patch, batch) <= target)
        if patch is None:
            raise too_little_memory(target, needed(patches[-1], batch))
        return batch, patch

    def _protocol_patch(self) -> tuple[int, ...] | None:
        """The patch that the protocol names for this architecture."""
        protocol = self.request.protocol
        if protocol is None or protocol.architecture != self.request.architecture.name:
            return None
        return protocol.patch_size
