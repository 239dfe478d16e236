"""Option values that several commands take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer


def parse_labels(entries: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """ "liver=6", "tumour=1+2": values of each class in mask files, by its name."""
    labels: dict[str, tuple[int, ...]] = {}
    for entry in entries:
        name, values = parse_label(entry)
        if name in labels:
            raise typer.BadParameter(
                f"--label {entry}: {name} is given twice; write {name}=1+2 for several values."
            )
        labels[name] = values
    return labels


def parse_label(entry: str) -> tuple[str, tuple[int, ...]]:
    """ "liver=6" or "liver=1+2": the name of a class and its values in mask files."""
    name, _, values = entry.partition("=")
    try:
        numbers = tuple(int(value) for value in values.split("+"))
    except ValueError:
        numbers = ()
    if not name.strip() or not numbers or 0 in numbers:
        raise typer.BadParameter(
            f"--label {entry}: write NAME=VALUE or NAME=VALUE+VALUE, such as liver=6; 0 is the"
            " background."
        )
    return name.strip(), numbers


def parse_models(entries: Sequence[str]) -> dict[str, Path]:
    """Models by the name that their results get: "mine=models/a", or the folder's or zip's name."""
    models: dict[str, Path] = {}
    for entry in entries:
        name, named, path = entry.partition("=")
        if not named or Path(entry).exists():
            folder = Path(entry).resolve()
            name, path = folder.stem if folder.suffix == ".zip" else folder.name, entry
        if not name or "/" in name or "\\" in name:
            raise typer.BadParameter(
                f"{entry}: write NAME=FOLDER with a name that a folder can have."
            )
        if name in models:
            raise typer.BadParameter(
                f"{entry}: there are two models {name}; give them names: first={models[name]}."
            )
        models[name] = Path(path)
    return models


def parse_references(entries: Sequence[str]) -> Path | dict[str, Path]:
    """One path, or those of raters by name: "anna=masks/anna"; those without one are R1, R2, ..."""
    if len(entries) == 1 and ("=" not in entries[0] or Path(entries[0]).exists()):
        return Path(entries[0])
    raters: dict[str, Path] = {}
    for number, entry in enumerate(entries, start=1):
        name, named, path = entry.partition("=")
        if not named or Path(entry).exists():
            name, path = f"R{number}", entry
        if name in raters:
            raise typer.BadParameter(
                f"--references {entry}: there are two raters {name}; give them different names."
            )
        raters[name] = Path(path)
    return raters
