"""`nnunet_liver benchmark`: tables and figures of the papers, trained and measured anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from nnunet_liver_ext.commands.option_groups import with_option_groups

app = typer.Typer(
    no_args_is_help=True, help="Train and measure a table or figure of the papers anew."
)


@app.callback()
def benchmark() -> None:
    """Train and measure a table or figure of the papers anew."""


@dataclass(frozen=True)
class ToySize:
    """The size of the experiment, where it is not that of the paper."""

    title: ClassVar[str] = "Size"

    models: Annotated[
        int | None, typer.Option(help="Models, λp evenly spaced over [0, 1].", min=2)
    ] = None
    size: Annotated[
        int | None, typer.Option(help="Pixels of an image along each axis.", min=64)
    ] = None
    pairs: Annotated[int | None, typer.Option(help="Pairs to train and validate on.", min=10)] = (
        None
    )
    difference: Annotated[
        float | None, typer.Option(help="How unlike the two masks of a pair are.", min=0)
    ] = None


@app.command("similarity-toy")
@with_option_groups()
def similarity_toy(
    toy_size: ToySize,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for everything; run again to continue.")
    ] = Path("similarity_toy"),
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Smaller images, fewer models: an hour on two CPU cores."),
    ] = False,
    seeds: Annotated[int, typer.Option(help="Repetitions of the whole sweep.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="cuda or cpu; cpu with --quick by default.")] = "",
    jobs: Annotated[int, typer.Option(help="Trainings at a time.", min=1)] = 1,
) -> None:
    """How λr tunes similarity against accuracy: figure 3 of "Cooperating networks" (Couteaux 2021).

    Writes figure.png, results.md and results.csv. The default is the paper's size: 30 models of 240
    x 240 pixels.
    """
    from rich.console import Console

    from nnunet_liver_ext.benchmark.similarity_toy.sweep import (
        PAPER,
        QUICK,
        ToySettings,
        change_scale,
        lambda_p_values,
        run_similarity_toy,
    )

    scale = change_scale(
        QUICK if quick else PAPER,
        lambda_p=None if toy_size.models is None else lambda_p_values(toy_size.models),
        size=toy_size.size,
        pairs=toy_size.pairs,
        difference=toy_size.difference,
    )
    console = Console()
    settings = ToySettings(
        out, scale, seeds=seeds, device=device or ("cpu" if quick else "cuda"), jobs=jobs
    )
    run_similarity_toy(settings, console)
    console.print((out / "results.md").read_text())
    console.print(f"Picture: {out / 'figure.png'}")
