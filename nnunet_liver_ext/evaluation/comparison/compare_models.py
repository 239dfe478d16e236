"""Compares the results of several models or runs: reads them and checks that they fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_liver_ext.evaluation.absent_objects import false_positive_sentences
from nnunet_liver_ext.evaluation.comparison.conventions import refuse_other_conventions
from nnunet_liver_ext.evaluation.comparison.results_folders import (
    ModelResults,
    combine_results,
    read_all_results,
    read_folds,
    read_patients,
)
from nnunet_liver_ext.evaluation.options import Empty
from nnunet_liver_ext.evaluation.statistics.comparable_metrics import comparable_metrics
from nnunet_liver_ext.evaluation.statistics.models_table import known_patients
from nnunet_liver_ext.evaluation.statistics.paired_comparison import RESAMPLES, Unit, compare_paired
from nnunet_liver_ext.evaluation.statistics.stability import ranking_stability, run_to_run

SAME_VOLUME = 1e-6
"""Volumes of references that differ by less than this part are the same."""
FEWEST_FOR_A_RANKING = 3


@dataclass(frozen=True)
class ModelComparison:
    """What came out of a comparison."""

    table: pd.DataFrame
    """What `compare_paired` gives, and `optimistic_a`, `optimistic_b`: the checkpoint was chosen on
    these cases."""
    ranking: pd.DataFrame
    """What `stability.ranking_stability` gives for each metric; empty for two models."""
    runs: pd.DataFrame
    """What `stability.run_to_run` gives; empty without splits."""
    notes: list[str]
    settings: dict[str, Any]
    results: dict[str, pd.DataFrame]
    """What was compared: results of each model by its name."""


def compare_results(
    paths: Sequence[Path],
    *,
    names: Sequence[str] | None = None,
    baseline: str | None = None,
    metrics: Sequence[str] | None = None,
    unit: Unit = "patient",
    smallest_difference: float | Mapping[str, float] | None = None,
    patients: Path | None = None,
    splits: Path | None = None,
    seed: int = 0,
    empty: Empty = "exclude",
) -> ModelComparison:
    """Compares results of `nnunet_liver evaluate` on the cases that they have in common.

    Args:
        paths: folders with results.csv (and results.json), or the CSV files; two or more.
        names: of the models; None takes those of the folders.
        baseline: the model that all others are compared with; None compares each with each.
        metrics: names; None takes all with a better direction.
        unit: what is tested, see `statistics.compare_paired`.
        smallest_difference: of interest, see `statistics.compare_paired`.
        patients: CSV with the columns case and patient; None takes the column patient of the
            results.
        splits: splits_final.json, if the results are runs of one training: also says how much they
            differ by fold.
        seed: of the bootstrap.
        empty: see `statistics.compare_paired`.

    Raises:
        InputError: results that cannot be read or do not fit together; see `results_folders` and
            `compare_paired`.
    """
    results = read_all_results([Path(path) for path in paths], names)
    table = combine_results(results, read_patients(Path(patients)) if patients else None)
    folds = read_folds(Path(splits)) if splits else None
    compared_metrics = [metric.name for metric in comparable_metrics(table["metric"], metrics)]
    refuse_other_conventions(results, compared_metrics)
    compared = compare_paired(
        table,
        baseline,
        metrics=compared_metrics,
        smallest_difference=smallest_difference,
        unit=unit,
        seed=seed,
        empty=empty,
    )
    chosen = [model.name for model in results if model.chosen_on_these_cases]
    return ModelComparison(
        table=compared.assign(
            **{f"optimistic_{side}": compared[f"model_{side}"].isin(chosen) for side in "ab"}
        ),
        ranking=(
            _ranking(table, compared_metrics, seed, empty)
            if len(results) >= FEWEST_FOR_A_RANKING
            else pd.DataFrame()
        ),
        runs=_runs(table, folds, compared_metrics, empty) if folds is not None else pd.DataFrame(),
        notes=[
            *_notes(table, results, metrics, patients_given=patients is not None),
            *_say_absent(table, results, empty),
        ],
        settings={
            "models": [model.name for model in results],
            "baseline": baseline,
            "unit": unit,
            "smallest_difference": (
                compared.groupby("metric", sort=False)["smallest_difference"].first().to_dict()
            ),
            "resamples": RESAMPLES,
            "seed": seed,
            "empty": empty,
        },
        results={
            model.name: table[table["model"] == model.name].drop(columns="model")
            for model in results
        },
    )


def _ranking(table: pd.DataFrame, metrics: Sequence[str], seed: int, empty: Empty) -> pd.DataFrame:
    rankings = [
        ranking_stability(table, metric, resamples=RESAMPLES, seed=seed, empty=empty)
        for metric in metrics
    ]
    return pd.concat(rankings, ignore_index=True)


def _runs(
    table: pd.DataFrame, folds: Mapping[str, int], metrics: Sequence[str], empty: Empty
) -> pd.DataFrame:
    return run_to_run(
        {str(name): rows for name, rows in table.groupby("model", sort=False)},
        folds,
        metrics=metrics,
        empty=empty,
    )


def _say_absent(table: pd.DataFrame, results: Sequence[ModelResults], empty: Empty) -> list[str]:
    """Which classes are not in every reference; and whose results do not say it."""
    named = [(model.name, table[table["model"] == model.name]) for model in results]
    notes = false_positive_sentences(named, empty)
    extreme = table["value"][table["metric"] == "dice"].isin([0, 1]).any()
    if empty == "exclude" and extreme and "volume_reference" not in set(table["metric"]):
        notes.append(
            "which references lack a class is not known (no volumes): all cases count, and a Dice"
            " of 1 may be that of two empty masks."
        )
    return notes


def _notes(
    table: pd.DataFrame,
    results: Sequence[ModelResults],
    metrics: Sequence[str] | None,
    *,
    patients_given: bool,
) -> list[str]:
    notes = _other_references(table)
    known = known_patients(table)
    if not known and not patients_given:
        notes.append(
            "no patients are named: each case counts as a patient of its own; if patients have"
            " several, --patients."
        )
    elif (without := sorted(set(table["case"]) - set(known))) and not patients_given:
        notes.append(
            f"no patient is named for {len(without)} of the cases ({without[0]}): each counts as"
            " its own patient."
        )
    if unknown := [model.name for model in results if not model.measured]:
        notes.append(
            f"how {', '.join(unknown)} was measured is not known (no results.json): it is taken to"
            " be as the others were."
        )
    if metrics is None:
        measured = [{*model.table["metric"]} for model in results]
        partly = [
            metric.name
            for metric in comparable_metrics(table["metric"])
            if not all(metric.name in names for names in measured)
        ]
        if partly:
            notes.append(f"not measured for all models: {', '.join(partly)}.")
    return notes


def _other_references(table: pd.DataFrame) -> list[str]:
    """A note if the models were measured against different references, as their volumes tell."""
    volumes = table[table["metric"] == "volume_reference"]
    by_object = volumes.groupby(["case", "modality", "class"], sort=False)["value"]
    apart = by_object.max() - by_object.min() > SAME_VOLUME * by_object.max()
    cases = list(dict.fromkeys(key[0] for key in apart[apart].index))
    if not cases:
        return []
    return [
        f"the references are not the same for all models: their volumes differ in {len(cases)} of"
        f" the cases ({cases[0]}), so differences are not of the predictions alone."
    ]
