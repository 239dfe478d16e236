"""`nnunet_liver compare`: results of several models on the same cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from nnunet_liver_ext.commands.common_options import Overwrite


def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS",
            help="Two or more folders of nnunet_liver evaluate, or their CSV files.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for comparison.csv, .md, .tex and .png.")
    ] = Path("comparison"),
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Compare all others with this one; by default each with each."
        ),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Names of the models; by default those of the folders."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="dice,hd95,…", help="By default all that have a better direction."),
    ] = None,
    unit: Annotated[
        Literal["patient", "case"],
        typer.Option(
            help=(
                "What the p value counts. Cases of one patient are not independent, so p by case is"
                " too small."
            )
        ),
    ] = "patient",
    smallest_difference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X or METRIC=X",
            help=(
                "Smaller differences are ties. X is for Dice-like measures (default 0.005), hd95=1"
                " for another; repeat."
            ),
        ),
    ] = None,
    patients: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", help="Columns case and patient, if the results do not name patients."
        ),
    ] = None,
    splits: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            help=(
                "splits_final.json: A, B, … are runs of one cross-validation, say how much they"
                " differ."
            ),
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.", min=0)] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Compare models on the same cases: differences with confidence intervals, tests by patient,
    tables and a forest plot.

    Differences are those of the later model minus the earlier one (or the baseline). Definitions:
    docs/statistics.md.
    """
    from rich.console import Console

    from nnunet_liver_ext.atomic_write import refuse_existing
    from nnunet_liver_ext.evaluation.comparison.compare_models import compare_results
    from nnunet_liver_ext.evaluation.comparison.terminal_summary import (
        comparison_tables,
        ranking_table,
        run_table,
    )
    from nnunet_liver_ext.evaluation.write_comparison import COMPARISON_FILES, write_comparison

    smallest = _parse_differences(smallest_difference)
    refuse_existing(out, COMPARISON_FILES, overwrite=overwrite)
    compared = compare_results(
        results,
        names=_entries(names),
        baseline=baseline,
        metrics=_entries(metrics),
        unit=unit,
        smallest_difference=smallest,
        patients=patients,
        splits=splits,
        seed=seed,
    )
    files = write_comparison(compared, out, overwrite=overwrite)
    console = Console()
    for part in comparison_tables(compared.table):
        console.print(part)
    if len(compared.ranking):
        console.print(ranking_table(compared.ranking))
    if len(compared.runs):
        console.print(run_table(compared.runs))
    for note in compared.notes:
        console.print(f"Note: {note}", style="yellow", markup=False, highlight=False)
    console.print(
        f"Written to {out}: {', '.join(files)}", soft_wrap=True, highlight=False, markup=False
    )


def _entries(text: str | None) -> list[str] | None:
    return [entry.strip() for entry in text.split(",")] if text is not None else None


def _parse_differences(entries: list[str] | None) -> dict[str, float] | None:
    """["0.01", "hd95=1"]: 0.01 for each Dice-like metric, 1 for hd95."""
    if not entries:
        return None
    from nnunet_liver_ext.evaluation.statistics.comparable_metrics import all_comparable_metrics

    differences: dict[str, float] = {}
    for entry in sorted(entries, key=lambda entry: "=" in entry):
        name, _, value = entry.rpartition("=")
        try:
            of_metrics = (
                [name.strip()]
                if name
                else [metric.name for metric in all_comparable_metrics() if metric.dice_like]
            )
            differences |= dict.fromkeys(of_metrics, float(value))
        except ValueError:
            raise typer.BadParameter(
                f"--smallest-difference {entry}: write 0.005, or METRIC=NUMBER such as hd95=1."
            ) from None
    return differences
