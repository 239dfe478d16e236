"""`nnunet_liver evaluate`: predictions against references."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from nnunet_liver_ext.commands.common_options import Images, References
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
from nnunet_liver_ext.commands.option_values import parse_references

MOVED = {
    "--crossval": "nnunet_liver crossval MODEL -o FOLDER",
    "--mismatch": "nnunet_liver mismatch MODEL -i STUDIES -o FOLDER",
}
"""Options of earlier versions, and the commands that they have become."""


class EvaluateCommand(TyperCommand):
    """Names the new command to those who use an option that has become one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for option, command in MOVED.items():
            if any(arg == option or arg.startswith(f"{option}=") for arg in args):
                typer.echo(
                    f"nnunet_liver: evaluate {option} is now a command of its own: {command}.",
                    err=True,
                )
                ctx.exit(2)
        return super().parse_args(ctx, args)


@with_option_groups()
def evaluate(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder for results.csv, results.json and report.html."),
    ],
    predictions: Annotated[
        Path,
        typer.Option(
            "--predictions",
            "-p",
            help="Folder of CASE_T1 and CASE_T2 masks, joint label maps or label maps CASE.",
        ),
    ],
    references: Annotated[list[str], References],
    classes: ReferenceClasses,
    measures: Measures,
    similarity: PairSimilarity,
    lesions: Lesions,
    fat: FatFraction,
    results: Results,
    images: Images = None,
) -> None:
    """Measure predictions: overlap, surface distances, volume, what seems implausible, a report.

    Pairs: also the relative similarity of their two masks, predicted and annotated. Several raters:
    the agreement with and among them. --lesions: how many were found. --fat: the fat fraction.

    Cases that cannot be evaluated (no prediction, another grid, unreadable) are listed at the end;
    the exit code is then 1. An interrupted run continues when it is repeated.
    """
    from rich.console import Console

    from nnunet_liver_ext.evaluation.evaluate import run_evaluation

    options = make_options(measures, similarity, lesions, fat)
    evaluation = run_evaluation(
        predictions,
        parse_references(references),
        out,
        options,
        images=images,
        fat=fat.fat,
        reference_classes=classes.parse(),
        **results.arguments(),
    )
    show_evaluation(evaluation, out, options, Console())
    evaluation.raise_for_failures()
