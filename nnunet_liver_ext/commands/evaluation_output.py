"""What `evaluate` and `crossval` show of a set of results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from nnunet_liver_ext.evaluation.options import Options
    from nnunet_liver_ext.evaluation.results.write_results import Evaluation


def show_evaluation(
    evaluation: Evaluation, folder: Path, options: Options, console: Console
) -> None:
    """Prints the means, those of pairs, the notes and the files in `folder`."""
    from nnunet_liver_ext.evaluation.results.terminal import (
        notes_text,
        pair_dice_table,
        pairs_table,
        summary_table,
    )

    console.print(
        summary_table(evaluation.table, tolerance_mm=options.tolerance_mm, empty=options.empty)
    )
    if evaluation.pairs:
        similarity = options.similarity or "none"
        console.print(pairs_table(evaluation.pairs, similarity=similarity))
        console.print(pair_dice_table(evaluation.pairs))
    if evaluation.notes:
        console.print(notes_text(evaluation.notes))
    console.print(
        f"Written to {folder}: {', '.join(evaluation.written)}", soft_wrap=True, highlight=False
    )
