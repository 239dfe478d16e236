"""Where keeping only the largest piece helps, class by class and image by image.

nnU-Net keeps such a rule if the mean Dice over the cases rises. Here it must also rise in at least
as many patients as it falls: a single case with a far-off piece is no reason to cut pieces off in
everyone.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from rich.table import Table
from rich.text import Text

from nnunet_liver_ext.errors import CaseFailure, InputError, SomeCasesFailed
from nnunet_liver_ext.evaluation.crossval.folds import CrossValidation, Repetition, find_crossval
from nnunet_liver_ext.evaluation.crossval.pooled_folds import References, pool_folds
from nnunet_liver_ext.evaluation.files.case_files import CaseFiles, match_references
from nnunet_liver_ext.evaluation.files.described_labels import Classes
from nnunet_liver_ext.evaluation.files.find_label_maps import NO_MODALITY
from nnunet_liver_ext.evaluation.measuring.cache import CaseCache
from nnunet_liver_ext.evaluation.measuring.case_labels import labels_on_one_grid
from nnunet_liver_ext.evaluation.measuring.many_cases import Outcome, measure_all
from nnunet_liver_ext.evaluation.measuring.one_case import CaseResult
from nnunet_liver_ext.evaluation.metrics import dice
from nnunet_liver_ext.evaluation.options import Empty
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.postprocessing.largest_piece import FILE_NAME, Rule, Rules
from nnunet_liver_ext.space.components import largest_component

ROUNDING = 1e-9
"""A Dice that rises by less has not risen."""


def find_rules(
    folder: Path,
    *,
    references: References | None = None,
    processes: int | None = None,
    empty: Empty = "exclude",
) -> Rules:
    """Tries "largest piece only" for each class of each image on the folds' predictions of a model.

    Args:
        folder: of a model with a complete cross-validation; of a repeated one all complete
            repetitions count.
        references: as `crossval.pooled_folds.pool_folds`.
        processes: cases at a time; by default as many as pay off.
        empty: whether the Dice that is stated leaves out cases whose reference lacks the class; in
            those the largest piece alone changes nothing.

    Raises:
        InputError: as `crossval.input.find_crossval`, or the classes are regions that overlap.
        SomeCasesFailed: a case could not be measured: a rule needs all of them.
    """
    crossval = find_crossval(folder)
    of_repetitions = [
        _measured(crossval, repetition, references, processes)
        for repetition in crossval.repetitions
    ]
    labels = {name: label for _, classes in of_repetitions for name, label in classes.items()}
    table = pd.concat([table for table, _ in of_repetitions], ignore_index=True)
    table["modality"] = table["modality"].replace(NO_MODALITY, _lone_modality(crossval))
    if empty == "exclude":
        table.loc[table["in_reference"] == 0, ["before", "after"]] = math.nan
    rules = [
        decide(rows, str(modality), str(name), labels[str(name)])
        for (modality, name), rows in table.groupby(["modality", "class"], sort=False)
    ]
    source = {
        "model": crossval.folder.name,
        "dataset": crossval.dataset,
        "folds": [fold for repetition in crossval.repetitions for fold in repetition.folds],
        "empty": empty,
        "checkpoint_chosen_on_these_cases": any(
            repetition.chosen_on_these_cases for repetition in crossval.repetitions
        ),
    }
    return Rules(tuple(rules), source)


def decide(rows: pd.DataFrame, modality: str, class_name: str, label: int) -> Rule:
    """The rule for one class of one image, kept or not.

    Args:
        rows: patient, before, after: the Dice of each case as it is and of its largest piece alone,
            nan for a case that does not count.
        modality: of the image.
        class_name: of the class.
        label: of the class.
    """
    rows = rows.dropna(subset=["before", "after"])
    gains = (rows["after"] - rows["before"]).groupby(rows["patient"]).mean()
    better, worse = int((gains > ROUNDING).sum()), int((gains < -ROUNDING).sum())
    if rows.empty:
        return Rule(modality, class_name, label, False, None, None, 0, 0, 0)
    before, after = float(rows["before"].mean()), float(rows["after"].mean())
    helps = after - before > ROUNDING and better >= worse
    return Rule(modality, class_name, label, helps, before, after, len(rows), better, worse)


def save_rules(rules: Rules, folder: Path, *, overwrite: bool = False) -> Path:
    """Writes the rules into the model's folder, where `nnunet_liver predict` finds them.

    Raises:
        InputError: there are rules already, and `overwrite` is False.
    """
    path = rules_file(folder, overwrite=overwrite)
    rules.save(path)
    return path


def rules_file(folder: Path, *, overwrite: bool = False) -> Path:
    """Where a model's rules are; InputError if they are there and are not to be replaced."""
    path = Path(folder) / FILE_NAME
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: replace it with --overwrite.")
    return path


