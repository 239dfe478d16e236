"""nnU-Net's planners, sized by the memory that this trainer needs, and one for the networks of this package.

They only ever run in `nnunet_liver plan`. The plans that come out are ordinary ones and name nnU-Net's own planner, because
nnU-Net looks planners up in its own package. Axes are (z, y, x) of the transposed images, as in nnU-Net.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import ResEncUNetPlanner

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.planning.estimates import recipe_of, training_of
from nnunet_liver_ext.planning.memory import Sizes, estimate
from nnunet_liver_ext.planning.request import Request, resolve_request
from nnunet_liver_ext.planning.sizing import SMALLEST_BATCH, largest_batch

MANY_TIMES_COARSER = 2.0
"""An axis so much coarser than the first one is that of the slices, whatever the order of the file."""
MOST_ROUNDS = 6
SMALLEST_EDGE = 32
"""Voxels along each axis (unless the images are smaller) below which a patch is not sensible any more."""


class LiverPlanner(ExperimentPlanner):
    """What all of our planners have in common: target spacing, names of the data, and the plans' own entries."""

    stock: type[ExperimentPlanner] = ExperimentPlanner

    def __init__(self, *args: Any, request: Request | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if request is None:
            request = resolve_request(self.dataset_json, gpu_memory_gb=self.UNet_vram_target_GB)
        self.request = request
        self.training = training_of(self.dataset_json, recipe_of(request))
        self.in_plane: tuple[float, ...] | None = None
        if request.spacing_mm is not None and len(request.spacing_mm) == 2:
            self.in_plane = request.spacing_mm
            self.lowres_creation_threshold = 0  # a coarser version of slices at any distance is none
        elif request.spacing_mm is not None:
            self.overwrite_target_spacing = request.spacing_mm

    def determine_fullres_target_spacing(self) -> np.ndarray:
        spacing = np.array(super().determine_fullres_target_spacing(), float)
        if self.in_plane is not None:
            spacing[self._plane(spacing)] = self.in_plane
        return spacing

    def determine_transpose(self) -> tuple[list[int], list[int]]:
        if self.in_plane is None:
            return super().determine_transpose()
        plane = self._plane(np.array(super().determine_fullres_target_spacing()))
        forward = [3 - sum(plane), *plane]
        return forward, [forward.index(axis) for axis in range(3)]

    def _plane(self, spacing: np.ndarray) -> list[int]:
        """The axes of the slices' plane: all but the first, unless another is by far the coarsest."""
        coarsest = int(np.argmax(spacing))
        across = coarsest if spacing[coarsest] > MANY_TIMES_COARSER * spacing[0] else 0
        return [axis for axis in range(3) if axis != across]

    def generate_data_identifier(self, configuration_name: str) -> str:
        if self.request.spacing_mm is None:
            return super().generate_data_identifier(configuration_name)
        return f"{self.plans_identifier}_{configuration_name}_{'x'.join(f'{mm:g}' for mm in self.request.spacing_mm)}mm"

    def save_plans(self, plans: dict[str, Any]) -> None:
        plans["experiment_planner_used"] = self.stock.__name__
        for name, entry in plans["configurations"].items():
            if self.in_plane is not None and len(entry.get("spacing", ())) == 3:
                entry["spacing"] = entry["spacing"][1:]
            if self.request.protocol is not None and name == "3d_fullres":
                entry["protocol"] = self.request.protocol.name
        super().save_plans(plans)

    @property
    def fixed_batch(self) -> int | None:
        """The protocol's batch."""
        return None if self.request.protocol is None else self.request.protocol.batch_size

    def memory_gb(self, plan: dict[str, Any], spacing: Sequence[float], batch_size: int) -> float:
        """Of training on such patches."""
        sizes = Sizes(plan["architecture"], tuple(map(int, plan["patch_size"])), tuple(map(float, spacing)), batch_size)
        return estimate(self.training, sizes).total_gb


class NNUNetPlanner(LiverPlanner):
    """nnU-Net's patches, topology and batch, for the memory of this trainer.

    nnU-Net makes the patch smaller until the numbers in the feature maps are below a reference. They are translated here: by
    one traced step at first, and by the traced step of what comes out. An ordinary training gets nnU-Net's own plan as long
    as that fits.
    """

    _by_nnunet = False
    """Whether nnU-Net's own rule counts."""

    def get_plans_for_configuration(
        self, spacing: Any, median_shape: Any, data_identifier: str, approximate_n_voxels_dataset: float, _cache: dict
    ) -> dict[str, Any]:
        target = self.request.gpu_memory_gb
        self._spacing, self._median_size = list(spacing), list(median_shape)
        self._gb_per_number: float | None = None
        self._fixed_gb = 0.0
        self._last_sensible: float | None = None
        arguments = (spacing, median_shape, data_identifier, approximate_n_voxels_dataset)
        if self.request.is_plain:
            self._by_nnunet = True
            plan = super().get_plans_for_configuration(*arguments, _cache)
            self._by_nnunet = False
            if self.memory_gb(plan, spacing, plan["batch_size"]) <= target:
                return plan
        aim, self._batch = target, self.fixed_batch or SMALLEST_BATCH
        self.UNet_reference_val_corresp_bs_2d = self.UNet_reference_val_corresp_bs_3d = self._batch
        try:
            for _ in range(MOST_ROUNDS):
                self.UNet_vram_target_GB = aim
                plan = super().get_plans_for_configuration(*arguments, {})
                needed = self.memory_gb(plan, spacing, self._batch)
                if needed <= target:
                    plan["batch_size"] = self._batch_size(plan, spacing, approximate_n_voxels_dataset)
                    return plan
                aim *= 0.98 * target / needed
        finally:
            self.UNet_vram_target_GB = target
        raise too_little(target, needed)

    def static_estimate_VRAM_usage(
        self,
        patch_size: Any,
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: dict,
        arch_kwargs_req_import: Any,
    ) -> float:
        """Numbers in nnU-Net's feature maps that stand for the memory of this trainer: 8 GB are nnU-Net's reference."""
        arguments = (patch_size, input_channels, output_channels, arch_class_name, arch_kwargs, arch_kwargs_req_import)
        with torch.device("meta"):
            numbers = super().static_estimate_VRAM_usage(*arguments)
        if self._by_nnunet:
            return numbers
        if self._gb_per_number is None:
            self._calibrate(numbers, *arguments)
        needed = self._fixed_gb + numbers * (self._gb_per_number or 0.0)
        self._check_sensible(patch_size, needed)
        reference = self.UNet_reference_val_2d if len(patch_size) == 2 else self.UNet_reference_val_3d
        return reference * needed / self.UNet_reference_val_corresp_GB

    def _calibrate(self, numbers: float, patch_size: Any, inputs: int, outputs: int, name: str, kwargs: dict, imp: Any) -> None:
        architecture = {"network_class_name": name, "arch_kwargs": kwargs, "_kw_requires_import": imp}
        sizes = Sizes(architecture, tuple(map(int, patch_size)), tuple(map(float, self._spacing)), self._batch)
        memory = estimate(self.training, sizes)
        self._fixed_gb = memory.weights_gb + memory.reserved_gb
        self._gb_per_number = memory.activations_gb / numbers

    def _check_sensible(self, patch_size: Any, needed_gb: float) -> None:
        """InputError where nnU-Net would make the patch smaller without end."""
        smallest = [min(SMALLEST_EDGE, n) for n in self._median_size[: len(patch_size)]]
        if math.prod(map(int, patch_size)) >= math.prod(smallest):
            self._last_sensible = needed_gb
        elif needed_gb > self.request.gpu_memory_gb:
            raise too_little(self.request.gpu_memory_gb, self._last_sensible or needed_gb)

    def _batch_size(self, plan: dict[str, Any], spacing: Any, dataset_voxels: float) -> int:
        if self.fixed_batch is not None:
            return self.fixed_batch
        most = max(SMALLEST_BATCH, round(dataset_voxels * self.max_dataset_covered / math.prod(map(int, plan["patch_size"]))))
        target = self.request.gpu_memory_gb
        return largest_batch(
            lambda batch: self.memory_gb(plan, spacing, batch), target, smallest=SMALLEST_BATCH, largest=most
        )


class ResEncPlanner(NNUNetPlanner, ResEncUNetPlanner):
    """As `NNUNetPlanner`, with nnU-Net's residual encoders."""

    stock = ResEncUNetPlanner


PairPlanner = NNUNetPlanner


def too_little(target_gb: float, needed_gb: float) -> InputError:
    least = math.ceil(needed_gb * 10) / 10
    return InputError(
        f"{target_gb:g} GB are too little for this training: even the smallest sensible patch needs {least:.1f} GB; plan with "
        f"--gpu-memory {least:.1f}, or for another architecture or strategy."
    )
