"""The fat fraction of a Dixon scan from its water and fat images.

Source: the Antaros liver U-Net report, section 1.3.
"""

from __future__ import annotations

import numpy as np

from nnunet_liver_ext.errors import InputError


def fat_fraction_percent(water: np.ndarray, fat: np.ndarray) -> np.ndarray:
    """The fat fraction 100·fat / (water + fat); 0 where neither has a signal.

    This is the fraction of the signals. A scanner's proton density fat fraction (PDFF) is also
    corrected for T1 and T2* and may differ by several percentage points. Air has noise in both
    images, hence any fraction.

    Args:
        water: magnitudes, 0 or more, any shape.
        fat: of the same shape.

    Returns:
        Percent, 0..100, float32.

    Raises:
        InputError: the shapes differ, or a value is negative, nan or infinite.
    """
    if water.shape != fat.shape:
        raise InputError(
            f"water and fat differ in shape: {water.shape} and {fat.shape}; resample one of them"
            " first."
        )
    for name, values in (("water", water), ("fat", fat)):
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise InputError(
                f"{name} must be magnitudes, 0 or more; it has negative values, nan or inf."
            )
    total = water.astype(np.float64) + fat
    return np.divide(
        100 * fat.astype(np.float64), total, out=np.zeros(total.shape), where=total > 0
    ).astype(np.float32)
