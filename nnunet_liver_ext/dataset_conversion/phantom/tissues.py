"""The tissues of the phantom and how they look in T1 and T2.

T1 is a fat-suppressed gradient echo in the portal venous phase, T2 a turbo spin echo without fat
suppression. Signals are fractions of the brightest tissue and keep the order a radiologist expects
(T2: fluid, fat, kidney, spleen, liver, muscle); they are not solutions of the Bloch equations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Tissue(IntEnum):
    """What a voxel of the canvas is made of."""

    AIR = 0
    SKIN = 1
    SUBCUTANEOUS_FAT = 2
    VISCERAL_FAT = 3
    MUSCLE = 4
    LUNG = 5
    MYOCARDIUM = 6
    HEART_BLOOD = 7
    LIVER = 8
    LIVER_VESSEL = 9
    LESION = 10
    GALLBLADDER = 11
    SPLEEN = 12
    KIDNEY_CORTEX = 13
    KIDNEY_MEDULLA = 14
    AORTA = 15
    VENA_CAVA = 16
    MARROW = 17
    CORTICAL_BONE = 18
    DISC = 19
    SPINAL_FLUID = 20
    SPINAL_CORD = 21
    STOMACH_WALL = 22
    STOMACH_CONTENT = 23
    GAS = 24
    BOWEL_WALL = 25
    BOWEL_CONTENT = 26
    PANCREAS = 27
    BACK_MUSCLE = 28


@dataclass(frozen=True)
class Appearance:
    """Signals in T1 and T2 (0..1), fat in percent of the signal, and how uneven the tissue is.

    `texture` is the relative standard deviation of fine texture (a few mm), `mottle` of coarse
    texture (about 1 cm), `variety` the absolute standard deviation of slow changes (several cm):
    bowel loops of different content.
    """

    t1: float
    t2: float
    fat_percent: float
    texture: float = 0.02
    mottle: float = 0.02
    variety: float = 0.0


APPEARANCE: dict[Tissue, Appearance] = {
    Tissue.AIR: Appearance(0, 0, 0, 0, 0),
    Tissue.SKIN: Appearance(0.34, 0.30, 15),
    Tissue.SUBCUTANEOUS_FAT: Appearance(0.17, 0.82, 94, 0.05, 0.04),
    Tissue.VISCERAL_FAT: Appearance(0.18, 0.76, 90, 0.09, 0.07),
    Tissue.MUSCLE: Appearance(0.51, 0.245, 4, 0.09, 0.07),
    Tissue.LUNG: Appearance(0.05, 0.05, 0, 0.5, 0.3),
    Tissue.MYOCARDIUM: Appearance(0.52, 0.30, 2, 0.04),
    Tissue.HEART_BLOOD: Appearance(0.74, 0.16, 0, 0.05, 0.10),
    Tissue.LIVER: Appearance(0.58, 0.30, 5, 0.055, 0.06),
    Tissue.LIVER_VESSEL: Appearance(0.82, 0.17, 1),
    Tissue.LESION: Appearance(0.36, 0.60, 2, 0.05, 0.06),
    Tissue.GALLBLADDER: Appearance(0.22, 0.97, 0),
    Tissue.SPLEEN: Appearance(0.60, 0.50, 1, 0.03, 0.03),
    Tissue.KIDNEY_CORTEX: Appearance(0.83, 0.58, 1, 0.03),
    Tissue.KIDNEY_MEDULLA: Appearance(0.68, 0.72, 1, 0.04),
    Tissue.AORTA: Appearance(0.90, 0.06, 0, 0.03, 0.05),
    Tissue.VENA_CAVA: Appearance(0.80, 0.10, 0, 0.03, 0.08),
    Tissue.MARROW: Appearance(0.33, 0.40, 45, 0.10, 0.06),
    Tissue.CORTICAL_BONE: Appearance(0.07, 0.06, 0, 0.1),
    Tissue.DISC: Appearance(0.30, 0.34, 2, 0.06),
    Tissue.SPINAL_FLUID: Appearance(0.14, 1.00, 0),
    Tissue.SPINAL_CORD: Appearance(0.42, 0.42, 3),
    Tissue.STOMACH_WALL: Appearance(0.60, 0.32, 2, 0.04),
    Tissue.STOMACH_CONTENT: Appearance(0.52, 0.42, 2, 0.07, 0.13, 0.13),
    Tissue.GAS: Appearance(0.03, 0.03, 0, 0.3),
    Tissue.BOWEL_WALL: Appearance(0.62, 0.33, 2, 0.05, 0.05, 0.05),
    Tissue.BOWEL_CONTENT: Appearance(0.52, 0.40, 2, 0.08, 0.10, 0.13),
    Tissue.PANCREAS: Appearance(0.60, 0.38, 8, 0.13, 0.08),
    Tissue.BACK_MUSCLE: Appearance(0.50, 0.245, 7, 0.11, 0.07),
}

CLEAR_APPEARANCE: dict[Tissue, Appearance] = APPEARANCE | {
    Tissue.LIVER: Appearance(0.58, 0.30, 5, 0.05, 0.06),
    Tissue.SPLEEN: Appearance(0.71, 0.56, 1, 0.04, 0.05),
    Tissue.STOMACH_CONTENT: Appearance(0.30, 0.75, 2, 0.07, 0.08, 0.05),
    Tissue.STOMACH_WALL: Appearance(0.58, 0.30, 2, 0.04),
    Tissue.BOWEL_CONTENT: Appearance(0.40, 0.58, 2, 0.08, 0.11, 0.09),
    Tissue.BOWEL_WALL: Appearance(0.58, 0.30, 2, 0.05, 0.05),
    Tissue.PANCREAS: Appearance(0.70, 0.50, 8, 0.13, 0.08),
    Tissue.MUSCLE: Appearance(0.58, 0.295, 4, 0.06, 0.06),
    Tissue.BACK_MUSCLE: Appearance(0.475, 0.21, 7, 0.10, 0.10),
}
"""Appearances for tiny networks.

What shares the signals of the liver is thin (abdominal and bowel wall); what is bulky differs more.
"""

LIVER_FAT_PERCENT = (2.0, 22.0)  # from a normal liver to a clearly fatty one


def tissue_values(appearance: Mapping[Tissue, Appearance], quantity: str) -> np.ndarray:
    """One quantity of all tissues as an array (float32) to be indexed by tissue."""
    return np.array([getattr(appearance[tissue], quantity) for tissue in Tissue], np.float32)
