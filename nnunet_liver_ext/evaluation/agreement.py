"""Agreement of measured numbers with the reference's: limits, relative errors, a threshold.

There is one number for each case, such as a liver volume in ml or a fat fraction in percent. An
error is measured minus reference. Cases in which either number is nan or infinite are left out and
counted (`left_out`): read the count beside the rest, because a mean without its missing cases
flatters.

Sources: Bland & Altman, Stat Methods Med Res 1999 (limits of agreement); Lin, Biometrics 1989
(concordance); Cohen, Educ Psychol Meas 1960 (κ); Szczepaniak et al., Am J Physiol Endocrinol Metab
2005 (fatty liver); the Antaros liver U-Net report (which numbers). See docs/metrics.md for a worked
example.
"""

# N cases

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.masks import FloatArray

# standard deviations that hold 95 % of a normal distribution (Bland & Altman 1999, section 2)
WITHIN_LIMITS = 1.96
# 95th percentile of healthy livers, measured by spectroscopy (Szczepaniak et al. 2005)
FATTY_LIVER_PERCENT = 5.56
ROUNDING_PERCENT = 1e-9  # a relative error that equals the limit up to rounding is within it


class Interval(NamedTuple):
    """A 95 % confidence interval, in the unit of the errors."""

    lower: float
    upper: float


@dataclass(frozen=True)
class LimitsOfAgreement:
    """Bias and 95 % limits of agreement, in the unit of the errors; see `limits_of_agreement`."""

    count: int
    left_out: int
    mean: float
    """The bias."""
    std: float
    lower: float
    """The lower limit, mean − 1.96·std."""
    upper: float
    """The upper limit, mean + 1.96·std."""
    mean_interval: Interval
    lower_interval: Interval
    upper_interval: Interval


@dataclass(frozen=True)
class ErrorSummary:
    """Errors in the unit of the measurements, relative errors in percent."""

    count: int
    left_out: int
    zero_references: int
    """Cases without a relative error, as their reference is 0; they count in everything else."""
    mean_error: float
    mean_absolute_error: float
    mean_relative_percent: float
    median_relative_percent: float
    max_relative_percent: float
    within_percent: float
    share_within: float
    """Share (0..1) of the relative errors that are at most `within_percent`."""
    limits: LimitsOfAgreement
    pearson_r: float
    concordance: float


@dataclass(frozen=True)
class ThresholdAgreement:
    """In how many cases measurement and reference lie above the threshold ("positive") or not."""

    threshold: float
    left_out: int
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def count(self) -> int:
        """The number of cases."""
        agreed = self.true_positives + self.true_negatives
        return agreed + self.false_positives + self.false_negatives

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN); nan if no reference is above."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> float:
        """TN / (TN + FP); nan if every reference is above."""
        return _ratio(self.true_negatives, self.true_negatives + self.false_positives)

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all; nan without cases."""
        return _ratio(self.true_positives + self.true_negatives, self.count)

    @property
    def kappa(self) -> float:
        """Cohen's κ = (p_o − p_e) / (1 − p_e); nan if both put all cases on the same side."""
        n, agreed = self.count, self.true_positives + self.true_negatives
        measured = self.true_positives + self.false_positives
        reference = self.true_positives + self.false_negatives
        by_chance = measured * reference + (n - measured) * (n - reference)
        return _ratio(n * agreed - by_chance, n**2 - by_chance)


def limits_of_agreement(errors: npt.ArrayLike) -> LimitsOfAgreement:
    """95 % limits of agreement μ ± 1.96·σ, which hold about 95 % of further errors if normal.

    With n errors, σ and Student's t (97.5th percentile) of n − 1 degrees of freedom, the 95 %
    confidence intervals are μ ± t·σ·√(1/n) and limit ± t·σ·√(1/n + 1.96²/(2·(n − 1))) (Bland &
    Altman 1999, section 2; their paper of 1986 rounds the second root to √(3/n)).

    Args:
        errors: measured minus reference, one for each case (N,), in any unit.

    Returns:
        Numbers in the unit of the errors. Errors that are not finite are left out and counted.
        Without an error the mean is nan, with fewer than two all else.

    Raises:
        InputError: not a list of numbers.
    """
    values = _require_numbers(errors, "errors")
    finite = values[np.isfinite(values)]
    n, left_out = len(finite), len(values) - len(finite)
    mean = float(finite.mean()) if n else math.nan
    if n < 2:
        nowhere = Interval(math.nan, math.nan)
        return LimitsOfAgreement(
            n, left_out, mean, math.nan, math.nan, math.nan, nowhere, nowhere, nowhere
        )
    std = float(finite.std(ddof=1))
    t = float(stats.t.ppf(0.975, n - 1))
    lower, upper = mean - WITHIN_LIMITS * std, mean + WITHIN_LIMITS * std
    mean_half = t * std * math.sqrt(1 / n)
    limit_half = t * std * math.sqrt(1 / n + WITHIN_LIMITS**2 / (2 * (n - 1)))
    intervals = (
        Interval(centre - half, centre + half)
        for centre, half in ((mean, mean_half), (lower, limit_half), (upper, limit_half))
    )
    return LimitsOfAgreement(n, left_out, mean, std, lower, upper, *intervals)


