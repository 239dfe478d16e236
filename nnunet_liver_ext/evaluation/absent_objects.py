"""Classes that not every reference has: which cases a mean is over, and what is counted beside it.

Two empty masks have a Dice of 1, whoever made them. Where few references have a tumour, a model
that never predicts one would collect these and come out first. So the means of overlap and distance
are over the cases whose reference has the object, and the false positives in the others are
counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.options import Empty
from nnunet_liver_ext.evaluation.tidy_table import OBJECT, group_rows

VOLUMES = ("volume_prediction", "volume_reference")
SIMILARITIES = ("relative_similarity_prediction", "relative_similarity_reference")


@dataclass(frozen=True)
class Presence:
    """In how many cases a modality's class is there."""

    cases: int
    in_reference: int
    """Cases whose reference has it; of several raters, that of one."""
    missed: int
    """Of these, cases in which it was not predicted at all."""
    false_positives: int
    """Other cases, in which it was predicted."""

    @property
    def is_absent_somewhere(self) -> bool:
        """Whether a reference lacks it."""
        return self.in_reference < self.cases

    @property
    def cases_text(self) -> str:
        """ "20", or "2 of 20" for an object that 18 references lack."""
        return (
            f"{self.in_reference} of {self.cases}" if self.is_absent_somewhere else str(self.cases)
        )

    @property
    def false_positives_text(self) -> str:
        """ "3 of 18", of the cases whose reference lacks it; "–" if there is none."""
        absent = self.cases - self.in_reference
        return f"{self.false_positives} of {absent}" if absent else "–"


def leave_out_absent(table: pd.DataFrame, empty: Empty = "exclude") -> pd.DataFrame:
    """The table with nan where a value is a convention, because the reference lacks the object.

    Args:
        table: results, with or without the column model.
        empty: "one" leaves all values as they are: two empty masks then count as Dice 1.

    Returns:
        A table of the same rows. Where no volume of the reference is known, nothing is left out.
    """
    if empty == "one":
        return table
    needing = [metric.name for metric in METRICS.values() if metric.needs_reference]
    left_out = table.metric.isin(needing) & _is_absent(table)
    return table.assign(value=table.value.where(~left_out))


def predicted_where_absent(table: pd.DataFrame) -> pd.DataFrame:
    """The cases whose reference lacks an object: model, case, modality, class, predicted (bool)."""
    rows = table[(table.metric == "volume_prediction") & _is_absent(table)]
    return rows[["model", *OBJECT]].assign(predicted=rows.value > 0)


def rank_misses_last(values: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The values with an infinitely bad one where nothing is measured because a mask is missing.

    A distance from no mask is infinite already; a relative similarity, a share or a fat fraction of
    no mask does not exist (nan), and leaving it out would favour the model that misses.

    Args:
        values: rows of metrics that are compared, absolute where those are.
        table: all results, with the volumes and the references' relative similarities.
    """
    keys = [name for name in ("model", *OBJECT) if name in table]
    missed = values["value"].isna() & pd.MultiIndex.from_frame(values[keys]).isin(
        _missed_objects(table, keys)
    )
    signs = {name: -1 if METRICS[name].higher_is_better else 1 for name in set(values.metric)}
    worst = values["metric"].map(signs) * math.inf
    return values.assign(value=values["value"].where(~missed, worst))


def _missed_objects(table: pd.DataFrame, keys: list[str]) -> pd.Index:
    """Objects that the reference has and the prediction lacks; of pairs, in one of the images."""
    sides = [*VOLUMES, *SIMILARITIES]
    rows = table[table.metric.isin(sides)]
    wide = rows.pivot(index=keys, columns="metric", values="value").reindex(columns=sides)
    prediction, reference = (wide[name] for name in VOLUMES)
    of_prediction, of_reference = (wide[name] for name in SIMILARITIES)
    missed = (reference > 0) & (prediction == 0) | of_reference.notna() & of_prediction.isna()
    return wide.index[missed]


def _is_absent(table: pd.DataFrame) -> np.ndarray:
    """Whether the reference lacks the object of each row (N,); False where that is not known."""
    volumes = table[table.metric == "volume_reference"].groupby(OBJECT)["value"].max()
    absent: np.ndarray = pd.MultiIndex.from_frame(table[OBJECT]).isin(volumes.index[volumes == 0])
    return absent


def count_presence(table: pd.DataFrame) -> dict[tuple[str, str], Presence]:
    """In how many cases each modality's class is there, as volumes say; of one model's results.

    Cases of which not both volumes are known count nowhere.
    """
    volumes = table[table.metric.isin(VOLUMES)]
    return {
        (modality, name): _presence(wide.dropna())
        for (modality, name), rows in group_rows(volumes, ["modality", "class"])
        for wide in [rows.pivot(index="case", columns="metric", values="value")]
        if set(VOLUMES) <= set(wide.columns)
    }


def describe_absent(empty: Empty) -> str:
    """What a table of means says below it where references lack an object."""
    what = {
        "exclude": "over the cases whose reference has the object (n of all cases)",
        "one": "over all cases, two empty masks as Dice 1",
    }[empty]
    return (
        f"Means of overlap and distance are {what}. False positives (FP): cases without it in which"
        " it was predicted."
    )


def false_positive_sentences(tables: Sequence[tuple[str, pd.DataFrame]], empty: Empty) -> list[str]:
    """A sentence for each class that a reference lacks: where it is, and who invented it.

    Args:
        tables: results of each model by its name.
        empty: as `leave_out_absent`.
    """
    presences = {name: count_presence(table) for name, table in tables}
    objects = dict.fromkeys(key for presence in presences.values() for key in presence)
    sentences = []
    for key in objects:
        of_models = {name: presence[key] for name, presence in presences.items() if key in presence}
        first = next(iter(of_models.values()))
        if not first.is_absent_somewhere:
            continue
        over = (
            "over which its means are"
            if empty == "exclude"
            else "its means are over all of them, two empty masks as Dice 1"
        )
        invented = ", ".join(
            f"{name} {presence.false_positives_text}" for name, presence in of_models.items()
        )
        sentences.append(
            f"{label(*key)} is in the reference of {first.cases_text} cases, {over}; false"
            f" positives in the others: {invented}."
        )
    return sentences


def _presence(volumes: pd.DataFrame) -> Presence:
    predicted, there = volumes.volume_prediction > 0, volumes.volume_reference > 0
    return Presence(
        cases=len(volumes),
        in_reference=int(there.sum()),
        missed=int((there & ~predicted).sum()),
        false_positives=int((~there & predicted).sum()),
    )
