"""nnU-Net's planners, sized by the memory that this trainer needs.

They only ever run in `nnunet_liver plan`. The plans that come out are ordinary ones and name
nnU-Net's own planner, because nnU-Net looks planners up in its own package. Axes are (z, y, x) of
the transposed images, as in nnU-Net.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
    ExperimentPlanner,
)
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (  # noqa: E501
    ResEncUNetPlanner,
)

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.planning.configuration_memory import describe_training, requested_recipe
from nnunet_liver_ext.planning.memory import Memory, estimate_memory
from nnunet_liver_ext.planning.network_of_plans import build_without_weights
from nnunet_liver_ext.planning.patch_search import SMALLEST_BATCH, largest_batch
from nnunet_liver_ext.planning.plan_request import PlanRequest, resolve_request
from nnunet_liver_ext.planning.training_step import Sizes

MANY_TIMES_COARSER = 2.0
"""An axis so much coarser than the first one is that of the slices."""
MOST_ROUNDS = 6
MARGIN = 1.03
"""For patches that are not traced."""
SMALLEST_EDGE = 32
"""Voxels along each axis below which a patch is not sensible, unless the images are smaller."""


class LiverPlanner(ExperimentPlanner):
    """What our planners share: target spacing, names of the data, entries of the plans."""

    stock: type[ExperimentPlanner] = ExperimentPlanner
    UNet_vram_target_GB: float
    UNet_reference_val_corresp_bs_2d: int
    UNet_reference_val_corresp_bs_3d: int

    def __init__(self, *args: Any, request: PlanRequest | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if request is None:
            request = resolve_request(self.dataset_json, gpu_memory_gb=self.UNet_vram_target_GB)
        self.request = request
        self.training = describe_training(self.dataset_json, requested_recipe(request))
        self.in_plane: tuple[float, ...] | None = None
        if request.spacing_mm is not None and len(request.spacing_mm) == 2:
            self.in_plane = request.spacing_mm
            self.lowres_creation_threshold = (
                0  # a coarser version of slices at any distance is none
            )
        elif request.spacing_mm is not None:
            self.overwrite_target_spacing = request.spacing_mm

    def determine_fullres_target_spacing(self) -> np.ndarray:
        spacing = np.array(super().determine_fullres_target_spacing(), float)
        if self.in_plane is not None:
            spacing[self._in_plane_axes(spacing)] = self.in_plane
        return spacing

    def determine_transpose(self) -> tuple[list[int], list[int]]:
        if self.in_plane is None:
            return super().determine_transpose()
        plane = self._in_plane_axes(np.array(super().determine_fullres_target_spacing()))
        forward = [3 - sum(plane), *plane]
        return forward, [forward.index(axis) for axis in range(3)]

    def _in_plane_axes(self, spacing: np.ndarray) -> list[int]:
        """The axes in the slices' plane: all but the first, unless another is far coarser."""
        coarsest = int(np.argmax(spacing))
        across = coarsest if spacing[coarsest] > MANY_TIMES_COARSER * spacing[0] else 0
        return [axis for axis in range(3) if axis != across]

    def generate_data_identifier(self, configuration_name: str) -> str:
        if self.request.spacing_mm is None:
            return super().generate_data_identifier(configuration_name)
        spacing = "x".join(f"{mm:g}" for mm in self.request.spacing_mm)
        return f"{self.plans_identifier}_{configuration_name}_{spacing}mm"

    def save_plans(self, plans: dict[str, Any]) -> None:
        plans["experiment_planner_used"] = self.stock.__name__
        main = "3d_fullres" if "3d_fullres" in plans["configurations"] else "2d"
        for name, entry in plans["configurations"].items():
            if self.training.strategy.strips_organ_mask and "batch_dice" in entry:
                entry["batch_dice"] = True  # by itself, a patch without a tumour teaches nothing
            if self.in_plane is not None and len(entry.get("spacing", ())) == 3:
                entry["spacing"] = entry["spacing"][1:]
            if self.request.protocol is not None and name == main:
                entry["protocol"] = self.request.protocol.name
                entry["protocol_edition"] = self.request.protocol.edition
        super().save_plans(plans)

    @property
    def fixed_batch(self) -> int | None:
        """The protocol's batch."""
        return None if self.request.protocol is None else self.request.protocol.batch_size

    def memory(self, plan: dict[str, Any], spacing: Sequence[float], batch_size: int) -> Memory:
        """Of training on such patches."""
        return estimate_memory(
            self.training,
            Sizes(plan["architecture"], tuple(plan["patch_size"]), tuple(spacing), batch_size),
        )


