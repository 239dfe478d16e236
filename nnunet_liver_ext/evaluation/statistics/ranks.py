"""Rank statistics of paired differences: test, effect size, and p values of several tests."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from nnunet_liver_ext.evaluation.statistics.bootstrap import FEWEST_PATIENTS

DIGITS = 12
"""Numbers are rounded to so many decimals before they are ranked: what is equal on paper shall be
tied."""


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p of the Wilcoxon signed-rank test.

    Differences of 0 are left out (`zero_method="wilcox"`). SciPy's `method="auto"`: exact for up to
    50 differences without zeros and ties, all sign permutations for up to 13 with them, otherwise
    the normal approximation with tie correction and no continuity correction. 1 if all differences
    are 0; nan for fewer than `FEWEST_PATIENTS` of them.
    """
    from scipy.stats import wilcoxon

    rounded = np.round(differences, DIGITS)
    if len(rounded) < FEWEST_PATIENTS:
        return math.nan
    return (
        float(wilcoxon(rounded, zero_method="wilcox", method="auto").pvalue)
        if rounded.any()
        else 1.0
    )


def rank_biserial(differences: np.ndarray) -> float:
    """Matched-pairs rank-biserial correlation r = (R₊ − R₋) / (R₊ + R₋), from −1 to 1 (Kerby 2014).

    R₊ and R₋ are the sums of the ranks of |d| over positive and negative differences, those of 0
    left out. 0 if all are 0.
    """
    from scipy.stats import rankdata

    rounded = np.round(differences, DIGITS)
    rounded = rounded[rounded != 0]
    ranks = rankdata(np.abs(rounded))
    return float((np.sign(rounded) * ranks).sum() / ranks.sum()) if len(rounded) else 0.0


def adjust_within_families(p_values: pd.Series, families: pd.Series) -> pd.Series:
    """p values after Benjamini and Hochberg 1995 within each family; nan is no test and stays."""
    from scipy.stats import false_discovery_control

    tested = p_values[p_values.notna()]
    adjusted = tested.groupby(families).transform(
        lambda of_family: false_discovery_control(of_family.to_numpy())
    )
    return adjusted.reindex(p_values.index)
