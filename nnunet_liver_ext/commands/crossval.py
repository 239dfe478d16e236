"""`nnunet_liver crossval`: the predictions of cross-validations' folds against the references."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnunet_liver_ext.commands.common_options import Images, NamedModels, References
from nnunet_liver_ext.commands.evaluation_options import (
    FatFraction,
    Lesions,
    Measures,
    PairSimilarity,
    ReferenceClasses,
    Results,
    make_options,
)
from nnunet_liver_ext.commands.evaluation_output import show_evaluation
from nnunet_liver_ext.commands.option_groups import with_option_groups
from nnunet_liver_ext.commands.option_values import parse_models, parse_references


@with_option_groups()
def crossval(
    models: NamedModels,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for MODEL/results.csv, ... and best.json."),
    ],
    classes: ReferenceClasses,
    measures: Measures,
    similarity: PairSimilarity,
    lesions: Lesions,
    fat: FatFraction,
    results: Results,
    references: Annotated[list[str] | None, References] = None,
    images: Images = None,
) -> None:
    """Measure cross-validations: every case as predicted by the fold that has not seen it.

    The folds of each model have predicted their validation cases (nnUNetv2_train does). With
    several models also: which is the best, and how surely. References are those of the training
    unless -r names others, pictures show its images. docs/crossval.md.
    """
    from rich.console import Console

    from nnunet_liver_ext.evaluation.crossval.cross_validation import evaluate_crossvals

    options = make_options(measures, similarity, lesions, fat)
    evaluated = evaluate_crossvals(
        parse_models(models),
        out,
        options,
        references=parse_references(references) if references else None,
        images=images,
        fat=fat.fat,
        reference_classes=classes.parse(),
        **results.arguments(),
    )
    console = Console()
    for repetition in evaluated.evaluated:
        console.rule(repetition.title)
        show_evaluation(repetition.evaluation, repetition.folder, options, console)
    for note in evaluated.notes:
        console.print(f"Note: {note}", style="yellow", markup=False, highlight=False)
    for line in evaluated.best.sentences() if evaluated.best else ():
        console.print(line, markup=False, highlight=False)
    evaluated.raise_for_failures()
