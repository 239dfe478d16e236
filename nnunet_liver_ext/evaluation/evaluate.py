"""Evaluates a folder of predictions: matches files, measures cases, writes tables and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_liver_ext.atomic_write import refuse_existing
from nnunet_liver_ext.errors import CaseFailure, InputError, SomeCasesFailed
from nnunet_liver_ext.evaluation.evaluation_notes import (
    lesion_class_notes,
    lone_image_notes,
    missing_image_notes,
)
from nnunet_liver_ext.evaluation.files.case_files import CaseFiles, MatchedCases, match_references
from nnunet_liver_ext.evaluation.files.described_labels import Classes
from nnunet_liver_ext.evaluation.measuring.cache import CaseCache
from nnunet_liver_ext.evaluation.measuring.many_cases import Outcome, measure_all
from nnunet_liver_ext.evaluation.measuring.one_case import (
    NO_LABEL_IN_BOTH,
    CaseResult,
    add_missing_classes,
    evaluate_case,
)
from nnunet_liver_ext.evaluation.measuring.one_pair import (
    add_missing_classes as add_missing_classes_of_pairs,
)
from nnunet_liver_ext.evaluation.measuring.one_pair import evaluate_pair, find_pairs
from nnunet_liver_ext.evaluation.measuring.stray_labels import refuse_stray_labels
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.report import write_report
from nnunet_liver_ext.evaluation.results.pair_summary import summarise_pairs
from nnunet_liver_ext.evaluation.results.results_table import details_tables, results_table
from nnunet_liver_ext.evaluation.results.write_results import (
    FORMATS,
    Evaluation,
    remove_earlier_results,
    write_results,
)
from nnunet_liver_ext.folder_lock import locks_folder


def evaluate(
    predictions: Path | str,
    references: Path | str | Mapping[str, Path],
    out: Path | str,
    options: Options = Options(),
    *,
    images: Path | str | None = None,
    fat: Path | str | None = None,
    processes: int | None = None,
    overwrite: bool = False,
    fresh: bool = False,
    reference_classes: Classes | None = None,
    formats: Sequence[str] = ("csv", "json", "html"),
) -> pd.DataFrame:
    """Measures a folder of predictions, writes results.csv, results.json and report.html.

    This is `nnunet_liver evaluate`. What an interrupted run has measured is not measured again.

    Args:
        predictions: folder of native masks (CASE_T1, CASE_T2), joint label maps or plain label
            maps.
        references: folder of label maps of the same names, or studies with masks (CSV or folder);
            several by rater.
        out: folder for the results, made if it does not exist.
        options: what is measured and how, `evaluation.options.Options`.
        images: for pictures and for where the body is: studies, nnU-Net's imagesTs, or a folder of
            CASE_T1 or CASE; studies bring their own.
        fat: images of the fat fraction in percent, found in the same ways.
        processes: how many cases are measured at a time; by default as many as there are processors
            and work for. More than one needs a script's `if __name__ == "__main__":`.
        overwrite: replace results that are there.
        fresh: measure again what has been measured.
        reference_classes: labels of each class in the references, {"liver": (1,)}, if they are
            others than in the predictions.
        formats: which files are written, of `FORMATS`; results.csv always is.

    Returns:
        The table of results.csv: case, patient, modality, class, metric, value, unit.

    Raises:
        InputError: the input cannot be used at all, nothing is written; or `out` holds results and
            `overwrite` is False.
        SomeCasesFailed: after everything else is written: references without prediction, on other
            grids, unreadable.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import SimpleITK as sitk
        >>> import nnunet_liver_ext as nle
        >>> folder = Path(tempfile.mkdtemp())
        >>> reference = np.pad(np.ones((3, 3, 3), np.uint8), 2)
        >>> prediction = np.pad(np.ones((5, 5, 5), np.uint8), 1)  # one voxel larger on every side
        >>> for name, mask in (("references", reference), ("predictions", prediction)):
        ...     (folder / name).mkdir()
        ...     sitk.WriteImage(sitk.GetImageFromArray(mask), folder / name / "anna.nii.gz")
        >>> table = nle.evaluate(folder / "predictions", folder / "references", folder / "results")
        >>> values = table.set_index("metric").value
        >>> round(float(values["dice"]), 3), round(float(values["hd"]), 3)
        (0.355, 1.732)
        >>> (folder / "results" / "report.html").is_file()
        True
    """
    evaluation = run_evaluation(
        Path(predictions),
        Path(references) if isinstance(references, str) else references,
        Path(out),
        options,
        images=None if images is None else Path(images),
        fat=None if fat is None else Path(fat),
        processes=processes,
        overwrite=overwrite,
        fresh=fresh,
        reference_classes=reference_classes,
        formats=formats,
    )
    evaluation.raise_for_failures()
    return evaluation.table


@locks_folder("out")
def run_evaluation(
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
    """What `evaluate` does, with all that was found: the cases, the failures, the notes.

    Args:
        more: further entries of results.json; all other arguments are those of `evaluate`.

    Raises:
        InputError: the input cannot be used at all, nothing is written; or `out` holds results and
            `overwrite` is False.
        SomeCasesFailed: no case could be evaluated; single failures are returned.
    """
    _check_request(out, overwrite, processes, formats)
    matched = match_references(predictions, references, reference_classes, images=images, fat=fat)
    _check_lesion_classes(options, matched.classes)
    of_values = {name: value for name, value in options.to_json().items() if name != "empty"}
    settings = {"options": of_values, "classes": matched.classes, "metrics": list(METRICS)}
    cache = CaseCache(out, settings, fresh=fresh)
    measure_case = partial(evaluate_case, classes=matched.classes, options=options)
    outcomes = measure_all(measure_case, matched.cases, cache, processes, "Evaluating")
    results, failures = _split_outcomes(outcomes)
    if matched.classes is None:
        results, stray = refuse_stray_labels(results)
        failures += stray
    failures = sorted(matched.missing + failures, key=lambda failure: failure.case)
    total = len(matched.cases) + len(matched.missing)
    if not results:
        raise SomeCasesFailed(failures, total)
    _check_labels_in_common(results, matched.classes, predictions)
    measured = {result.key for result in results}
    measured_cases = [case for case in matched.cases if case.key in measured]
    of_pairs = _measure_pairs(measured_cases, matched, options, cache, processes)
    pair_results, pair_failures = _split_outcomes(of_pairs)
    results = add_missing_classes(results, options, raters=matched.raters, fat=fat is not None)
    table = results_table([*results, *add_missing_classes_of_pairs(pair_results)])
    notes = [
        *matched.notes,
        *(missing_image_notes(matched.cases, "image") if images else []),
        *(missing_image_notes(matched.cases, "fat") if fat else []),
        *(CaseFailure(str(result.key), note) for result in results for note in result.notes),
        *lesion_class_notes(results, options),
        *(lone_image_notes(matched.cases, matched.modalities) if of_pairs else []),
        *pair_failures,
    ]
    evaluation = Evaluation(
        table=table,
        details=details_tables(results),
        pairs=summarise_pairs(table),
        cases=matched.cases,
        classes=matched.classes,
        options=options,
        raters=matched.raters,
        failures=failures,
        notes=notes,
        total=total,
        processes=processes,
        formats=tuple(formats),
    )
    _write(evaluation, out, more)
    return evaluation


def _check_request(
    out: Path, overwrite: bool, processes: int | None, formats: Sequence[str]
) -> None:
    refuse_existing(out, [FORMATS["csv"]], overwrite=overwrite)
    if processes is not None and processes < 1:
        raise InputError(f"the number of processes must be 1 or more, not {processes}.")
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise InputError(f"there is no format {unknown[0]}; there are {', '.join(FORMATS)}.")


def _check_lesion_classes(options: Options, classes: Classes | None) -> None:
    if classes is not None and (unknown := sorted(set(options.lesions) - set(classes))):
        raise InputError(
            f"there is no class {unknown[0]} to measure lesion by lesion; there are"
            f" {', '.join(classes)}."
        )


def _check_labels_in_common(
    results: Sequence[CaseResult], classes: Classes | None, predictions: Path
) -> None:
    if classes is None and all(NO_LABEL_IN_BOTH in result.notes for result in results):
        raise InputError(
            f"{predictions.name}: {NO_LABEL_IN_BOTH[:-1]} in any case; name the references' with"
            " --label."
        )


def _split_outcomes(
    outcomes: Sequence[Outcome],
) -> tuple[list[CaseResult], list[CaseFailure]]:
    return (
        [outcome for outcome in outcomes if isinstance(outcome, CaseResult)],
        [outcome for outcome in outcomes if isinstance(outcome, CaseFailure)],
    )


def _measure_pairs(
    cases: Sequence[CaseFiles],
    matched: MatchedCases,
    options: Options,
    cache: CaseCache,
    processes: int | None,
) -> list[Outcome]:
    """What both masks of each pair have in common; of pairs whose masks could be measured."""
    if options.similarity is None or not options.wants("pairs"):
        return []
    pairs = find_pairs(cases, matched.modalities)
    if not pairs:
        return []
    measure_pair = partial(
        evaluate_pair,
        classes=matched.classes,
        transforms=options.similarity,
        resample=options.resample,
    )
    return measure_all(measure_pair, pairs, cache, processes, "Comparing the masks of pairs")


def _write(evaluation: Evaluation, out: Path, more: Mapping[str, Any] | None) -> None:
    """Writes the report and all files; results.csv is the last, so where it is, the others are."""
    remove_earlier_results(evaluation, out)
    if "html" in evaluation.formats:
        write_report(
            evaluation.table,
            out / FORMATS["html"],
            cases=evaluation.cases,
            classes=evaluation.classes,
            options=evaluation.options,
            pairs=evaluation.pairs,
            failures=evaluation.failures,
            notes=evaluation.notes,
            details=evaluation.details,
            processes=evaluation.processes,
        )
    write_results(evaluation, out, more=more)
