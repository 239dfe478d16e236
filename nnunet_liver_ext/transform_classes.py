"""The classes of transforms Ω up to which two masks may be alike.

Source: Couteaux et al. 2021, "Cooperating networks".
"""

from __future__ import annotations

from typing import Literal, get_args

Transforms = Literal["translation", "rigid", "affine", "elastic"]
TRANSFORMS: tuple[Transforms, ...] = get_args(Transforms)
