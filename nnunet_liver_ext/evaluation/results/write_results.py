"""What comes out of an evaluation, and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.errors import CaseFailure, SomeCasesFailed
from nnunet_liver_ext.evaluation.files.case_files import CaseFiles
from nnunet_liver_ext.evaluation.files.described_labels import Classes
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.agreement_and_detection import agreements, detections
from nnunet_liver_ext.evaluation.results.flags import cases_to_look_at
from nnunet_liver_ext.evaluation.results.latex import summary_latex
from nnunet_liver_ext.evaluation.results.results_json import write_json
from nnunet_liver_ext.evaluation.results.results_table import write_csv

FORMATS = {
    "csv": "results.csv",
    "json": "results.json",
    "html": "report.html",
    "tex": "summary.tex",
}
"""File of each format."""

DETAILS_FILES = ("lesions.csv", "detection.csv", "raters.csv")


@dataclass(frozen=True)
class Evaluation:
    """What came out of an evaluation."""

    table: pd.DataFrame
    """The tidy table of results.csv."""
    details: dict[str, pd.DataFrame]
    """Further tables by name, as `results_table.details_tables`."""
    pairs: list[dict[str, Any]]
    """What `pair_summary.summarise_pairs` gives; empty if nobody asked for relative similarity."""
    cases: Sequence[CaseFiles]
    classes: Classes | None
    options: Options
    raters: tuple[str, ...]
    """Their names; a single empty name where there is one reference."""
    failures: list[CaseFailure]
    """References that could not be evaluated, and why."""
    notes: list[CaseFailure]
    """What else the user should know."""
    total: int
    """Number of references."""
    processes: int | None
    """How many pictures are drawn at a time."""
    formats: tuple[str, ...]
    """Which files are written, of `FORMATS`; results.csv always is."""

    @property
    def written(self) -> list[str]:
        """Names of the files in the folder of the results."""
        files = [file for name, file in FORMATS.items() if name == "csv" or name in self.formats]
        return [*files, *(f"{name}.csv" for name in self.details)]

    def raise_for_failures(self) -> None:
        """SomeCasesFailed if there are failures."""
        if self.failures:
            raise SomeCasesFailed(self.failures, self.total)


def remove_earlier_results(evaluation: Evaluation, out: Path) -> None:
    """Makes the folder, and removes results.csv and what this evaluation will not replace."""
    out.mkdir(parents=True, exist_ok=True)
    (out / FORMATS["csv"]).unlink(missing_ok=True)
    for name in sorted({*FORMATS.values(), *DETAILS_FILES} - set(evaluation.written)):
        (out / name).unlink(missing_ok=True)


def write_results(
    evaluation: Evaluation, out: Path, *, more: Mapping[str, Any] | None = None
) -> None:
    """Writes the tables of an evaluation; results.csv is the last, so where it is, the others are.

    Args:
        evaluation: what came out.
        out: folder, as `remove_earlier_results` leaves it.
        more: further entries of results.json.
    """
    table, details = evaluation.table, evaluation.details
    if "json" in evaluation.formats:
        write_json(
            table,
            out / FORMATS["json"],
            options=evaluation.options,
            pairs=evaluation.pairs,
            agreement=agreements(table),
            detection=detections(details),
            to_look_at=cases_to_look_at(table, evaluation.options),
            more={"raters": list(evaluation.raters), **(more or {})},
            failures=evaluation.failures,
            notes=evaluation.notes,
        )
    if "tex" in evaluation.formats:
        with atomic_write(out / FORMATS["tex"]) as unfinished:
            unfinished.write_text(
                summary_latex(table, empty=evaluation.options.empty), encoding="utf-8"
            )
    for name, rows in details.items():
        write_csv(rows, out / f"{name}.csv")
    write_csv(table, out / FORMATS["csv"])
