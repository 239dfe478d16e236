"""`nnunet_liver compare`: results of several models on the same cases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import typer

from nnunet_liver_ext.commands.common_options import EmptyReferences, Overwrite
from nnunet_liver_ext.commands.option_groups import with_option_groups


@dataclass(frozen=True)
class ComparedModels:
    """The models, and what of them is compared."""

    title: ClassVar[str] = "What is compared"

    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Compare all others with this one; by default each with each."
        ),
    ] = None
    names: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Names of the models; by default those of the folders."),
    ] = None
    metrics: Annotated[
        str | None,
        typer.Option(metavar="dice,hd95,…", help="By default all that have a better direction."),
    ] = None
    empty: EmptyReferences = "exclude"


@dataclass(frozen=True)
class DifferenceTests:
    """How differences are judged."""

    title: ClassVar[str] = "How differences are judged"

    unit: Annotated[
        Literal["patient", "case"],
        typer.Option(
            help=(
                "What the p value counts. Cases of one patient are not independent, so p by case is"
                " too small."
            )
        ),
    ] = "patient"
    smallest_difference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X or METRIC=X",
            help=(
                "Smaller differences are ties. X is for Dice-like measures (default 0.005), hd95=1"
                " for another; repeat."
            ),
        ),
    ] = None
    patients: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", help="Columns case and patient, if the results do not name patients."
        ),
    ] = None
    splits: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            help=(
                "splits_final.json: A, B, … are runs of one cross-validation, say how much they"
                " differ."
            ),
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.", min=0)] = 0


@with_option_groups()
def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS",
            help="Two or more folders of nnunet_liver evaluate, or their CSV files.",
        ),
    ],
    compared: ComparedModels,
    tests: DifferenceTests,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for comparison.csv, .md, .tex and .png.")
    ] = Path("comparison"),
    overwrite: Overwrite = False,
) -> None:
    """Compare models on the same cases: differences, intervals, tests by patient, forest plot.

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

    smallest_differences = _parse_differences(tests.smallest_difference)
    refuse_existing(out, COMPARISON_FILES, overwrite=overwrite)
    comparison = compare_results(
        results,
        names=_split_entries(compared.names),
        baseline=compared.baseline,
        metrics=_split_entries(compared.metrics),
        unit=tests.unit,
        smallest_difference=smallest_differences,
        patients=tests.patients,
        splits=tests.splits,
        seed=tests.seed,
        empty=compared.empty,
    )
    files = write_comparison(comparison, out, overwrite=overwrite)
    console = Console()
    for part in comparison_tables(comparison.table):
        console.print(part)
    if len(comparison.ranking):
        console.print(ranking_table(comparison.ranking))
    if len(comparison.runs):
        console.print(run_table(comparison.runs))
    for note in comparison.notes:
        console.print(f"Note: {note}", style="yellow", markup=False, highlight=False)
    console.print(
        f"Written to {out}: {', '.join(files)}", soft_wrap=True, highlight=False, markup=False
    )


def _split_entries(text: str | None) -> list[str] | None:
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
