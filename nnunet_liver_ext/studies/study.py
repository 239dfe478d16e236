"""A study: the images of one patient from one session, with their masks if there are any."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LIVER = "liver"
"""Key in `Study.masks` of a liver mask beside the label map: where the tumours are looked for."""


@dataclass(frozen=True)
class Study:
    """One study; `images` and `masks` are by modality ("T1", "T2") and either may lack one.

    An ordinary study has one mask for all its images, keyed by the first modality, and perhaps a
    liver mask ("liver").
    """

    patient: str
    study: str
    images: Mapping[str, Path]
    masks: Mapping[str, Path]
    raters: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    """Masks of further raters, by rater and by modality; kept beside the dataset, nobody trains on
    them."""

    @property
    def name(self) -> str:
        """Patient and study, safe for a file name; one word where both are the same."""
        words = self.study if self.study in ("", self.patient) else f"{self.patient}_{self.study}"
        return safe_name(words or self.patient)

    @property
    def is_labelled(self) -> bool:
        """Whether there is a mask to learn from; a liver mask beside it is none."""
        return any(name != LIVER for name in self.masks)

    def files(self) -> dict[str, Path]:
        """All files by what they are: "T1", "T1 mask", "liver mask", "rater anna of T1"."""
        masks = {f"{name} mask": path for name, path in self.masks.items()}
        raters = {
            f"rater {rater} of {name}": path
            for rater, masks_of_rater in self.raters.items()
            for name, path in masks_of_rater.items()
        }
        return {**self.images, **masks, **raters}


def safe_name(words: str) -> str:
    """The words with "-" in place of what a file name should not have."""
    return re.sub(r"[^\w.-]+", "-", words)
