"""Evaluates a folder of predictions: pairs up the files, measures them in parallel, writes tables
and report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_liver_ext.errors import CaseFailure, InputError, SomeCasesFailed
from nnunet_liver_ext.evaluation.files.case_files import CaseFiles, MatchedCases, match_references
from nnunet_liver_ext.evaluation.files.described_labels import Classes
from nnunet_liver_ext.evaluation.files.label_maps import ImageKey
from nnunet_liver_ext.evaluation.files.source_images import find_images
from nnunet_liver_ext.evaluation.measuring.cache import CaseCache
from nnunet_liver_ext.evaluation.measuring.many_cases import Outcome, measure_all
from nnunet_liver_ext.evaluation.measuring.one_case import (
    NO_LABEL_IN_BOTH,
    CaseResult,
    evaluate_case,
    with_every_class,
)
from nnunet_liver_ext.evaluation.measuring.one_pair import (
    evaluate_pair,
    find_pairs,
)
from nnunet_liver_ext.evaluation.measuring.one_pair import (
    with_every_class as pairs_with_every_class,
)
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.pair_summary import summarise_pairs
from nnunet_liver_ext.evaluation.results.results_table import details_tables, results_table
from nnunet_liver_ext.evaluation.results.write_results import FORMATS, Evaluation, write_results


def evaluate_folders(
    predictions: Path,
    references: Path | Mapping[str, Path],
    out: Path,
    options: Options = Options(),
    **more: Any,
) -> pd.DataFrame:
    """As `run`.

    Returns:
        The table of results.csv: case, patient, modality, class, metric, value, unit.

    Raises:
        InputError: as `run`.
        SomeCasesFailed: after everything else is written: references without prediction, on other
            grids, unreadable.
    """
    evaluation = run(predictions, references, out, options, **more)
    evaluation.raise_for_failures()
    return evaluation.table


def run(
    predictions: Path,
    references: Path | Mapping[str, Path],
    out: Path,
    options: Options = Options(),
    *,
    images: Path | None = None,
    fat: Path | None = None,
    processes: int | None = None,
    overwrite: bool = False,
    fresh: bool = False,
    reference_classes: Classes | None = None,
    formats: Sequence[str] = ("csv", "json", "html"),
    more: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Measures predictions and writes results.csv, results.json and report.html into `out`.

    What an interrupted run has measured is not measured again, see `cache`.

    Args:
        predictions: folder of native masks (CASE_T1, CASE_T2), joint label maps or plain label
            maps.
        references: folder of label maps of the same names, or studies with masks (CSV or folder);
            several by rater.
        out: folder, made if it does not exist.
        options: what is measured and how.
        images: for pictures and for where the body is: studies, nnU-Net's imagesTs, or a folder of
            CASE_T1 or CASE; studies bring their own.
        fat: images of the fat fraction in percent, found in the same ways.
        processes: how many cases are measured at a time; by default as many as there are processors
            and work for.
        overwrite: replace results that are there.
        fresh: measure again what has been measured.
        reference_classes: labels of each class in the references, if they are others than in the
            predictions.
        formats: which files are written, of `FORMATS`; results.csv always is.
        more: further entries of results.json.

    Raises:
        InputError: the input cannot be used at all, nothing is written; or `out` holds results and
            `overwrite` is False.
        SomeCasesFailed: no case could be evaluated; single failures are returned.
    """
    predictions, out = Path(predictions), Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; the results need a folder.")
    if (out / "results.csv").exists() and not overwrite:
        raise InputError(
            f"{out / 'results.csv'} exists: choose another folder, or replace it with --overwrite."
        )
    if processes is not None and processes < 1:
        raise InputError(f"the number of processes must be 1 or more, not {processes}.")
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise InputError(f"there is no format {unknown[0]}; there are {', '.join(FORMATS)}.")
    found = match_references(predictions, references, reference_classes)
    if found.classes is not None and (unknown := sorted(set(options.lesions) - set(found.classes))):
        raise InputError(
            f"there is no class {unknown[0]} to measure lesion by lesion; there are"
            f" {', '.join(found.classes)}."
        )
    pictures = find_images(Path(images), found.modalities) if images else {}
    fat_images = find_images(Path(fat), found.modalities) if fat else {}
    cases = [_with_images(case, pictures, fat_images) for case in found.cases]
    cache = CaseCache(
        out,
        {"options": options.to_json(), "classes": found.classes, "metrics": list(METRICS)},
        fresh=fresh,
    )
    measure_case = partial(evaluate_case, classes=found.classes, options=options)
    outcomes = measure_all(measure_case, cases, cache, processes, "Evaluating")
    failed = [outcome for outcome in outcomes if isinstance(outcome, CaseFailure)]
    failures = sorted(found.missing + failed, key=lambda failure: failure.case)
    results = [outcome for outcome in outcomes if isinstance(outcome, CaseResult)]
    total = len(cases) + len(found.missing)
    if not results:
        raise SomeCasesFailed(failures, total)
    measured = {result.key for result in results}
    of_pairs = _pairs(
        [one for one in cases if one.key in measured], found, options, cache, processes
    )
    pair_results = [outcome for outcome in of_pairs if isinstance(outcome, CaseResult)]
    if found.classes is None and all(NO_LABEL_IN_BOTH in result.notes for result in results):
        raise InputError(
            f"{predictions.name}: {NO_LABEL_IN_BOTH[:-1]} in any case; name the references' with"
            " --label."
        )
    results = with_every_class(results, options, raters=found.raters, fat=fat is not None)
    table = results_table([*results, *pairs_with_every_class(pair_results)])
    notes = (
        found.notes
        + (_without(cases, "image") if images else [])
        + (_without(cases, "fat") if fat else [])
    )
    notes += [CaseFailure(str(result.key), note) for result in results for note in result.notes]
    notes += _without_lesions(results, options)
    notes += _lone([one.key for one in cases], found.modalities) if of_pairs else []
    notes += [outcome for outcome in of_pairs if isinstance(outcome, CaseFailure)]
    evaluation = Evaluation(
        table,
        details_tables(results),
        summarise_pairs(table),
        cases,
        found.classes,
        options,
        found.raters,
        failures,
        notes,
        total,
        processes,
        tuple(formats),
    )
    write_results(evaluation, out, more=more)
    return evaluation


