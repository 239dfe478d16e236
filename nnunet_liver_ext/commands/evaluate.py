"""`nnunet_liver evaluate`: predictions against references."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from nnunet_liver_ext.commands.options import parse_label


def evaluate(
    predictions: Annotated[
        Path,
        typer.Option(
            "--predictions", "-p", help="Folder of CASE_T1 and CASE_T2 masks, joint label maps or label maps CASE."
        ),
    ],
    references: Annotated[
        Path, typer.Option("--references", "-r", help="Folder with the same names, or studies with masks (CSV or folder).")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results.csv, results.json and report.html.")],
    images: Annotated[
        Path | None,
        typer.Option("--images", "-i", help="Images for the report's pictures: studies, imagesTs, or a folder of CASE_T1."),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Tolerance of the surface Dice in mm.")] = 2.0,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="NAME=VALUE", help="A class in the references, if numbered otherwise (liver=6); repeat."
        ),
    ] = None,
    similarity: Annotated[
        Literal["translation", "rigid", "affine", "elastic", "none"],
        typer.Option(help="Compare both masks of a pair after the best transform of this class."),
    ] = "elastic",
    processes: Annotated[int | None, typer.Option(help="Cases at a time; by default as many as pay off.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that are there.")] = False,
) -> None:
    """Measure predictions: Dice, Hausdorff distances, average surface distance, surface Dice and volume, with a report.

    Of pairs also their masks' relative similarity and volumes, of predictions and of references.

    Cases that cannot be evaluated (no prediction, another grid, unreadable) are listed at the end; the exit code is then 1.
    """
    from rich.console import Console

    from nnunet_liver_ext.evaluation.console import notes_text, pairs_table, summary_table
    from nnunet_liver_ext.evaluation.run import run

    evaluation = run(
        predictions,
        references,
        out,
        images=images,
        tolerance_mm=tolerance,
        processes=processes,
        overwrite=overwrite,
        similarity=None if similarity == "none" else similarity,
        reference_classes=dict(parse_label(entry) for entry in label) if label else None,
    )
    console = Console()
    console.print(summary_table(evaluation.table, tolerance_mm=tolerance))
    if evaluation.pairs:
        console.print(pairs_table(evaluation.pairs, similarity=similarity))
    if evaluation.notes:
        console.print(notes_text(evaluation.notes))
    console.print(f"Written to {out}: report.html, results.csv, results.json", soft_wrap=True, highlight=False)
    evaluation.raise_for_failures()
