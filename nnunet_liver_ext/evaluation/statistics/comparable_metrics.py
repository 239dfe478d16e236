"""Which metrics of a table models are compared by, and from which difference on.

A metric without a better direction (a volume, the similarity of the references) is in no
comparison. Of signed differences, which are best at 0, the absolute value is compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.absent_objects import leave_out_absent
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.metric_entry import Metric
from nnunet_liver_ext.evaluation.options import Empty

ROUNDING = 1e-9
"""Differences that miss a threshold by less than this reach it: 0.945 - 0.940 is 0.00499999... in
floating point."""


def comparable_metrics(
    available: Iterable[str], wanted: Sequence[str] | None = None
) -> list[Metric]:
    """The metrics to compare models by, in the order of the catalogue.

    Args:
        available: names in the results.
        wanted: names; None takes all with a better direction but those that are the same as
            another (`Metric.same_as`).

    Raises:
        InputError: a wanted one has no better direction or is not in the results, or none is left.
    """
    names = set(available)
    possible = [metric for metric in all_comparable_metrics() if metric.name in names]
    for name in wanted or ():
        if name not in names:
            raise InputError(
                f"{name}: is no metric of these results; compare some of {_listed(possible)}."
            )
        if name not in {metric.name for metric in possible}:
            raise InputError(
                f"{name}: has no better direction; compare some of {_listed(possible)}."
            )
    if not possible:
        raise InputError(
            "no metric of these results has a better direction:"
            f" {', '.join(sorted(names)) or 'none there'}."
        )
    if wanted is None:
        return [metric for metric in possible if not metric.same_as]
    return [metric for metric in possible if metric.name in wanted]


def all_comparable_metrics() -> list[Metric]:
    """All of the catalogue that have a better direction."""
    return [metric for metric in METRICS.values() if metric.is_comparable]


def smallest_differences(
    given: float | Mapping[str, float] | None, metrics: Sequence[Metric]
) -> dict[str, float]:
    """The smallest difference of interest by metric, in its unit.

    Args:
        given: a number, for the metrics that are like a Dice (`Metric.dice_like`); or numbers by
            name. Others keep their default.
        metrics: those that are compared.

    Raises:
        InputError: a number is negative or not finite, or a name is of no comparable metric.
    """
    possible = all_comparable_metrics()
    if given is None or isinstance(given, Mapping):
        by_name = dict(given or {})
    else:
        by_name = {metric.name: float(given) for metric in possible if metric.dice_like}
    for name, value in by_name.items():
        if name not in {metric.name for metric in possible}:
            raise InputError(f"smallest difference of {name}: choose from {_listed(possible)}.")
        if not 0 <= value < float("inf"):
            raise InputError(
                f"the smallest difference of {name} must be a number, 0 or more, not {value}."
            )
    return {metric.name: by_name.get(metric.name, metric.smallest_difference) for metric in metrics}


def compared_values(
    table: pd.DataFrame, metrics: Sequence[Metric], *, empty: Empty
) -> pd.DataFrame:
    """The rows of these metrics, with absolute values where those are compared.

    `empty` is that of `absent_objects.leave_out_absent`.
    """
    table = leave_out_absent(table, empty)
    rows = table[table.metric.isin([metric.name for metric in metrics])].copy()
    absolute = rows.metric.isin([metric.name for metric in metrics if metric.compared_as_absolute])
    rows["value"] = rows["value"].astype(float).where(~absolute, rows["value"].abs())
    return rows


def _listed(metrics: Sequence[Metric]) -> str:
    return ", ".join(metric.name for metric in metrics) or "none of them"