def _pairs(
    cases: Sequence[CaseFiles],
    found: MatchedCases,
    options: Options,
    cache: CaseCache,
    processes: int | None,
) -> list[Outcome]:
    """What both masks of each pair have in common; of pairs whose masks could be measured."""
    if options.similarity is None or not options.wants("pairs"):
        return []
    pairs = find_pairs(cases, found.modalities)
    work = partial(
        evaluate_pair,
        classes=found.classes,
        transforms=options.similarity,
        resample=options.resample,
    )
    return (
        measure_all(work, pairs, cache, processes, "Comparing the masks of pairs") if pairs else []
    )


def _without_lesions(results: Sequence[CaseResult], options: Options) -> list[CaseFailure]:
    """Notes on classes of lesions that no case has, where the classes have no names that could be
    checked before."""
    found = {name for result in results for name in result.values}
    return [
        CaseFailure(name, "no case has this class, so there are no lesions.")
        for name in options.lesions
        if name not in found
    ]


def _lone(keys: Sequence[ImageKey], modalities: Sequence[str]) -> list[CaseFailure]:
    """Notes on images without a partner, where others have one."""
    images = Counter(key.case for key in keys if key.modality in modalities)
    alone = [key for key in keys if key.modality in modalities and images[key.case] == 1]
    return [
        CaseFailure(str(key), "the other image of the pair is missing: no relative similarity.")
        for key in alone
    ]


def _with_images(
    case: CaseFiles, images: Mapping[ImageKey, Path], fat: Mapping[ImageKey, Path]
) -> CaseFiles:
    key = case.key
    return replace(case, image=images.get(key, case.image), fat=fat.get(key))


def _without(cases: Sequence[CaseFiles], what: str) -> list[CaseFailure]:
    reason = {
        "image": "no image was found; its picture in the report is grey.",
        "fat": "no image of the fat fraction was found.",
    }[what]
    return [CaseFailure(str(one.key), reason) for one in cases if getattr(one, what) is None]
