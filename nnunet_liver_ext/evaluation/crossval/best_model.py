"""Which of several cross-validated models is the best, and how sure that is.

A model's score is the mean over modalities and classes of the mean Dice over the cases whose
reference has the class; false positives in the others are counted beside it. How sure:
each other model is compared with the best one on the same cases (`statistics.compare_paired`,
patients as the unit), and patients are drawn anew to see how often the best one comes first again
(`statistics.stability.ranking_stability`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.absent_objects import (
    false_positive_sentences,
    leave_out_absent,
)
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.options import Empty
from nnunet_liver_ext.evaluation.statistics.paired_comparison import compare_paired
from nnunet_liver_ext.evaluation.statistics.sentences import comparison_sentence
from nnunet_liver_ext.evaluation.statistics.stability import ranking_stability

Tables = Mapping[str, Mapping[int, pd.DataFrame]]
"""results.csv by model and repetition."""
OBJECT = ["modality", "class"]


@dataclass(frozen=True)
class BestModel:
    """The models in the order of their scores."""

    scores: dict[str, float]
    """Mean Dice, highest first."""
    of_each_object: dict[str, dict[str, float]]
    """Mean Dice of each model by modality and class, such as "T1 liver"."""
    repetitions: tuple[int, ...]
    first: float
    """Share of the draws of patients in which the best model comes first; nan for too few
    patients."""
    comparison: pd.DataFrame
    """The mean Dice of each other model (B) against that of the best (A), as `compare_paired`."""
    absent: tuple[str, ...] = ()
    """A sentence for each class that a reference lacks, with the false positives of each model."""
    empty: Empty = "exclude"

    @property
    def name(self) -> str:
        """The model with the highest score."""
        return next(iter(self.scores))

    @property
    def is_clear(self) -> bool:
        """Whether every other model is worse by the verdict of `compare_paired`."""
        return bool((self.comparison["verdict"] == "worse").all())

    def sentences(self) -> list[str]:
        """Which model is best, how sure that is, and one sentence for each other model."""
        first = (
            ""
            if math.isnan(self.first)
            else f" It comes first in {self.first:.0%} of the draws of patients."
        )
        sure = (
            "clearly the best"
            if self.is_clear
            else "the highest mean, but not clearly better than all others"
        )
        said = f"Best: {self.name}, mean Dice {self.scores[self.name]:.4f} ({sure}).{first}"
        compared = (comparison_sentence(row) for row in self.comparison.to_dict("records"))
        return [said, *compared, *self.absent]

    def write(self, path: Path) -> None:
        """Writes best.json beside `path` and renames it."""
        content = {
            "best": self.name,
            "clearly": self.is_clear,
            "score": (
                "mean over modalities and classes of the mean Dice over "
                + {
                    "exclude": "the cases whose reference has the class",
                    "one": "all cases, two empty masks as 1",
                }[self.empty]
            ),
            "repetitions": list(self.repetitions),
            "comes_first": _plain(self.first),
            "models": [
                {"name": name, "score": score, "dice": self.of_each_object[name]}
                for name, score in self.scores.items()
            ],
            "comparison": [
                {str(key): _plain(value) for key, value in row.items()}
                for row in self.comparison.to_dict("records")
            ],
            "sentences": self.sentences(),
        }
        with atomic_write(path) as unfinished:
            unfinished.write_text(
                json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
                encoding="utf-8",
            )


def find_best(
    tables: Tables, *, optimistic: Sequence[str] = (), seed: int = 0, empty: Empty = "exclude"
) -> BestModel:
    """Ranks models by their mean Dice; of equal scores the model that is given first.

    Args:
        tables: results of two or more models on the same cases; of several repetitions those that
            all models have, and a case counts with its mean over these.
        optimistic: models whose checkpoints were chosen on the cases that they predict; the
            sentences say so.
        seed: of the draws of patients.
        empty: as `absent_objects.leave_out_absent`.

    Raises:
        InputError: the models have different modalities or classes, or no reference has any.
    """
    repetitions = tuple(sorted(set.intersection(*(set(of_model) for of_model in tables.values()))))
    dice = {
        name: _dice(
            pd.concat([leave_out_absent(of_model[number], empty) for number in repetitions])
        )
        for name, of_model in tables.items()
    }
    named = [
        (name if len(repetitions) == 1 else f"{name} repetition {number}", of_model[number])
        for name, of_model in tables.items()
        for number in repetitions
    ]
    objects = {
        name: rows.groupby(OBJECT, sort=False)["value"].mean() for name, rows in dice.items()
    }
    _check_objects(objects)
    means = {name: float(scores.mean()) for name, scores in objects.items()}
    if all(map(math.isnan, means.values())):
        raise InputError("no reference has any of the classes: models cannot be ranked.")
    scores = dict(sorted(means.items(), key=lambda item: -item[1]))
    table = pd.concat(
        [_mean_of_each_case(rows).assign(model=name) for name, rows in dice.items()],
        ignore_index=True,
    )
    comparison = compare_paired(table, next(iter(scores)), metrics=["dice"], seed=seed)
    ranking = ranking_stability(table, "dice", seed=seed)
    return BestModel(
        scores,
        {
            name: {_name(index): float(value) for index, value in of_model.items()}
            for name, of_model in objects.items()
        },
        repetitions,
        float(ranking[ranking["model"] == next(iter(scores))]["first"].iloc[0]),
        comparison.assign(
            **{f"optimistic_{side}": comparison[f"model_{side}"].isin(optimistic) for side in "ab"}
        ),
        tuple(false_positive_sentences(named, empty)),
        empty,
    )


def _dice(table: pd.DataFrame) -> pd.DataFrame:
    """case, patient, modality, class, value: the mean over repetitions."""
    rows = table[table["metric"] == "dice"]
    return rows.groupby(["case", "patient", *OBJECT], sort=False)["value"].mean().reset_index()


def _mean_of_each_case(dice: pd.DataFrame) -> pd.DataFrame:
    """The mean over modalities and classes of each case, as a table of results."""
    of_cases = dice.groupby(["case", "patient"], sort=False)["value"].mean().reset_index()
    return of_cases.assign(modality="all", **{"class": "masks"}, metric="dice", unit="1")


def _check_objects(objects: Mapping[str, pd.Series]) -> None:
    first, *others = objects
    for other in others:
        if set(objects[first].index) != set(objects[other].index):
            names = [", ".join(sorted(map(_name, objects[name].index))) for name in (first, other)]
            raise InputError(
                f"{first} segments {names[0]}, {other} segments {names[1]}: they cannot be ranked"
                " together."
            )


def _name(index: Any) -> str:
    return label(*index)


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
