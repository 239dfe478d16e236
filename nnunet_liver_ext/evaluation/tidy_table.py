"""The table that all results are: one row for each case, modality, class and metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pandas as pd

from nnunet_liver_ext.evaluation.metric_catalogue import pair_metrics

COLUMNS = ("case", "patient", "modality", "class", "metric", "value", "unit")
OBJECT = ["case", "modality", "class"]


def image_rows(table: pd.DataFrame) -> pd.DataFrame:
    """What was measured of single images."""
    return table[~table.metric.isin(list(pair_metrics()))]


def pair_rows(table: pd.DataFrame) -> pd.DataFrame:
    """What was measured of both masks of a pair."""
    return table[table.metric.isin(list(pair_metrics()))]


def group_rows(
    table: pd.DataFrame, columns: Sequence[str]
) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """The rows that share the values of two or more columns, in the order in which they come."""
    return [
        (tuple(map(str, cast(tuple, values))), rows)
        for values, rows in table.groupby(list(columns), sort=False)
    ]


def empty_masks(table: pd.DataFrame) -> list[dict[str, str]]:
    """Which masks are empty, as far as volumes were measured.

    Returns:
        case, modality, class, and empty: "reference", "prediction" or "both".
    """
    volumes = table[table.metric.isin(["volume_prediction", "volume_reference"])]
    return [
        {
            **dict(zip(OBJECT, names, strict=True)),
            "empty": _which_is_empty(set(rows.metric[rows.value == 0])),
        }
        for names, rows in group_rows(volumes, OBJECT)
        if (rows.value == 0).any()
    ]


def _which_is_empty(metrics: set[str]) -> str:
    return "both" if len(metrics) == 2 else metrics.pop().removeprefix("volume_")
