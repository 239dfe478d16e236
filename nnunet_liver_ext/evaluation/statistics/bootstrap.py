"""Confidence intervals of a mean over cases, where the cases of one patient are not independent.

Cluster bootstrap: patients are drawn with replacement, each with all of its cases (Davison and
Hinkley 1997, section 3.8; Field and Welsh 2007). The interval is the expanded percentile interval
(Hesterberg 2015): the percentiles of the resampled means, at levels widened so that few patients do
not make it too narrow.
"""

# R resamples, G patients, N cases, M models

from __future__ import annotations

import math

import numpy as np
import pandas as pd

FEWEST_PATIENTS = 6
"""Fewest patients for a test or an interval. Five give a two-sided signed-rank p of 2/2^5 = 0.06 at
best."""
NUMBERS_AT_A_TIME = 10_000_000


def bootstrap_means(
    values: np.ndarray, patients: np.ndarray, *, resamples: int, seed: int
) -> np.ndarray:
    """Means over the cases of resampled patients.

    Each resample draws as many patients as there are, with replacement, and takes the mean of all
    cases of the drawn ones: m = Σ k_g s_g / Σ k_g n_g, where patient g with n_g cases of sum s_g is
    drawn k_g times.

    Args:
        values: (N,) or (N, M), finite.
        patients: (N,), the patient of each case.
        resamples: R.
        seed: the same patients are drawn for each table with as many patients.

    Returns:
        (R,) or (R, M).
    """
    by_patient = pd.DataFrame(values.reshape(len(values), -1)).groupby(
        np.asarray(patients, dtype=str)
    )
    sums_GM, counts_G = by_patient.sum().to_numpy(), by_patient.size().to_numpy()
    rng, num = np.random.default_rng(seed), len(counts_G)
    at_a_time = max(1, NUMBERS_AT_A_TIME // num)
    blocks = []
    for start in range(0, resamples, at_a_time):
        drawn_RG = rng.multinomial(
            num, np.full(num, 1 / num), size=min(at_a_time, resamples - start)
        ).astype(float)
        blocks.append((drawn_RG @ sums_GM) / (drawn_RG @ counts_G)[:, None])
    return np.concatenate(blocks).reshape(resamples, *values.shape[1:])


def confidence_interval(
    values: np.ndarray,
    patients: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Expanded percentile interval of the mean over the cases, patients resampled.

    The percentiles are those at Φ(±√(G / (G − 1)) t), with t the quantile of Student's distribution
    with G − 1 degrees of freedom for G patients (Hesterberg 2015, "What teachers should know about
    the bootstrap"): as a t interval is to a normal one. From some fifty patients on it is nearly
    the plain percentile interval.

    Args:
        values: (N,), finite.
        patients: (N,), the patient of each case.
        confidence: between 0 and 1.
        resamples: number of bootstrap samples.
        seed: of the draws.

    Returns:
        Low and high, in the unit of the values; nan for fewer than `FEWEST_PATIENTS` patients.
    """
    num = len(set(patients))
    if num < FEWEST_PATIENTS:
        return math.nan, math.nan
    from scipy.stats import norm, t

    tail = float(norm.cdf(math.sqrt(num / (num - 1)) * t.ppf((1 - confidence) / 2, num - 1)))
    means = bootstrap_means(values, patients, resamples=resamples, seed=seed)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
