"""From tissues to signals: T1, T2, water and fat on the canvas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nnunet_liver_ext.dataset_conversion.phantom.canvas import Canvas
from nnunet_liver_ext.dataset_conversion.phantom.randomness import smooth_field
from nnunet_liver_ext.dataset_conversion.phantom.tissues import (
    LIVER_FAT_PERCENT,
    Appearance,
    Tissue,
    tissue_values,
)

TEXTURE_MM = 3.5
MOTTLE_MM = 11.0
VARIETY_MM = 38.0
FAT_BEARING = (Tissue.LIVER, Tissue.LESION)


@dataclass(frozen=True)
class Signals:
    """Signals over the canvas (float32, z y x): T1, T2, water and fat.

    T1 and T2 are 0 to about 1, water and fat are in the same unit.
    """

    t1: np.ndarray
    t2: np.ndarray
    water: np.ndarray
    fat: np.ndarray


@dataclass(frozen=True)
class Unevenness:
    """Three random fields of variance 1 that all contrasts share.

    What is coarse in T1 is coarse in T2.
    """

    texture: np.ndarray
    mottle: np.ndarray
    variety: np.ndarray

    @classmethod
    def draw(cls, canvas: Canvas, rng: np.random.Generator) -> Unevenness:
        return cls(
            *(canvas.random_field(scale, rng) for scale in (TEXTURE_MM, MOTTLE_MM, VARIETY_MM))
        )


def tissue_signals(
    canvas: Canvas,
    appearance: Mapping[Tissue, Appearance],
    rng: np.random.Generator,
    *,
    spread: float,
) -> Signals:
    """The canvas's signals.

    `spread` is the relative standard deviation of a tissue's signal between patients.
    """
    unevenness = Unevenness.draw(canvas, rng)
    factors = {
        name: np.clip(1 + spread * rng.standard_normal(len(Tissue)), 0.6, 1.4)
        for name in ("t1", "t2")
    }
    t1, t2 = (
        _uneven_signal(canvas, appearance, name, factors[name], unevenness) for name in ("t1", "t2")
    )
    percent = tissue_values(appearance, "fat_percent")
    percent[list(FAT_BEARING)] = rng.uniform(*LIVER_FAT_PERCENT)
    percent = percent[canvas.tissue]
    total = (
        t1 + np.float32(0.009) * percent
    )  # fat is suppressed in T1, but bright in a Dixon fat image
    fraction = np.clip(0.01 * percent * (1 + 0.08 * unevenness.mottle), 0, 1)
    return Signals(t1, t2, total * (1 - fraction), total * fraction)


def _uneven_signal(
    canvas: Canvas,
    appearance: Mapping[Tissue, Appearance],
    image: str,
    factors: np.ndarray,
    unevenness: Unevenness,
) -> np.ndarray:
    """level · (1 + texture + mottle) ± variety; variety is added in T1 and subtracted in T2."""
    values = 1 + tissue_values(appearance, "texture")[canvas.tissue] * unevenness.texture
    values += tissue_values(appearance, "mottle")[canvas.tissue] * unevenness.mottle
    values *= (tissue_values(appearance, image) * factors).astype(np.float32)[canvas.tissue]
    variety = tissue_values(appearance, "variety")[canvas.tissue] * unevenness.variety
    return np.maximum(values + variety if image == "t1" else values - variety, 0)


def add_bias_field(
    values: np.ndarray, spacing_mm: tuple[float, ...], rng: np.random.Generator, strength: float
) -> np.ndarray:
    """Values times a smooth positive field, exp(strength · field), of 15 cm correlation length."""
    return values * np.exp(strength * smooth_field(values.shape, spacing_mm, 150.0, rng))


def add_rician_noise(values: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """|values + complex Gaussian noise|, sigma per channel (Gudbjartsson and Patz 1995)."""
    real = values + sigma * rng.standard_normal(values.shape, dtype=np.float32)
    return np.hypot(real, sigma * rng.standard_normal(values.shape, dtype=np.float32))
