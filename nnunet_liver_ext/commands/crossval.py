"""`nnunet_liver evaluate --crossval`: the predictions of a cross-validation's folds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_liver_ext.commands.option_values import parse_models, parse_references

if TYPE_CHECKING:
    from nnunet_liver_ext.evaluation.options import Options


def evaluate_crossval(
    models: Sequence[str],
    references: Sequence[str] | None,
    out: Path,
    options: Options,
    **more: Any,
) -> None:
    """Measures the models' cross-validations and shows what came out."""
    from rich.console import Console

    from nnunet_liver_ext.evaluation.crossval.cross_validation import evaluate_crossvals
    from nnunet_liver_ext.evaluation.results.terminal import notes_text, pairs_table, summary_table

    results = evaluate_crossvals(
        parse_models(models),
        out,
        options,
        references=parse_references(references) if references else None,
        **more,
    )
    console = Console()
    for one in results.evaluated:
        console.rule(one.title)
        console.print(summary_table(one.evaluation.table, tolerance_mm=options.tolerance_mm))
        if one.evaluation.pairs and options.similarity:
            console.print(pairs_table(one.evaluation.pairs, similarity=options.similarity))
        if one.evaluation.notes:
            console.print(notes_text(one.evaluation.notes))
        console.print(
            f"Written to {one.folder}: {', '.join(one.evaluation.written)}",
            soft_wrap=True,
            highlight=False,
        )
    for note in results.notes:
        console.print(f"Note: {note}", style="yellow", markup=False, highlight=False)
    for line in results.best.sentences() if results.best else ():
        console.print(line, markup=False, highlight=False)
    results.raise_for_failures()
