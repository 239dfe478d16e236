"""Cross-validations of one or several models, measured on the cases that no fold's model has seen.

The folds' predictions are pooled and measured like any others (`run_evaluation`); each repetition
of a repeated cross-validation is measured on its own, for a case may come only once in a mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_liver_ext.atomic_write import refuse_existing
from nnunet_liver_ext.errors import CaseFailure, InputError, SomeCasesFailed
from nnunet_liver_ext.evaluation.crossval.best_model import BestModel, find_best
from nnunet_liver_ext.evaluation.crossval.folds import CrossValidation, Repetition, find_crossval
from nnunet_liver_ext.evaluation.crossval.pooled_folds import (
    References,
    patients_file,
    pool_folds,
    training_images,
)
from nnunet_liver_ext.evaluation.evaluate import run_evaluation
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.write_results import Evaluation
from nnunet_liver_ext.folder_lock import locks_folder

CHECKPOINT_CHOSEN = "checkpoint_chosen_on_these_cases"
"""An entry of results.json, where `nnunet_liver compare` looks for it."""
BEST = "best.json"


@dataclass(frozen=True)
class EvaluatedRepetition:
    """The results of one repetition of one model."""

    model: str
    repetition: Repetition
    folder: Path
    evaluation: Evaluation

    @property
    def title(self) -> str:
        """Model and repetition, for a terminal."""
        return (
            self.model
            if self.folder.name == self.model
            else f"{self.model}, {self.folder.name.replace('_', ' ')}"
        )


@dataclass(frozen=True)
class CrossvalResults:
    """What came out of `evaluate_crossvals`."""

    evaluated: list[EvaluatedRepetition]
    best: BestModel | None
    """None for a single model."""
    notes: list[str]

    def raise_for_failures(self) -> None:
        """SomeCasesFailed if there are failures."""
        failures = [
            CaseFailure(f"{repetition.title}: {failure.case}", failure.reason)
            for repetition in self.evaluated
            for failure in repetition.evaluation.failures
        ]
        if failures:
            raise SomeCasesFailed(
                failures, sum(repetition.evaluation.total for repetition in self.evaluated)
            )


@locks_folder("out")
def evaluate_crossvals(
    models: Mapping[str, Path],
    out: Path,
    options: Options = Options(),
    *,
    references: References | None = None,
    images: Path | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> CrossvalResults:
    """Measures the cross-validation of each model and writes its results into OUT/MODEL.

    A repeated cross-validation gives OUT/MODEL/repetition_0, repetition_1, ...; several models also
    give OUT/best.json.

    Args:
        models: folders of trained models by the name that their results get, all of one dataset.
        out: folder, made if it does not exist.
        options: what is measured and how.
        references: folder of label maps on the converted grid; None takes
            nnUNet_preprocessed/DATASET/gt_segmentations.
        images: for pictures; None takes nnUNet_raw/DATASET/imagesTr if it is there.
        overwrite: replace results that are there.
        settings: as `run_evaluation` takes them: fat, processes, fresh, reference_classes.

    Raises:
        InputError: folds are missing or do not fit the splits (`find_crossval`), the models are of
            different datasets or have no repetition in common, or there are results already.
            Nothing is written then.
    """
    crossvals = {name: find_crossval(folder) for name, folder in models.items()}
    _check_models(crossvals)
    places = {name: _places(crossval, out / name) for name, crossval in crossvals.items()}
    if not overwrite:
        for places_of_model in places.values():
            for folder in places_of_model.values():
                refuse_existing(folder, ["results.csv"], overwrite=False)
        refuse_existing(out, [BEST], overwrite=False)
    evaluated = [
        _evaluate(
            name,
            crossval,
            repetition,
            places[name][repetition.number],
            options,
            references,
            images,
            settings,
        )
        for name, crossval in crossvals.items()
        for repetition in crossval.repetitions
    ]
    best = None
    if len(crossvals) > 1:
        tables = {
            name: {result.repetition.number: result for result in evaluated if result.model == name}
            for name in crossvals
        }
        best = find_best(
            {
                name: {number: result.evaluation.table for number, result in of_model.items()}
                for name, of_model in tables.items()
            },
            optimistic=[
                name
                for name, of_model in tables.items()
                if any(is_optimistic(result) for result in of_model.values())
            ],
            empty=options.empty,
        )
        best.write(out / BEST)
    return CrossvalResults(evaluated, best, _notes(crossvals, evaluated))


def is_optimistic(evaluated: EvaluatedRepetition) -> bool:
    """Whether the checkpoint of a fold was chosen on the very cases that it predicts."""
    return evaluated.repetition.chosen_on_these_cases


def _evaluate(
    name: str,
    crossval: CrossValidation,
    repetition: Repetition,
    folder: Path,
    options: Options,
    references: References | None,
    images: Path | None,
    settings: Mapping[str, Any],
) -> EvaluatedRepetition:
    described = {
        "model": crossval.folder.name,
        "dataset": crossval.dataset,
        "repetition": repetition.number,
        "repetitions": crossval.total,
        "folds": {str(fold): list(cases) for fold, cases in repetition.folds.items()},
    }
    with pool_folds(crossval, repetition, references) as pool:
        evaluation = run_evaluation(
            pool.predictions,
            pool.references,
            folder,
            options,
            images=images or training_images(crossval.dataset),
            overwrite=True,  # `refuse_existing` was here
            more={CHECKPOINT_CHOSEN: repetition.chosen_on_these_cases, "crossval": described},
            **settings,
        )
    return EvaluatedRepetition(name, repetition, folder, evaluation)


def _places(crossval: CrossValidation, folder: Path) -> dict[int, Path]:
    """Where the results of each repetition go."""
    numbers = [repetition.number for repetition in crossval.repetitions]
    return {
        number: folder / f"repetition_{number}" if crossval.total > 1 else folder
        for number in numbers
    }


def _check_models(crossvals: Mapping[str, CrossValidation]) -> None:
    datasets = {name: crossval.dataset for name, crossval in crossvals.items()}
    if len(set(datasets.values())) > 1:
        listed = ", ".join(f"{name}: {dataset}" for name, dataset in datasets.items())
        raise InputError(
            f"the models are of different datasets ({listed}): evaluate those of one dataset"
            " together."
        )
    if not set.intersection(
        *(
            {repetition.number for repetition in crossval.repetitions}
            for crossval in crossvals.values()
        )
    ):
        listed = ", ".join(
            f"{name}: {', '.join(str(repetition.number) for repetition in crossval.repetitions)}"
            for name, crossval in crossvals.items()
        )
        raise InputError(
            f"the models have no repetition of the cross-validation in common ({listed})."
        )


def _notes(
    crossvals: Mapping[str, CrossValidation], evaluated: Sequence[EvaluatedRepetition]
) -> list[str]:
    notes = [
        f"{name}: the cross-validation is repeated {crossval.total} times; each repetition is"
        " measured on its own."
        for name, crossval in crossvals.items()
        if crossval.total > 1
    ]
    notes += [
        f"{name}: no fold of repetition {', '.join(map(str, crossval.left_out))} was trained; left"
        " out."
        for name, crossval in crossvals.items()
        if crossval.left_out
    ]
    if any(patients_file(crossval.dataset) is None for crossval in crossvals.values()):
        notes.append(
            "no pairs.json in nnUNet_raw says which cases are of one patient: each counts as a"
            " patient of its own."
        )
    optimistic = dict.fromkeys(result.model for result in evaluated if is_optimistic(result))
    return notes + [
        f"{name}: optimistic, a checkpoint was chosen on the cases that it predicts."
        for name in optimistic
    ]
