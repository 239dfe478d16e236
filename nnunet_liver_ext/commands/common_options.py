"""Single options and arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from nnunet_liver_ext.environment import TRUST_VARIABLE

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        envvar=TRUST_VARIABLE,
        help="The authors of these files may run code on this machine (docs/trust.md).",
    ),
]
CasesAtATime = Annotated[
    int | None, typer.Option(help="Cases at a time; by default as many as pay off.")
]
Workers = Annotated[int, typer.Option("--processes", help="Worker processes.", min=1)]
EmptyReferences = Annotated[
    Literal["exclude", "one"],
    typer.Option(
        "--empty",
        help=(
            "Cases whose reference lacks a class: exclude them from the means of overlap and"
            " distance and count false positives, or let two empty masks be one (Dice 1)."
        ),
    ),
]
References = typer.Option(
    "--references",
    "-r",
    metavar="[RATER=]PATH",
    help=(
        "Folder with the same names, or studies with masks (CSV or folder); repeat for several"
        " raters."
    ),
)
NamedModels = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]MODEL",
        help="Folders of trained models, with the names that their results get.",
    ),
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        "-i",
        help="Images for pictures and for the body: studies, imagesTs, or a folder of CASE_T1.",
    ),
]