def relative_errors(measured: npt.ArrayLike, reference: npt.ArrayLike) -> FloatArray:
    """Relative errors 100·|m − r| / |r| of each case.

    Args:
        measured: one number for each case (N,).
        reference: in the same order and unit (N,).

    Returns:
        Percent, 0 or more, float64 (N,); nan where the reference is 0 or either number is not
        finite.

    Raises:
        InputError: not two lists of numbers of one length.
    """
    m, r = _require_matched_numbers(measured, reference)
    exists = np.isfinite(m) & np.isfinite(r) & (r != 0)
    errors = np.full(len(m), math.nan)
    errors[exists] = 100 * np.abs(m[exists] - r[exists]) / np.abs(r[exists])
    return errors


def summarise_errors(
    measured: npt.ArrayLike, reference: npt.ArrayLike, *, within: float = 5.0
) -> ErrorSummary:
    """Errors, relative errors, limits of agreement and correlations of measured numbers.

    These are what the Antaros liver U-Net report gives of volumes and fat fractions (sections 3.3
    and 4). Pearson's r is here because readers ask for it, but it does not see a bias. Lin's
    concordance does: 2·s_mr / (s_m² + s_r² + (mean m − mean r)²), with moments over n (Lin 1989).

    Args:
        measured: one number for each case (N,).
        reference: in the same order and unit (N,).
        within: the share of relative errors up to this is counted, in percent.

    Returns:
        Numbers over the cases in which both are finite. Means need one case, limits and
        correlations two; with fewer they are nan. r is also nan if either list is constant, the
        concordance if all numbers are the same.

    Raises:
        InputError: not two lists of numbers of one length, or `within` is not a finite percentage
            of 0 or more.
    """
    if not (math.isfinite(within) and within >= 0):
        raise InputError(f"within must be a finite number of percent, 0 or more, not {within}.")
    m, r, left_out = _finite_cases(measured, reference)
    relative = relative_errors(m, r)
    relative = relative[np.isfinite(relative)]
    has_relative = len(relative) > 0
    return ErrorSummary(
        count=len(m),
        left_out=left_out,
        zero_references=int(np.count_nonzero(r == 0)),
        mean_error=float((m - r).mean()) if len(m) else math.nan,
        mean_absolute_error=float(np.abs(m - r).mean()) if len(m) else math.nan,
        mean_relative_percent=float(relative.mean()) if has_relative else math.nan,
        median_relative_percent=float(np.median(relative)) if has_relative else math.nan,
        max_relative_percent=float(relative.max()) if has_relative else math.nan,
        within_percent=within,
        share_within=float(np.mean(relative <= within + ROUNDING_PERCENT))
        if has_relative
        else math.nan,
        limits=limits_of_agreement(m - r),
        pearson_r=_pearson_r(m, r),
        concordance=_concordance(m, r),
    )


def threshold_agreement(
    measured: npt.ArrayLike, reference: npt.ArrayLike, threshold: float = FATTY_LIVER_PERCENT
) -> ThresholdAgreement:
    """How often both numbers of a case lie on the same side of a threshold, such as fatty liver's.

    A number that equals the threshold is not above it.

    Args:
        measured: one number for each case (N,), such as fat fractions in percent.
        reference: in the same order and unit (N,).
        threshold: in the same unit; 5.56 % fat is the limit of a healthy liver (Antaros report,
            section 1.2).

    Returns:
        Counts over the cases in which both numbers are finite; without cases the ratios are nan.

    Raises:
        InputError: not two lists of numbers of one length, or the threshold is not finite.
    """
    if not math.isfinite(threshold):
        raise InputError(f"threshold must be a finite number, not {threshold}.")
    m, r, left_out = _finite_cases(measured, reference)
    m_above, r_above = m > threshold, r > threshold
    cells = m_above & r_above, m_above & ~r_above, ~m_above & r_above, ~m_above & ~r_above
    return ThresholdAgreement(threshold, left_out, *(int(np.count_nonzero(cell)) for cell in cells))


def _pearson_r(m: FloatArray, r: FloatArray) -> float:
    if len(m) < 2 or np.ptp(m) == 0 or np.ptp(r) == 0:
        return math.nan
    return float(np.corrcoef(m, r)[0, 1])


def _concordance(m: FloatArray, r: FloatArray) -> float:
    if len(m) < 2 or (np.ptp(m) == 0 and np.array_equal(m, r)):
        return math.nan
    covariance = float(np.mean((m - m.mean()) * (r - r.mean())))
    return 2 * covariance / float(m.var() + r.var() + (m.mean() - r.mean()) ** 2)


def _finite_cases(
    measured: npt.ArrayLike, reference: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, int]:
    """Both numbers of the cases in which they are finite, and how many cases are left out."""
    m, r = _require_matched_numbers(measured, reference)
    finite = np.isfinite(m) & np.isfinite(r)
    return m[finite], r[finite], int(np.count_nonzero(~finite))


def _require_matched_numbers(
    measured: npt.ArrayLike, reference: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    m, r = _require_numbers(measured, "measured"), _require_numbers(reference, "reference")
    if len(m) != len(r):
        raise InputError(
            f"measured and reference differ in length: {len(m)} and {len(r)}; give one number for"
            " each case."
        )
    return m, r


def _require_numbers(values: npt.ArrayLike, name: str) -> FloatArray:
    try:
        numbers = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise InputError(
            f"{name} must be a list of numbers, one for each case, not {values!r}."
        ) from None
    if numbers.ndim != 1:
        raise InputError(
            f"{name} must be a list of numbers, one for each case, not an array of shape"
            f" {numbers.shape}."
        )
    return numbers


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
