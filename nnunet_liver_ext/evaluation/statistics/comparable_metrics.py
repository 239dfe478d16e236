"""Which metrics can be compared between models: what is better, from which difference on, and to
which family they belong.

A metric without a better direction (a volume, the similarity of the references) is in no
comparison. Of signed differences, which are best at 0, the absolute value is compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS, Metric

DICE_REPEATABILITY = 0.005
"""Mean difference in Dice between repeated trainings (Couteaux et al. 2021, "Comparing deep
learning strategies", section 4); smaller ones are not "considered meaningful"."""
ROUNDING = 1e-9
"""Differences that miss a threshold by less than this reach it: 0.945 - 0.940 is 0.00499999... in
floating point."""


DICE_LIKE = (
    "dice",
    "chaos_dice",
    "surface_dice",
    "relative_similarity_prediction",
    "relative_similarity_gain",
)
SAME_AS_ANOTHER = (
    "iou",
    "chaos_dice",
    "chaos_ravd",
    "chaos_assd",
    "chaos_mssd",
    "relative_similarity_gain",
)
"""Another metric in another form or under another name. Compared only if it is asked for by name:
testing one thing twice makes a family larger and says nothing new."""

TITLES = {
    "relative_similarity_prediction": "Relative similarity",
    "pair_volume_difference_prediction": "|Volume difference of the pair|",
}
"""Shorter than in the report, which shows the references beside them."""


@dataclass(frozen=True)
class Judged:
    """A metric with a better direction, as it is compared."""

    name: str
    title: str
    family: str
    """p values are adjusted within it."""
    higher_is_better: bool
    decimals: int
    """Of a difference, for a reader."""
    smallest_difference: float
    """Below it, in the metric's unit, two values count as equal; 0 counts any difference."""
    absolute: bool
    """|value| is compared: the metric is best at zero."""

    @property
    def is_dice_like(self) -> bool:
        """An overlap between 0 and 1, to which the repeatability of the Dice applies."""
        return self.name in DICE_LIKE


def _judged(metric: Metric) -> Judged:
    absolute = metric.better == "nearer zero"
    return Judged(
        name=metric.name,
        title=TITLES.get(metric.name, f"|{metric.title}|" if absolute else metric.title),
        family=metric.family,
        higher_is_better=metric.better == "higher",
        decimals=(
            max(metric.decimals, 2)
            if metric.unit == "mm" or not metric.decimals
            else metric.decimals
        ),
        smallest_difference=DICE_REPEATABILITY if metric.name in DICE_LIKE else 0.0,
        absolute=absolute,
    )


JUDGED = {metric.name: _judged(metric) for metric in METRICS.values() if metric.better is not None}
"""By name, in the order of `measures.METRICS`."""


def judged_metrics(available: Iterable[str], wanted: Sequence[str] | None = None) -> list[Judged]:
    """The metrics to compare, in the order of `JUDGED`.

    Args:
        available: names in the results.
        wanted: names; None takes all with a better direction but those that are `SAME_AS_ANOTHER`.

    Raises:
        InputError: a wanted one has no better direction or is not in the results, or none is left.
    """
    names = set(available)
    possible = [judged for judged in JUDGED.values() if judged.name in names]
    for name in wanted or ():
        if name in names and name not in JUDGED:
            raise InputError(
                f"{name}: has no better direction; compare some of {_listed(possible)}."
            )
        if name not in names:
            raise InputError(
                f"{name}: is no metric of these results; compare some of {_listed(possible)}."
            )
    if not possible:
        raise InputError(
            "no metric of these results has a better direction:"
            f" {', '.join(sorted(names)) or 'none there'}."
        )
    chosen = (
        {one.name for one in possible}.difference(SAME_AS_ANOTHER)
        if wanted is None
        else set(wanted)
    )
    return [judged for judged in possible if judged.name in chosen]


def smallest_differences(
    given: float | Mapping[str, float] | None, judged: Sequence[Judged]
) -> dict[str, float]:
    """The smallest difference of interest by metric, in its unit.

    Args:
        given: a number, for the metrics that are `DICE_LIKE`; or numbers by name. Others keep their
            default.
        judged: the metrics that are compared.

    Raises:
        InputError: a number is negative or not finite, or a name is none of `JUDGED`.
    """
    if given is None or isinstance(given, Mapping):
        own = dict(given or {})
    else:
        own = {one.name: float(given) for one in JUDGED.values() if one.is_dice_like}
    for name, value in own.items():
        if name not in JUDGED:
            raise InputError(f"smallest difference of {name}: choose from {', '.join(JUDGED)}.")
        if not 0 <= value < float("inf"):
            raise InputError(
                f"the smallest difference of {name} must be a number, 0 or more, not {value}."
            )
    return {one.name: own.get(one.name, one.smallest_difference) for one in judged}


def compared_values(table: pd.DataFrame, judged: Sequence[Judged]) -> pd.DataFrame:
    """The rows of these metrics, with absolute values where those are compared."""
    rows = table[table.metric.isin([one.name for one in judged])].copy()
    absolute = rows.metric.isin([one.name for one in judged if one.absolute])
    rows["value"] = rows["value"].astype(float).where(~absolute, rows["value"].abs())
    return rows


def _listed(judged: Sequence[Judged]) -> str:
    return ", ".join(one.name for one in judged) or "none of them"