class NNUNetPlanner(LiverPlanner):
    """nnU-Net's patches, topology and batch, for the memory of this trainer.

    nnU-Net makes the patch smaller until the numbers in the feature maps are below a reference.
    What they stand for is calibrated by one traced step, and the patch that comes out is traced,
    too. An ordinary training gets nnU-Net's own plan as long as that fits.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calibrations: dict[int, tuple[float, float]] = {}
        """What `Calibration` has found, by the number of axes."""

    def get_plans_for_configuration(
        self,
        spacing: Any,
        median_shape: Any,
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict,
    ) -> dict[str, Any]:
        arguments = (spacing, median_shape, data_identifier, approximate_n_voxels_dataset)
        self._calibration = Calibration(
            self, list(spacing), list(median_shape), exact="3d_lowres" not in data_identifier
        )
        self._rule: Literal["nnU-Net's", "none", "ours"] = (
            "none" if self.request.tiny else "nnU-Net's"
        )
        if self.request.is_plain or self.request.tiny:
            plan = super().get_plans_for_configuration(*arguments, _cache)
            if (
                self.request.tiny
                or self._calibration.needed_gb(plan, plan["batch_size"])
                <= self.request.gpu_memory_gb
            ):
                return plan
        self._rule = "ours"
        return self._shrink_until_it_fits(arguments)

    def _shrink_until_it_fits(self, arguments: tuple[Any, Any, str, float]) -> dict[str, Any]:
        """nnU-Net's plan for smaller and smaller aims, until it is within the target."""
        target, batch = self.request.gpu_memory_gb, self.fixed_batch or SMALLEST_BATCH
        references = (self.UNet_reference_val_corresp_bs_2d, self.UNet_reference_val_corresp_bs_3d)
        self.UNet_reference_val_corresp_bs_2d = self.UNet_reference_val_corresp_bs_3d = batch
        needed = math.inf
        try:
            for _ in range(MOST_ROUNDS):
                plan = super().get_plans_for_configuration(*arguments, {})
                needed = self._calibration.needed_gb(plan, batch)
                if needed <= target:
                    batch = self.fixed_batch or self._choose_batch_size(plan, arguments[3])
                    return {**plan, "batch_size": batch}
                self.UNet_vram_target_GB *= 0.98 * target / needed
        finally:
            self.UNet_vram_target_GB = target
            self.UNet_reference_val_corresp_bs_2d, self.UNet_reference_val_corresp_bs_3d = (
                references
            )
        raise too_little_memory(target, needed)

    def _choose_batch_size(self, plan: dict[str, Any], dataset_voxels: float) -> int:
        """As nnU-Net: as many as fit, no more than a share of the dataset, two at least."""
        share = dataset_voxels * self.max_dataset_covered / math.prod(map(int, plan["patch_size"]))
        return largest_batch(
            lambda batch: self._calibration.needed_gb(plan, batch),
            self.request.gpu_memory_gb,
            smallest=SMALLEST_BATCH,
            largest=max(SMALLEST_BATCH, round(share)),
        )

    def numbers_in_feature_maps(self, *arguments: Any) -> float:
        """nnU-Net's own estimate."""
        with torch.device("meta"):
            return super().static_estimate_VRAM_usage(*arguments)

    def static_estimate_VRAM_usage(self, patch_size: Any, *arguments: Any) -> float:
        """Numbers in feature maps that stand for this trainer's memory; the reference is 8 GB."""
        if self._rule == "none":
            return 1.0
        numbers = self.numbers_in_feature_maps(patch_size, *arguments)
        if self._rule == "nnU-Net's":
            return numbers
        needed = self._calibration.gb_of_numbers(numbers, patch_size, arguments)
        reference = (
            self.UNet_reference_val_2d if len(patch_size) == 2 else self.UNet_reference_val_3d
        )
        return reference * needed / self.UNet_reference_val_corresp_GB


