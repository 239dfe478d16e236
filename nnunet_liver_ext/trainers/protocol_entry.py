"""What a protocol is: numbers of the recipe and of the plans, by editions, beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nnunet_liver_ext.errors import InputError


@dataclass(frozen=True)
class Deviation:
    """A number of the paper beside ours."""

    what: str
    paper: str
    ours: str
    reason: str = ""
    """Empty where both are the same."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a paper says of training and of planning."""

    name: str
    paper: str
    trainers: tuple[str, ...]
    """Trainers that it was made for; others may use it, too."""
    architecture: str
    """A key of `nnunet_liver plan --architecture`."""
    architecture_options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the network."""
    spacing: tuple[float | None, ...] | None = None
    """Target spacing (z, y, x) in mm; None in the first place: slices stay as they are; None
    altogether: the planner's."""
    batch_size: int | None = None
    patch_size: tuple[int, ...] | None = None
    """(z, y, x) at most; the planner makes it smaller where memory is short."""
    numbers: Mapping[str, Any]
    """Numbers of the recipe by their names."""
    earlier_numbers: tuple[Mapping[str, Any], ...] = ()
    """Those of each earlier edition, the first one first."""
    layout: Literal["pairs", "images", "any"]
    """Which datasets it fits: pairs (pre-registered ones, too), or one mask per case."""
    needs_organ_mask: bool = False
    table: tuple[Deviation, ...]

    @property
    def edition(self) -> int:
        """The number of times that its numbers have been set; 1 is the first."""
        return len(self.earlier_numbers) + 1

    def numbers_of(self, edition: int) -> Mapping[str, Any]:
        """The numbers that plans of an edition mean.

        Raises:
            InputError: there is no such edition (yet).
        """
        if edition not in range(1, self.edition + 1):
            raise InputError(
                f"protocol {self.name} has no edition {edition!r}, only 1 to {self.edition}: the"
                " plans are from a later version of nnunet_liver_ext, which must be installed."
            )
        return (*self.earlier_numbers, self.numbers)[edition - 1]
