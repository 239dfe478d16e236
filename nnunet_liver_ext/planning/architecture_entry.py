"""What an architecture is to the planner: all that is said of it, in one entry.

Planner, tiny plans and commands ask the entry and no names, so an architecture is added by a
network and an entry. Sizes and spacings are (z, y, x), or (y, x) in 2D.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnunet_liver_ext.planning.patch_rules import PatchRule, isotropic_patches

Arguments = dict[str, Any]
Rows = Sequence[Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class TinySizes:
    """Numbers of a network that trains on a CPU in seconds."""

    patch: tuple[int, ...]
    """The largest patch, in voxels."""
    features: tuple[int, ...]
    """For each stage, as are strides and kernels."""
    strides: Rows
    kernels: Rows | None = None
    """None: the network has one kind only."""
    batch_size: int = 2
    convolutions: Mapping[str, int] = field(default_factory=dict)
    """Argument of the network -> convolutions in each stage; a decoder has one stage less."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the network."""
    fixed_patch: bool = False
    """The patch stays as it is, also where the images are smaller."""

    def arguments(self) -> Arguments:
        """The network's arguments, by nnU-Net's names."""
        stages = len(self.features)
        arguments: Arguments = {
            "n_stages": stages,
            "features_per_stage": list(self.features),
            "strides": as_lists(self.strides),
        }
        if self.kernels is not None:
            arguments["kernel_sizes"] = as_lists(self.kernels)
        for name, number in self.convolutions.items():
            arguments[name] = [number] * (stages - name.endswith("decoder"))
        return {**arguments, **self.others}


ArgumentsRule = Callable[[Sequence[float], Sequence[float], Mapping[str, Any]], Arguments]
"""(spacing in mm, median size in voxels, options) -> the network's arguments."""
TinyRule = Callable[[str, Mapping[str, Any]], TinySizes]
"""(configuration, the network's arguments) -> its tiny sizes."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network and how it is planned."""

    name: str
    """Behind `--architecture`."""
    title: str
    """Behind `nnUNetPlans` in the default name of the plans."""
    network: str
    """Dotted path of the class, as it stands in plans."""
    tiny: TinyRule
    arguments: ArgumentsRule | None = None
    """None: the planner knows them."""
    planner: str = "nnunet_liver_ext.planning.network_planner:NetworkPlanner"
    """module:class of a `planner.LiverPlanner`."""
    patches: PatchRule = isotropic_patches
    """What the patch may measure."""
    spacing_mm: tuple[float, float, float] | None = None
    """Target spacing unless another is asked for; None: nnU-Net's choice."""
    takes_single_slices: bool = False
    """Whether it has a configuration 2d, for datasets of single slices, as nnU-Net's own have."""
    prefers_one_large_patch: bool = False
    """Where two of the largest patches do not fit into memory, a batch of one is taken."""

    @property
    def plans_name(self) -> str:
        return f"nnUNetPlans{self.title}"

    @property
    def is_nnunets(self) -> bool:
        """Whether nnU-Net's own planner plans it, which takes no options."""
        return self.arguments is None


def as_lists(rows: Rows) -> list[list[int]]:
    """Tuples as JSON will have them."""
    return [list(row) for row in rows]