class Calibration:
    """What nnU-Net's numbers mean in GB for this trainer, in one configuration."""

    def __init__(
        self, planner: NNUNetPlanner, spacing: list[float], median_size: list[float], *, exact: bool
    ) -> None:
        """
        Args:
            planner: whose request and training count.
            spacing: of the configuration, in mm.
            median_size: of its images, in voxels.
            exact: trace what comes out; nnU-Net tries many spacings for 3d_lowres, and there the
                calibration has to do.
        """
        self.planner, self.spacing, self.exact = planner, spacing, exact
        self.smallest = math.prod(min(SMALLEST_EDGE, n) for n in median_size[: len(spacing)])
        self.batch = planner.fixed_batch or SMALLEST_BATCH
        self.last_sensible: float | None = None

    def gb_of_numbers(self, numbers: float, patch_size: Any, arguments: tuple[Any, ...]) -> float:
        """GB, from nnU-Net's estimate and the arguments for it.

        Raises:
            InputError: the patch is no longer sensible and still too large.
        """
        names = ("network_class_name", "arch_kwargs", "_kw_requires_import")
        plan = {
            "architecture": dict(zip(names, arguments[2:], strict=True)),
            "patch_size": patch_size,
        }
        fixed, per_number = self._calibrate(numbers, plan)
        needed = fixed + numbers * per_number
        target = self.planner.request.gpu_memory_gb
        if math.prod(map(int, patch_size)) >= self.smallest:
            self.last_sensible = needed
        elif needed > target:
            raise too_little_memory(target, self.last_sensible or needed)
        return needed

    def needed_gb(self, plan: dict[str, Any], batch_size: int) -> float:
        """GB of a plan that came out."""
        if self.exact:
            return self.planner.memory(plan, self.spacing, batch_size).total_gb
        network = build_without_weights(plan["architecture"])
        numbers = network.compute_conv_feature_map_size([int(n) for n in plan["patch_size"]])
        fixed, per_number = self._calibrate(numbers, plan)
        return fixed + MARGIN * numbers * per_number * batch_size / self.batch

    def _calibrate(self, numbers: float, plan: dict[str, Any]) -> tuple[float, float]:
        """(GB beside the feature maps, GB of a number in them); traced once in 2D and in 3D."""
        calibrations, dims = self.planner.calibrations, len(plan["patch_size"])
        if dims not in calibrations:
            memory = self.planner.memory(plan, self.spacing, self.batch)
            calibrations[dims] = (
                memory.weights_gb + memory.reserved_gb,
                memory.activations_gb / numbers,
            )
        return calibrations[dims]


class ResEncPlanner(NNUNetPlanner, ResEncUNetPlanner):
    """As `NNUNetPlanner`, with nnU-Net's residual encoders."""

    stock = ResEncUNetPlanner


def too_little_memory(target_gb: float, needed_gb: float) -> InputError:
    """The error for a training that needs more memory than there is; says how much it needs."""
    least = math.ceil(needed_gb * 10) / 10
    return InputError(
        f"{target_gb:g} GB are too little for this training: the smallest sensible patch needs"
        f" {least:.1f} GB; plan with --gpu-memory {least:.1f}, or for another architecture or"
        " strategy."
    )
