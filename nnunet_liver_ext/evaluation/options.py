"""How an evaluation is made: what the numbers depend on beside the masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.metrics import ROUNDING_MM
from nnunet_liver_ext.evaluation.surface import Convention
from nnunet_liver_ext.transform_classes import TRANSFORMS, Transforms

SELECTABLE = ("overlap", "surface", "volume", "plausibility", "pairs")
"""What an evaluation can be restricted to. Surfaces take longer than reading the files, elastic
pairs seconds each."""

Empty = Literal["exclude", "one"]
"""What a case counts whose reference lacks the object: it is in no mean of overlap and distance, or
it counts with its convention (both masks empty: Dice 1; a false positive: Dice 0)."""


@dataclass(frozen=True)
class Options:
    """Every number of a result follows from the masks, the images and these.

    Raises:
        InputError: a value is out of its range.
    """

    tolerance_mm: float = 2.0
    """Distance within which the surface Dice counts a border voxel as right; 0 or more."""
    convention: Convention = "standard"
    """What lies beyond the volume, see `metrics`; "chaos" also gives the four values of CHAOS's own
    evaluation."""
    similarity: Transforms | None = None
    """Measure how similar both masks of a pair are up to transforms of this class, see
    `measuring.one_pair`."""
    lesions: tuple[str, ...] = ()
    """Classes that are measured lesion by lesion, see `lesions`."""
    organ: str = "liver"
    """The class that lesions are in: tumour burden is their share of it."""
    min_lesion_dice: float = 0.2
    """A correspondence of lesions with a higher Dice is a hit; 0..1."""
    fat_margin_mm: float = 0.0
    """What the fat fraction leaves out along the border of a mask; 0 or more."""
    resample: bool = False
    """Put predictions on the reference's grid where theirs is another one."""
    only: tuple[str, ...] = ()
    """Measure only these of `SELECTABLE`; all if empty. Overlap and both volumes are always
    measured."""
    empty: Empty = "exclude"
    """Whether means leave out the cases whose reference lacks the object, see `absent_objects`; no
    value of a case depends on it."""

    def __post_init__(self) -> None:
        for what, value in (
            ("tolerance", self.tolerance_mm),
            ("margin of the fat fraction", self.fat_margin_mm),
        ):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"the {what} must be a number of mm, 0 or more, not {value}.")
        if self.convention not in get_args(Convention):
            raise InputError(
                f"convention must be one of {', '.join(get_args(Convention))}, not"
                f" {self.convention!r}."
            )
        if self.similarity is not None and self.similarity not in TRANSFORMS:
            raise InputError(
                f"similarity must be one of {', '.join(TRANSFORMS)}, not {self.similarity!r}."
            )
        if self.empty not in get_args(Empty):
            raise InputError(
                f"empty must be one of {', '.join(get_args(Empty))}, not {self.empty!r}."
            )
        if unknown := sorted(set(self.only) - set(SELECTABLE)):
            raise InputError(
                f"what is measured must be among {', '.join(SELECTABLE)}, not {unknown[0]!r}."
            )
        if not 0 <= self.min_lesion_dice < 1:
            raise InputError(
                "the lowest Dice of a lesion that is found must lie in 0..1, not"
                f" {self.min_lesion_dice}."
            )

    def wants(self, what: str) -> bool:
        """Whether one of `SELECTABLE` is measured."""
        return not self.only or what in self.only

    def notes_below_a_voxel(self, spacing_mm: Sequence[float], *, fat: bool) -> list[str]:
        """Which lengths are smaller than the distance of any two voxels, and so change nothing.

        Args:
            spacing_mm: distance of neighbouring voxels along each axis.
            fat: whether the fat fraction is measured.
        """
        nearest_mm = min(spacing_mm)
        notes = []
        if self.wants("surface") and 0 < self.tolerance_mm < nearest_mm - ROUNDING_MM:
            notes.append(
                f"the tolerance of {self.tolerance_mm:g} mm is below the smallest distance of"
                f" voxels ({nearest_mm:g} mm): the surface Dice counts border voxels that coincide."
            )
        if fat and 0 < self.fat_margin_mm < nearest_mm - ROUNDING_MM:
            notes.append(
                f"the margin of {self.fat_margin_mm:g} mm is below the smallest distance of"
                f" voxels ({nearest_mm:g} mm): the fat fraction leaves nothing out."
            )
        return notes

    def to_json(self) -> dict[str, Any]:
        """The options as results.json has them."""
        return {**asdict(self), "lesions": list(self.lesions), "only": list(self.only)}
