"""`nnunet_liver convert --list`: what the catalogue knows, as a table."""

from __future__ import annotations

import typer


def list_datasets(wanted: bool) -> None:
    """Prints the table and ends the command."""
    if not wanted:
        return
    from rich.console import Console
    from rich.table import Table

    from nnunet_liver_ext.dataset_conversion.datasets import DATASETS

    table = Table(show_lines=True)
    for title in ("dataset", "content", "on disk", "licence", "citation and source"):
        table.add_column(title, no_wrap=title == "dataset", overflow="fold")
    for key, entry in DATASETS.items():
        table.add_row(
            key, entry.content, entry.expects, entry.licence, f"{entry.citation}\n{entry.url}"
        )
    Console().print(table)
    raise typer.Exit
