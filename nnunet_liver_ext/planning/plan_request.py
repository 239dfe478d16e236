"""What is to be planned, checked against the dataset.

A request holds architecture, strategy, objective, protocol and spacing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnunet_liver_ext.dataset_json.organ_mask import OrganMask
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.planning.architecture_entry import Architecture
from nnunet_liver_ext.planning.architectures import find_architecture
from nnunet_liver_ext.trainers.protocol_entry import Protocol
from nnunet_liver_ext.trainers.protocols import find_protocol

TargetSpacing = tuple[float, float, float] | tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What the plan command was asked for, complete."""

    architecture: Architecture
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the network."""
    strategy: str
    objective: str
    protocol: Protocol | None = None
    spacing_mm: TargetSpacing | None = None
    """Target spacing (z, y, x); None: nnU-Net's choice.

    Two numbers are the spacing in the slices' plane; their distance stays.
    """
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """Recipe numbers that were asked for beside the protocol's."""
    gpu_memory_gb: float = 8.0
    tiny: bool = False
    """Patch and batch are replaced anyhow."""

    @property
    def is_plain(self) -> bool:
        """An ordinary training by nnU-Net's own planner, which knows all that there is to know."""
        alone = self.strategy in ("one_view", "image_alone") and self.objective == "dice_ce"
        return alone and self.architecture.is_nnunets and self.protocol is None


def resolve_request(
    dataset_json: Mapping[str, Any],
    *,
    architecture: str | None = None,
    options: Mapping[str, Any] | None = None,
    strategy: str | None = None,
    objective: str = "dice_ce",
    protocol: str | None = None,
    spacing_mm: Sequence[float] | None = None,
    numbers: Mapping[str, Any] | None = None,
    gpu_memory_gb: float = 8.0,
    tiny: bool = False,
) -> PlanRequest:
    """What is not said, the protocol, the dataset or the architecture says.

    Raises:
        InputError: a name that there is not, a protocol or a strategy that does not fit the
            dataset, an impossible spacing.
    """
    preset = None if protocol is None else find_protocol(protocol)
    if preset is not None:
        _check_protocol(preset, dataset_json)
    chosen = find_architecture(architecture or (preset.architecture if preset else "nnunet"))
    protocol_options = (
        preset.architecture_options if preset and preset.architecture == chosen.name else {}
    )
    if options and chosen.is_nnunets:
        raise InputError(
            f"architecture {chosen.name} is planned by nnU-Net itself and takes no"
            " --architecture-option."
        )
    spacing = (
        spacing_mm if spacing_mm is not None else (_protocol_spacing(preset) or chosen.spacing_mm)
    )
    return PlanRequest(
        architecture=chosen,
        options={**protocol_options, **(options or {})},
        strategy=_choose_strategy(dataset_json, strategy, objective),
        objective=_check_objective(objective, spacing),
        protocol=preset,
        spacing_mm=None if spacing is None else _check_spacing(spacing),
        numbers=numbers or {},
        gpu_memory_gb=gpu_memory_gb,
        tiny=tiny,
    )


def _check_protocol(protocol: Protocol, dataset_json: Mapping[str, Any]) -> None:
    is_pair = PairLabels.from_dataset_json(dataset_json) is not None
    if protocol.needs_organ_mask and OrganMask.from_dataset_json(dataset_json) is None:
        raise InputError(
            f"protocol {protocol.name} needs an organ mask, but dataset.json has no `organ_mask`"
            " entry: convert the dataset with a liver mask (nnunet_liver convert ... --task"
            " tumour)."
        )
    if protocol.layout == "pairs" and not is_pair and "preregistered" not in dataset_json:
        raise InputError(
            f"protocol {protocol.name} is for pairs of images, but dataset.json has no `pair`"
            " entry."
        )
    if protocol.layout == "images" and is_pair:
        raise InputError(
            f"protocol {protocol.name} is for datasets with one mask per case, but this one holds"
            " pairs."
        )


def _protocol_spacing(protocol: Protocol | None) -> tuple[float, ...] | None:
    if protocol is None or protocol.spacing is None:
        return None
    return tuple(mm for mm in protocol.spacing if mm is not None)


def _check_spacing(spacing_mm: Sequence[float]) -> TargetSpacing:
    if len(spacing_mm) not in (2, 3) or not all(0 < mm < 1000 for mm in spacing_mm):
        raise InputError(
            f"spacing {','.join(map(str, spacing_mm))}: give Z,Y,X in mm, or Y,X to leave the"
            " distance of slices as it is."
        )
    return tuple(float(mm) for mm in spacing_mm)  # type: ignore[return-value]


def _choose_strategy(dataset_json: Mapping[str, Any], asked: str | None, objective: str) -> str:
    from nnunet_liver_ext.networks.strategies import STRATEGIES

    is_pair = PairLabels.from_dataset_json(dataset_json) is not None
    has_organ = OrganMask.from_dataset_json(dataset_json) is not None
    if asked is None:
        if not is_pair:
            return "image_alone" if has_organ else "one_view"
        return "dual_output_specialized" if objective.startswith("similarity") else "single_input"
    if asked not in STRATEGIES:
        raise InputError(f"there is no strategy {asked!r}: choose from {', '.join(STRATEGIES)}.")
    if STRATEGIES[asked].is_pair != is_pair or STRATEGIES[asked].strips_organ_mask != has_organ:
        kind = (
            "holds pairs"
            if is_pair
            else "has an organ mask"
            if has_organ
            else "has one mask per case"
        )
        fitting = [
            key
            for key, kind in STRATEGIES.items()
            if kind.is_pair == is_pair and kind.strips_organ_mask == has_organ
        ]
        raise InputError(
            f"strategy {asked} does not fit the dataset, which {kind}: choose from"
            f" {', '.join(fitting)}."
        )
    return asked


def _check_objective(name: str, spacing_mm: Sequence[float] | None) -> str:
    from nnunet_liver_ext.trainers.objectives import OBJECTIVES

    if name not in OBJECTIVES:
        raise InputError(f"there is no objective {name!r}: choose from {', '.join(OBJECTIVES)}.")
    if OBJECTIVES[name].has_companion and spacing_mm is not None and len(spacing_mm) == 2:
        raise InputError(
            f"objective {name} has a companion network, which needs one distance of slices for all"
            " cases: give three numbers of --spacing."
        )
    return name
