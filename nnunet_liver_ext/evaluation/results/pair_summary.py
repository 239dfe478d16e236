"""How alike the two masks of a pair are, over all pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.statistics.ranks import signed_rank_p
from nnunet_liver_ext.evaluation.tidy_table import group_rows, pair_rows

PARTS = ("prediction", "reference", "gain")
"""Each is the metric relative_similarity_PART."""
FURTHER = {
    "pair_dice_prediction": "As they lie",
    "pair_dice_reference": "References as they lie",
    "warped_dice": "First warped",
    "registered_dice": "First registered",
}
"""Further metrics of pairs, and the heading of each."""


def summarise_pairs(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Means over the pairs of each class, and whether predictions and references differ.

    Args:
        table: as `results_table` makes it.

    Returns:
        A row for each modality and class: modality, class; pairs; excluded, those with an empty
        mask (of prediction or reference), which are in no mean; prediction, reference and gain,
        mean relative similarities; p_value, `signed_rank_p` of the patients' mean gains, nan for
        too few patients. And those that were measured of the mean Dice of `FURTHER`.
    """
    rows = pair_rows(table)
    if rows.empty:
        return []
    return [
        {"modality": modality, "class": class_name, **_summarise(of_class)}
        for (modality, class_name), of_class in group_rows(rows, ["modality", "class"])
    ]


def pair_cells(row: dict[str, Any]) -> list[str]:
    """A row of `summarise_pairs` for a reader.

    Returns:
        Pairs, excluded, predictions, references, difference, p.
    """
    means = [METRICS[f"relative_similarity_{part}"].format(row[part]) for part in PARTS]
    p_value = "–" if math.isnan(row["p_value"]) else f"{row['p_value']:.2g}"
    return [str(row["pairs"]), str(row["excluded"]), *means, p_value]


def further_cells(row: Mapping[str, Any]) -> list[str]:
    """What was measured of `FURTHER` in a row of `summarise_pairs`, for a reader."""
    return [METRICS[name].format(row[name]) for name in FURTHER if name in row]


def further_headings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The headings of `further_cells`."""
    return [heading for name, heading in FURTHER.items() if name in rows[0]] if rows else []


def _summarise(rows: pd.DataFrame) -> dict[str, float]:
    values = rows.pivot(index=["patient", "case"], columns="metric", values="value")
    finite = values[np.isfinite(values["relative_similarity_gain"])]
    gains = finite.groupby("patient")["relative_similarity_gain"].mean()
    return {
        "pairs": len(values),
        "excluded": len(values) - len(finite),
        **{part: float(finite[f"relative_similarity_{part}"].mean()) for part in PARTS},
        "p_value": signed_rank_p(gains.to_numpy(float)),
        **{name: float(finite[name].mean()) for name in FURTHER if name in finite},
    }
