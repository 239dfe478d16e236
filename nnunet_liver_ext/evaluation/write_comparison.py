"""The files of a comparison of models: tables, picture and report."""

from __future__ import annotations

import json
from pathlib import Path

from nnunet_liver_ext.atomic_write import atomic_write, refuse_existing
from nnunet_liver_ext.evaluation.comparison.compare_models import ModelComparison
from nnunet_liver_ext.evaluation.comparison.written_tables import latex, markdown
from nnunet_liver_ext.evaluation.report import write_comparison_report
from nnunet_liver_ext.evaluation.report.plots.forest_plots import write_forest_picture
from nnunet_liver_ext.evaluation.results.results_json import versions
from nnunet_liver_ext.evaluation.results.results_table import write_csv

COMPARISON_FILES = (
    "comparison.csv",
    "comparison.md",
    "comparison.tex",
    "comparison.png",
    "comparison.json",
    "report.html",
)
OPTIONAL_FILES = ("ranking.csv", "run_to_run.csv")


def write_comparison(
    comparison: ModelComparison, out: Path, *, overwrite: bool = False
) -> list[str]:
    """Writes `COMPARISON_FILES`, and of `OPTIONAL_FILES` those that there is something for.

    Returns:
        Names of the files. comparison.csv is written last: where it is, the others are.

    Raises:
        InputError: as `refuse_existing`.
    """
    refuse_existing(out, COMPARISON_FILES, overwrite=overwrite)
    (out / "comparison.csv").unlink(missing_ok=True)
    optional = dict(zip(OPTIONAL_FILES, (comparison.ranking, comparison.runs), strict=True))
    for name, table in optional.items():
        if len(table):
            write_csv(table, out / name)
        else:
            (out / name).unlink(missing_ok=True)  # of an earlier comparison
    texts = {
        "comparison.md": markdown(
            comparison.table, comparison.ranking, comparison.runs, comparison.notes
        ),
        "comparison.tex": latex(comparison.table),
        "comparison.json": (
            json.dumps(
                {**comparison.settings, "notes": comparison.notes, "versions": versions()},
                indent=2,
                ensure_ascii=False,
            )
            + "\n"
        ),
    }
    for name, text in texts.items():
        with atomic_write(out / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    write_forest_picture(comparison.table, out / "comparison.png")
    write_comparison_report(
        comparison.results,
        comparison.table,
        out / "report.html",
        ranking=comparison.ranking,
        runs=comparison.runs,
        notes=comparison.notes,
        settings=comparison.settings,
    )
    write_csv(comparison.table, out / "comparison.csv")
    return [*COMPARISON_FILES, *(name for name, table in optional.items() if len(table))]
