"""Option values that several commands take."""

from __future__ import annotations

import typer


def parse_label(entry: str) -> tuple[str, tuple[int, ...]]:
    """ "liver=6" or "liver=1+2": the name of a class and its values in mask files."""
    name, _, values = entry.partition("=")
    try:
        return name.strip(), tuple(int(value) for value in values.split("+"))
    except ValueError:
        raise typer.BadParameter(f"--label {entry}: write NAME=VALUE or NAME=VALUE+VALUE, such as liver=6.") from None
