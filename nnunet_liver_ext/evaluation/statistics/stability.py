"""How much of a ranking, or of a difference, is chance: other patients, and other trainings.

Ranking stability: bootstrap over patients, as Wiesenfarth et al. 2021, "Methods and open-source
toolkit for analyzing and visualizing challenge results", do over cases. Run to run: repeated
cross-validation as in Couteaux et al. 2021, "Comparing deep learning strategies", section 4: "On
average, the Dice scores of the different runs on each fold differ by 0.005".
"""

# R resamples, M models, P pairs of models

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.absent_objects import rank_misses_last
from nnunet_liver_ext.evaluation.metric_entry import Metric
from nnunet_liver_ext.evaluation.options import Empty
from nnunet_liver_ext.evaluation.statistics.bootstrap import FEWEST_PATIENTS, bootstrap_means
from nnunet_liver_ext.evaluation.statistics.comparable_metrics import (
    comparable_metrics,
    compared_values,
)
from nnunet_liver_ext.evaluation.statistics.models_table import (
    fill_in_patients,
    split_by_metric_and_object,
)
from nnunet_liver_ext.evaluation.statistics.ranks import DIGITS

ALL_FOLDS = "all"


def ranking_stability(
    table: pd.DataFrame,
    metric: str,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    empty: Empty = "exclude",
) -> pd.DataFrame:
    """How a ranking of models by the mean of one metric changes when other patients are drawn.

    Args:
        table: as `statistics.compare_paired`.
        metric: what the models are ranked by.
        resamples: bootstrap samples; patients are drawn with all of their cases.
        seed: of the draws.
        empty: as `statistics.compare_paired`.

    Returns:
        A row for each modality, class and model, best first: cases and patients, finite for all
            models; left_out, the other
        cases; infinite, those in which the model has no mask; mean; rank, 1 is best: fewer cases
        without a mask come first, then the mean; tied models share the mean of their ranks;
        mean_rank over the
        resamples; first, the share of resamples in which the model ranks first, divided among those
        that tie there; kendall_tau, the mean of Kendall's τ_b between the ranking of a resample and
        the full one, the same for all models of an object, nan if all models tie. These three are
        nan for fewer than `statistics.bootstrap.FEWEST_PATIENTS` patients.

    Raises:
        InputError: as `statistics.compare_paired`.
    """
    rows = fill_in_patients(table)
    models = list(dict.fromkeys(rows["model"]))
    if len(models) < 2:
        raise InputError(
            f"a ranking needs two or more models, found {', '.join(models) or 'none'}."
        )
    ranked_by = comparable_metrics(rows["metric"], [metric])
    rankings = [
        pd.DataFrame({**names, **_ranking(of_object, models, entry, resamples, seed)}).sort_values(
            "rank", kind="stable"
        )
        for entry, names, of_object in split_by_metric_and_object(
            rank_misses_last(compared_values(rows, ranked_by, empty=empty), rows), ranked_by
        )
    ]
    return pd.concat(rankings, ignore_index=True)


def run_to_run(
    tables: Mapping[str, pd.DataFrame],
    folds: Mapping[str, int] | None = None,
    *,
    metrics: Sequence[str] | None = None,
    empty: Empty = "exclude",
) -> pd.DataFrame:
    """How much results differ when a training is repeated with another seed on the same folds.

    Args:
        tables: tidy results of each run by its name, two or more.
        folds: fold of each case, see `results_folders.read_folds`; None takes all cases as one
            fold.
        metrics: names; None takes all with a better direction.
        empty: as `statistics.compare_paired`.

    Returns:
        A row for each modality, class, metric and fold: runs; cases, finite in all runs; left_out,
            the other cases; mean
        over cases and runs; difference, the mean over all pairs of runs of |mean of one − mean of
        the other| on this fold (what the paper reports); largest of these; case_difference, the
        mean of |difference| of single cases over cases and pairs of runs. The fold "all" has their
        means over the folds, each fold counting once; there cases are summed, and largest is the
        largest of all.

    Raises:
        InputError: fewer than two runs, a case without a fold, or as `statistics.compare_paired`.
    """
    if len(tables) < 2:
        raise InputError(f"run-to-run differences need two or more runs, found {len(tables)}.")
    rows = fill_in_patients(
        pd.concat([table.assign(model=name) for name, table in tables.items()], ignore_index=True)
    )
    without = sorted(set(rows["case"]) - set(folds)) if folds is not None else []
    if without:
        raise InputError(
            f"case {without[0]}: is in the validation set of no fold ({len(without)} such cases)."
        )
    to_compare = comparable_metrics(rows["metric"], metrics)
    differences = []
    for _, names, of_object in split_by_metric_and_object(
        compared_values(rows, to_compare, empty=empty), to_compare
    ):
        of_each_fold = _differences(_wide(of_object, list(tables)), folds)
        differences += [
            {**names, "runs": len(tables), **row}
            for row in (*of_each_fold, _over_folds(of_each_fold))
        ]
    return pd.DataFrame(differences)


