"""`nnunet_liver demo`: the main job from beginning to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnunet_liver_ext.commands.option_values import parse_labels

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from nnunet_liver_ext.benchmark.demo import DemoSettings


def demo(
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for everything; run again to continue.")
    ] = Path("demo_output"),
    source: Annotated[
        Path | None,
        typer.Option(help="Your own studies with masks (folder or CSV) instead of phantom pairs."),
    ] = None,
    pairs: Annotated[int, typer.Option(help="Number of phantom pairs.", min=6)] = 16,
    hold_out: Annotated[int, typer.Option(help="Patients that no model sees.", min=1)] = 4,
    epochs: Annotated[int, typer.Option(help="Epochs of 40 iterations.", min=1)] = 10,
    spacing: Annotated[
        tuple[float, float, float], typer.Option(help="Common grid in mm (x y z).")
    ] = (6, 6, 8),
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="NAME=VALUE", help="A class in your masks (liver=1); repeat."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of phantom, splits and training.")] = 1,
) -> None:
    """Train three tiny models on T1/T2 pairs with stock nnU-Net, evaluate them on held-out pairs.

    About seven minutes on two CPU cores. The networks are tiny: this shows that everything works,
    not how well it can.
    """
    from rich.console import Console

    from nnunet_liver_ext.benchmark.demo import DemoSettings, run_demo

    console = Console()
    settings = DemoSettings(
        out=out,
        source=source,
        pairs=pairs,
        hold_out=hold_out,
        epochs=epochs,
        spacing=spacing,
        device=device,
        seed=seed,
    )
    if label:
        settings = replace(settings, labels=parse_labels(label))
    results = run_demo(settings, console)
    _show(results, settings, console)


def _show(results: dict[str, pd.DataFrame], settings: DemoSettings, console: Console) -> None:
    """The scores of each model, and a warning where they are below what the defaults reach."""
    from rich.table import Table

    from nnunet_liver_ext.benchmark.demo import GOALS, MODELS
    from nnunet_liver_ext.benchmark.workspace import warnings_of_training

    table = Table(title=f"Dice of {settings.hold_out} held-out patients (mean over pairs)")
    for column in ("trainer", "T1", "T2", "D_S"):
        table.add_column(column)
    for trainer, rows in results.items():
        dice = rows[rows["metric"] == "dice"].groupby("modality")["value"].mean()
        similarity = rows.loc[rows["metric"] == "relative_similarity_prediction", "value"].mean()
        scores = [dice.get("T1", float("nan")), dice.get("T2", float("nan")), similarity]
        table.add_row(trainer, *(f"{score:.3f}" for score in scores))
    console.print(table)
    console.print("D_S: relative similarity of the T1 and the T2 mask of a pair.")
    reports = settings.out / "TRAINER" / "evaluation" / "report.html"
    console.print(f"Reports with a picture of every case: {reports}", soft_wrap=True)
    for trainer in results:
        for warning in warnings_of_training(settings.out / "logs" / f"{trainer}.txt"):
            console.print(f"[yellow]{trainer} warned:[/] {warning}", highlight=False)
    rows = results[next(iter(MODELS))]
    reached = rows[rows["metric"] == "dice"].groupby("modality")["value"].mean()
    short = [
        name for name, goal in GOALS.items() if settings.source is None and reached[name] < goal
    ]
    if short:
        console.print(
            f"[red]Below what the default settings reach for {' and '.join(short)}: something is"
            " wrong.[/]"
        )
