"""How the phantom is scanned: sizes, spacings, noise and contrast of each difficulty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from nnunet_liver_ext.dataset_conversion.phantom.tissues import (
    APPEARANCE,
    CLEAR_APPEARANCE,
    Appearance,
    Tissue,
)
from nnunet_liver_ext.errors import InputError

Difficulty = Literal["demo", "study"]


@dataclass(frozen=True)
class ScanProtocol:
    """How a difficulty scans: sizes and spacings in (x, y, z), mm.

    Standard deviations are relative to signal 1.
    """

    t1_size: tuple[int, int, int]
    t1_spacing: tuple[float, float, float]
    t2_size: tuple[int, int, int]
    t2_spacing: tuple[float, float, float]
    canvas_spacing: tuple[float, float, float]
    noise: tuple[float, float]
    """Standard deviation of the noise in T1 and in T2."""
    bias: tuple[float, float]
    annotation_mm: tuple[float, float]
    slice_mm: float
    """Additional annotation noise in T2, from slice to slice."""
    appearance: Mapping[Tissue, Appearance]
    contrast_spread: float
    tilt_degrees: float


PROTOCOLS: dict[str, ScanProtocol] = {
    "demo": ScanProtocol(
        t1_size=(96, 80, 32),
        t1_spacing=(3.75, 3.75, 6.0),
        t2_size=(104, 84, 28),
        t2_spacing=(3.5, 3.5, 7.0),
        canvas_spacing=(3.0, 3.0, 3.0),
        noise=(0.015, 0.015),
        bias=(0.07, 0.07),
        annotation_mm=(0.4, 0.7),
        slice_mm=0.4,
        appearance=CLEAR_APPEARANCE,
        contrast_spread=0.02,
        tilt_degrees=3.0,
    ),
    "study": ScanProtocol(
        t1_size=(256, 204, 72),
        t1_spacing=(1.5, 1.5, 3.0),
        t2_size=(304, 240, 34),
        t2_spacing=(1.25, 1.25, 6.5),
        canvas_spacing=(1.6, 1.6, 2.0),
        noise=(0.03, 0.03),
        bias=(0.14, 0.16),
        annotation_mm=(0.6, 1.2),
        slice_mm=0.8,
        appearance=APPEARANCE,
        contrast_spread=0.08,
        tilt_degrees=5.0,
    ),
}


def choose_protocol(difficulty: str, changes: Mapping[str, Any] | None = None) -> ScanProtocol:
    """The protocol of a difficulty, with other sizes or spacings if some are given.

    Raises:
        InputError: an unknown difficulty, or sizes and spacings that are no three large numbers.
    """
    changes = changes or {}
    if difficulty not in PROTOCOLS:
        raise InputError(
            f"unknown difficulty {difficulty!r}; choose one of {', '.join(PROTOCOLS)}."
        )
    for name, value in changes.items():
        minimum = 8 if name.endswith("size") else 0.5
        if len(value) != 3 or min(value) < minimum:
            raise InputError(
                f"{name} needs three numbers (x, y, z) of at least {minimum}, not {value}."
            )
    return replace(PROTOCOLS[difficulty], **changes)
