"""CT of the phantom: Hounsfield units of its tissues in the portal venous phase.

They are about as textbooks give them.

The anatomy is that of the T1/T2 pairs; what a CT scanner adds is Gaussian noise, and nothing is
biased.
"""

from __future__ import annotations

import numpy as np

from nnunet_liver_ext.dataset_conversion.phantom.randomness import smooth_field
from nnunet_liver_ext.dataset_conversion.phantom.tissues import APPEARANCE, Tissue, tissue_values

AIR_HU = -1000.0
HOUNSFIELD: dict[Tissue, float] = {
    Tissue.AIR: AIR_HU,
    Tissue.SKIN: 20,
    Tissue.SUBCUTANEOUS_FAT: -105,
    Tissue.VISCERAL_FAT: -95,
    Tissue.MUSCLE: 60,
    Tissue.LUNG: -830,
    Tissue.MYOCARDIUM: 95,
    Tissue.HEART_BLOOD: 145,
    Tissue.LIVER: 108,
    Tissue.LIVER_VESSEL: 165,
    Tissue.LESION: 62,
    Tissue.GALLBLADDER: 8,
    Tissue.SPLEEN: 122,
    Tissue.KIDNEY_CORTEX: 180,
    Tissue.KIDNEY_MEDULLA: 150,
    Tissue.AORTA: 155,
    Tissue.VENA_CAVA: 145,
    Tissue.MARROW: 170,
    Tissue.CORTICAL_BONE: 700,
    Tissue.DISC: 85,
    Tissue.SPINAL_FLUID: 12,
    Tissue.SPINAL_CORD: 40,
    Tissue.STOMACH_WALL: 75,
    Tissue.STOMACH_CONTENT: 25,
    Tissue.GAS: -950,
    Tissue.BOWEL_WALL: 80,
    Tissue.BOWEL_CONTENT: 30,
    Tissue.PANCREAS: 95,
    Tissue.BACK_MUSCLE: 55,
}
SPREAD_HU = 6.0
"""Standard deviation of a tissue between patients."""
UNEVEN_HU = 110.0
"""Scale of texture: an `Appearance.texture` of 0.05 is a standard deviation of 5.5 HU."""
TEXTURE_MM = 5.0


def hounsfield_units(
    tissue: np.ndarray, spacing_mm: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Hounsfield units (float32) of tissues (uint8, z y x), with a patient's levels and texture."""
    levels = np.array([HOUNSFIELD[kind] for kind in Tissue], np.float32)
    levels[1:] += (SPREAD_HU * rng.standard_normal(len(levels) - 1)).astype(np.float32)
    texture = np.minimum(tissue_values(APPEARANCE, "texture"), 0.1) * np.float32(UNEVEN_HU)
    return levels[tissue] + texture[tissue] * smooth_field(
        tissue.shape, spacing_mm, TEXTURE_MM, rng
    )