def rules_table(rules: Rules) -> Table:
    """What was tried and what is kept, for a terminal."""
    over = "cases with the class" if rules.source.get("empty") == "exclude" else "all cases"
    shown = Table(title=f"Mean Dice as it is and of the largest piece alone, over {over}")
    for column in (
        "Object",
        "Cases",
        "All pieces",
        "Largest piece",
        "Patients better",
        "Patients worse",
        "Kept",
    ):
        shown.add_column(column, justify="left" if column == "Object" else "right")
    for rule in rules.rules:
        numbers = (
            *(
                "–" if dice is None else f"{dice:.4f}"
                for dice in (rule.dice_before, rule.dice_after)
            ),
            str(rule.patients_better),
            str(rule.patients_worse),
        )
        shown.add_row(
            Text(rule.name), str(rule.cases), *numbers, "yes" if rule.keep_largest else "no"
        )
    return shown


def _measured(
    crossval: CrossValidation,
    repetition: Repetition,
    references: References | None,
    processes: int | None,
) -> tuple[pd.DataFrame, dict[str, int]]:
    """patient, modality, class, before, after, in_reference (0 or 1); the label of each class."""
    with (
        pool_folds(crossval, repetition, references) as pool,
        tempfile.TemporaryDirectory() as folder,
    ):
        matched = match_references(pool.predictions, pool.references)
        classes = _checked(matched.classes, crossval)
        work = partial(_before_and_after, classes=classes)
        outcomes = measure_all(
            work,
            matched.cases,
            CaseCache(Path(folder), {}),
            processes,
            "Trying the largest piece",
        )
    failures = [
        *matched.missing,
        *(outcome for outcome in outcomes if isinstance(outcome, CaseFailure)),
    ]
    if failures:
        raise SomeCasesFailed(failures, len(outcomes) + len(matched.missing))
    return _table([outcome for outcome in outcomes if isinstance(outcome, CaseResult)]), classes


def _before_and_after(case: CaseFiles, classes: dict[str, int]) -> Outcome:
    try:
        pred, references, _ = labels_on_one_grid(case)
    except (InputError, OSError, MemoryError) as error:
        return CaseFailure(str(case.key), case.reason(error))
    ref = next(iter(references.values()))
    values = {
        name: {
            "before": dice(pred == label, ref == label),
            "after": dice(largest_component(pred == label), ref == label),
            "in_reference": float((ref == label).any()),
        }
        for name, label in classes.items()
    }
    return CaseResult(case.key, values, case.patient)


def _table(results: Sequence[CaseResult]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"patient": result.patient, "modality": result.key.modality, "class": name, **values}
            for result in results
            for name, values in result.values.items()
        ]
    )


def _checked(classes: Classes | None, crossval: CrossValidation) -> dict[str, int]:
    if not classes or any(len(labels) > 1 for labels in classes.values()):
        raise InputError(
            f"{crossval.dataset_json}: names no classes, or regions that overlap; use nnU-Net's own"
            " tools."
        )
    return {name: labels[0] for name, labels in classes.items()}


def _lone_modality(crossval: CrossValidation) -> str:
    """The image of label maps without a modality: the fixed one of pre-registered pairs."""
    return read_json(crossval.dataset_json).get("preregistered", {}).get("fixed", NO_MODALITY)
