"""nnU-Net's planner, sized for pairs."""

from __future__ import annotations

from typing import Any

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner


class PairPlanner(ExperimentPlanner):
    """Plans patch and batch size so that a network that runs on both images of each pair fits the memory target.

    The single- and dual-input trainers run a batch of B pairs as 2B images; nnU-Net's estimate knows only one. The plans
    that come out are ordinary ones and name nnU-Net's own planner, because nnU-Net looks planners up in its own package.
    """

    def static_estimate_VRAM_usage(self, *args: Any, **kwargs: Any) -> float:
        return 2 * super().static_estimate_VRAM_usage(*args, **kwargs)

    def save_plans(self, plans: dict[str, Any]) -> None:
        plans["experiment_planner_used"] = ExperimentPlanner.__name__
        super().save_plans(plans)
