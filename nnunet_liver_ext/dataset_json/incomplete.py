"""Pairs of which an image or a mask is missing: the `incomplete` entry of dataset.json.

    "incomplete": {"P003_S1": {"images": ["T1", "T2"], "masks": ["T1"]}}

It names what there is of each training case that is not complete; all others have both images and
both masks. In the pair code a missing mask is background, and a missing image's channel is zeros,
so nothing may look at them without asking here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import PairLabels


@dataclass(frozen=True)
class IncompleteCases:
    """What there is of the cases that lack something, by case."""

    images: Mapping[str, frozenset[str]] = field(default_factory=dict)
    masks: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def from_dataset_json(cls, dataset_json: Mapping[str, Any]) -> IncompleteCases:
        """InputError if the entry does not look as it should."""
        entries = dataset_json.get("incomplete", {})
        try:
            kinds = {
                kind: {case: frozenset(entry[kind]) for case, entry in entries.items()}
                for kind in ("images", "masks")
            }
        except (AttributeError, KeyError, TypeError):
            raise InputError(
                "dataset.json: `incomplete` must name the images and masks of each incomplete"
                f" case, found {str(entries)[:200]}."
            ) from None
        return cls(**kinds)

    def __bool__(self) -> bool:
        return bool(self.masks)

    def complete_cases(self, cases: Iterable[str]) -> list[str]:
        """Those of the cases that lack nothing."""
        return [case for case in cases if case not in self.masks]

    def has_mask(self, case: str, modality: str) -> bool:
        return case not in self.masks or (
            modality in self.masks[case] and modality in self.images[case]
        )

    def availability(
        self, cases: Sequence[str], modalities: Sequence[str]
    ) -> list[list[bool]] | None:
        """Which of the cases have the mask of each modality; None if all have all."""
        if all(case not in self.masks for case in cases):
            return None
        return [[self.has_mask(case, modality) for case in cases] for modality in modalities]

    def unmeasurable_classes(self, pair: PairLabels) -> dict[str, set[str]]:
        """Names such as "T2 liver" of classes that cannot be measured without a mask, by case."""
        return {
            case: {
                f"{modality} {name}"
                for modality in pair.modalities
                for name in pair.classes[1:]
                if not self.has_mask(case, modality)
            }
            for case in self.masks
        }