def _wide(rows: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    """A row for each case and patient, a column for each model; nan where a model lacks a case."""
    return (
        rows.pivot(index=["case", "patient"], columns="model", values="value")
        .reindex(columns=models)
        .sort_index()
    )


def _ranking(
    rows: pd.DataFrame, models: list[str], metric: Metric, resamples: int, seed: int
) -> dict[str, object]:
    wide = _wide(rows, models)
    known = wide.dropna()
    values_NM, patients_N = (
        known.to_numpy(float),
        known.index.get_level_values("patient").to_numpy(),
    )
    misses_NM = np.isinf(values_NM)
    finite_N = ~misses_NM.any(axis=1)
    sign = -1 if metric.higher_is_better else 1
    ranking = {
        "model": models,
        "cases": int(finite_N.sum()),
        "patients": len(set(patients_N[finite_N])),
        "left_out": len(wide) - int(finite_N.sum()),
        "infinite": misses_NM.sum(axis=0),
    }
    ranking |= dict.fromkeys(("mean", "rank", "mean_rank", "first", "kendall_tau"), np.nan)
    if not len(known):
        return ranking
    shares_NX = np.hstack(
        [np.where(finite_N[:, None], values_NM, 0), finite_N[:, None], misses_NM]
    ).astype(float)
    means_M, ranks_M = (
        values_M[0] for values_M in _means_and_ranks(shares_NX.mean(axis=0)[None], sign)
    )
    ranking |= {"mean": means_M, "rank": ranks_M}
    if len(set(patients_N)) >= FEWEST_PATIENTS:
        drawn_RX = bootstrap_means(shares_NX, patients_N, resamples=resamples, seed=seed)
        ranking |= _stability(_means_and_ranks(drawn_RX, sign)[1], ranks_M)
    return ranking


def _means_and_ranks(shares_RX: np.ndarray, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over the cases that are finite for all models, and ranks of (fewest misses, mean).

    Args:
        shares_RX: means over all cases of M values (0 where one is infinite), of whether all are
            finite, and of M misses.
        sign: 1 if a lower mean is better, else -1.

    Returns:
        (R, M) each; a mean over no case is nan, and ranks as if all means were the same.
    """
    from scipy.stats import rankdata

    models = shares_RX.shape[1] // 2
    values_RM, finite_R1, misses_RM = np.split(shares_RX, [models, models + 1], axis=1)
    means_RM = np.divide(
        values_RM, finite_R1, out=np.full(values_RM.shape, np.nan), where=finite_R1 > 0
    )
    by_mean_RM = rankdata(sign * np.round(np.nan_to_num(means_RM), DIGITS), axis=1)
    by_misses_RM = rankdata(np.round(misses_RM, DIGITS), axis=1)
    return means_RM, rankdata(by_misses_RM * (models + 1) + by_mean_RM, axis=1)


def _stability(ranks_RM: np.ndarray, ranks_M: np.ndarray) -> dict[str, object]:
    best_RM = ranks_RM == ranks_RM.min(axis=1, keepdims=True)
    return {
        "mean_rank": ranks_RM.mean(axis=0),
        "first": (best_RM / best_RM.sum(axis=1, keepdims=True)).mean(axis=0),
        "kendall_tau": mean_kendall_tau(ranks_RM, ranks_M),
    }


def mean_kendall_tau(ranks_RM: np.ndarray, ranks_M: np.ndarray) -> float:
    """Mean of Kendall's τ_b between each row and one ranking.

    τ_b = Σ s_p t_p / √(Σ s_p² Σ t_p²) over every two models p, s and t the signs of their
    difference in rank. Rows in which all tie are left out; nan if none is left.
    """
    first, second = np.array(list(itertools.combinations(range(len(ranks_M)), 2))).T
    signs_RP = np.sign(ranks_RM[:, first] - ranks_RM[:, second])
    signs_P = np.sign(ranks_M[first] - ranks_M[second])
    scale_R = np.sqrt((signs_RP**2).sum(axis=1) * (signs_P**2).sum())
    ordered = scale_R > 0
    return (
        float(((signs_RP @ signs_P)[ordered] / scale_R[ordered]).mean())
        if ordered.any()
        else np.nan
    )


def _differences(
    wide: pd.DataFrame, folds: Mapping[str, int] | None
) -> list[dict[str, float | int | str]]:
    cases = wide.index.get_level_values("case")
    fold_of_case = (
        np.array([folds[case] for case in cases])
        if folds is not None
        else np.zeros(len(cases), int)
    )
    return [
        {"fold": str(fold), **_differences_on(wide[fold_of_case == fold])}
        for fold in np.unique(fold_of_case)
    ]


def _differences_on(wide: pd.DataFrame) -> dict[str, float | int]:
    finite = wide[np.isfinite(wide).all(axis=1)].to_numpy(float)
    first, second = np.array(list(itertools.combinations(range(wide.shape[1]), 2))).T
    shared = {"cases": len(finite), "left_out": len(wide) - len(finite)}
    if not len(finite):
        return {
            **shared,
            "mean": np.nan,
            "difference": np.nan,
            "largest": np.nan,
            "case_difference": np.nan,
        }
    of_runs = np.abs(finite.mean(axis=0)[first] - finite.mean(axis=0)[second])
    return {
        **shared,
        "mean": float(finite.mean()),
        "difference": float(of_runs.mean()),
        "largest": float(of_runs.max()),
        "case_difference": float(np.abs(finite[:, first] - finite[:, second]).mean()),
    }


def _over_folds(rows: Sequence[dict[str, float | int | str]]) -> dict[str, float | int | str]:
    of_folds = pd.DataFrame(rows)
    means = {
        name: float(of_folds[name].mean()) for name in ("mean", "difference", "case_difference")
    }
    counts = {name: int(of_folds[name].sum()) for name in ("cases", "left_out")}
    return {"fold": ALL_FOLDS, **counts, **means, "largest": float(of_folds["largest"].max())}
