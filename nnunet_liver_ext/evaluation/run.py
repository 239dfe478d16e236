"""Evaluates a folder of predictions: pairs up the files, measures them in parallel, writes tables and report."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from rich.progress import Progress

from nnunet_liver_ext.console import progress_bar
from nnunet_liver_ext.errors import CaseFailure, InputError, SomeCasesFailed
from nnunet_liver_ext.evaluation.cases import (
    CaseResult,
    Comparison,
    PairedUp,
    evaluate_case,
    pair_up,
    with_every_class,
)
from nnunet_liver_ext.evaluation.label_maps import Classes, Key
from nnunet_liver_ext.evaluation.measures import DEFAULT_TOLERANCE_MM
from nnunet_liver_ext.evaluation.pairs import evaluate_pair, pairs_among, summarise_pairs
from nnunet_liver_ext.evaluation.source_images import find_images
from nnunet_liver_ext.evaluation.tables import results_table, write_csv, write_json
from nnunet_liver_ext.transforms import TRANSFORMS, Transforms

Work = TypeVar("Work")
Outcome = CaseResult | CaseFailure
CASES_PER_PROCESS = 4  # starting a process takes as long as a few cases


@dataclass(frozen=True)
class Evaluation:
    """What came out: the tidy table, which references could not be evaluated, and what else the user should know."""

    table: pd.DataFrame
    failures: list[CaseFailure]
    notes: list[CaseFailure]
    total: int
    pairs: list[dict[str, Any]]
    """How similar the masks of a pair are, as `pairs.summarise_pairs`; empty if that was not asked for."""

    def raise_for_failures(self) -> None:
        if self.failures:
            raise SomeCasesFailed(self.failures, self.total)


def evaluate_folders(
    predictions: Path,
    references: Path,
    out: Path,
    *,
    images: Path | None = None,
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
    processes: int | None = None,
    overwrite: bool = False,
    reference_classes: Classes | None = None,
    similarity: Transforms | None = None,
) -> pd.DataFrame:
    """Measures predictions and writes results.csv, results.json and report.html into `out`.

    Args:
        predictions: folder of native masks (CASE_T1, CASE_T2), joint label maps or plain label maps.
        references: folder of label maps of the same names, or studies with masks (CSV or folder).
        out: folder, made if it does not exist.
        images: for the pictures: studies, nnU-Net's imagesTs, or a folder of CASE_T1 or CASE; studies bring their own.
        tolerance_mm: of the surface Dice.
        processes: how many cases are measured at a time; by default as many as there are processors and work for.
        overwrite: replace results that are there.
        reference_classes: labels of each class in the references, if they are others than in the predictions.
        similarity: measure how similar both masks of a pair are up to transforms of this class, see `pairs`.

    Returns:
        The table of results.csv: case, modality, class, metric, value, unit.

    Raises:
        InputError: the input cannot be used at all, nothing is written; or `out` holds results and `overwrite` is False.
        SomeCasesFailed: after everything else is written: references without prediction, on other grids, unreadable.
    """
    evaluation = run(
        predictions,
        references,
        out,
        images=images,
        tolerance_mm=tolerance_mm,
        processes=processes,
        overwrite=overwrite,
        reference_classes=reference_classes,
        similarity=similarity,
    )
    evaluation.raise_for_failures()
    return evaluation.table


def run(
    predictions: Path,
    references: Path,
    out: Path,
    *,
    images: Path | None = None,
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
    processes: int | None = None,
    overwrite: bool = False,
    reference_classes: Classes | None = None,
    similarity: Transforms | None = None,
) -> Evaluation:
    """As `evaluate_folders`, but failures are returned; SomeCasesFailed is raised only if no case could be evaluated."""
    from nnunet_liver_ext.evaluation.report import write_report

    predictions, references, out = Path(predictions), Path(references), Path(out)
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise InputError(f"the tolerance must be a number of mm, 0 or more, not {tolerance_mm}.")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; the results need a folder.")
    if (out / "results.csv").exists() and not overwrite:
        raise InputError(f"{out / 'results.csv'} exists: choose another folder, or replace it with --overwrite.")
    if similarity is not None and similarity not in TRANSFORMS:
        raise InputError(f"similarity must be one of {', '.join(TRANSFORMS)}, not {similarity!r}.")
    found = pair_up(predictions, references, reference_classes)
    pictures = find_images(Path(images), found.modalities) if images else {}
    measure_case = partial(evaluate_case, classes=found.classes, tolerance_mm=tolerance_mm)
    outcomes = _measure_all(measure_case, found.comparisons, _processes(processes, len(found.comparisons)), "Evaluating")
    failed = [outcome for outcome in outcomes if isinstance(outcome, CaseFailure)]
    failures = sorted(found.missing + failed, key=lambda failure: failure.case)
    results = [outcome for outcome in outcomes if isinstance(outcome, CaseResult)]
    total = len(found.comparisons) + len(found.missing)
    if not results:
        raise SomeCasesFailed(failures, total)
    of_pairs = _pairs(found, {result.key for result in results}, similarity, processes)
    measured = [outcome for outcome in of_pairs if isinstance(outcome, CaseResult)]
    table = results_table([*with_every_class(results, tolerance_mm=tolerance_mm), *measured])
    notes = found.extra + _without_image(found, pictures if images else None)
    notes += [outcome for outcome in of_pairs if isinstance(outcome, CaseFailure)]
    pairs = summarise_pairs(table)
    write_json(
        table,
        out / "results.json",
        tolerance_mm=tolerance_mm,
        similarity=similarity,
        pairs=pairs,
        failures=failures,
        notes=notes,
    )
    write_report(
        table,
        out / "report.html",
        comparisons=[_with_image(comparison, pictures) for comparison in found.comparisons],
        classes=found.classes,
        tolerance_mm=tolerance_mm,
        similarity=similarity,
        pairs=pairs,
        failures=failures,
        notes=notes,
    )
    write_csv(table, out / "results.csv")  # last: where it is, the others are
    return Evaluation(table, failures, notes, total, pairs)


def _pairs(found: PairedUp, measured: set[Key], similarity: Transforms | None, processes: int | None) -> list[Outcome]:
    """What both masks of each pair have in common; of pairs whose masks could be measured."""
    if similarity is None:
        return []
    pairs = pairs_among((own for own in found.comparisons if own.key in measured), found.modalities)
    if not pairs:
        return []
    work = partial(evaluate_pair, classes=found.classes, transforms=similarity)
    return _measure_all(work, pairs, _processes(processes, len(pairs)), "Comparing the masks of pairs")


def _processes(wanted: int | None, cases: int) -> int:
    if wanted is not None and wanted < 1:
        raise InputError(f"the number of processes must be 1 or more, not {wanted}.")
    if wanted is not None:
        return min(wanted, cases)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(processors, cases // CASES_PER_PROCESS))


def _measure_all(work: Callable[[Work], Outcome], cases: Sequence[Work], processes: int, description: str) -> list[Outcome]:
    with progress_bar() as progress:
        task = progress.add_task(description, total=len(cases))
        if processes == 1:
            return [_counted(work(case), progress, task) for case in cases]
        # "spawn": ITK's threads do not survive a fork.
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
            return _in_pool(pool, work, cases, progress, task)


def _in_pool(
    pool: Executor, work: Callable[[Work], Outcome], cases: Sequence[Work], progress: Progress, task: object
) -> list[Outcome]:
    try:
        return [_counted(outcome, progress, task) for outcome in pool.map(work, cases)]
    except BrokenProcessPool:
        raise InputError("a process was ended from outside, perhaps for lack of memory: use fewer --processes.") from None


def _counted(outcome: Outcome, progress: Progress, task: object) -> Outcome:
    progress.advance(task)  # type: ignore[arg-type]
    return outcome


def _one_thread() -> None:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _with_image(comparison: Comparison, images: dict[Key, Path]) -> Comparison:
    image = images.get(comparison.key, comparison.image)
    return Comparison(comparison.key, comparison.prediction, comparison.reference, image)


def _without_image(found: PairedUp, images: dict[Key, Path] | None) -> list[CaseFailure]:
    if images is None:
        return []
    return [
        CaseFailure(str(comparison.key), "no image was found; its picture in the report is grey.")
        for comparison in found.comparisons
        if _with_image(comparison, images).image is None
    ]
