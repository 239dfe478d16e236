"""What a stage of gpu.py is: its name, its time limit, and the function that gives its rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

Row = dict[str, str | int | float | None]
"""One line of a table, by column; `verdict` is OK or says what is wrong."""
OK = "ok"
VERDICT = "verdict"


@dataclass(frozen=True)
class Setting:
    """What a stage is run with."""

    device: str
    """cuda or cpu."""
    folder: Path
    """For files that are made on the way; stages share it."""
    tiny: bool = False
    """So small that it runs on a CPU in seconds, to test the stage itself."""
    trainers: tuple[str, ...] = ()
    """Only these, in stages that go through trainers; none: all."""


@dataclass(frozen=True)
class Stage:
    """A part of gpu.py that stands alone."""

    name: str
    title: str
    limit_s: float
    function: str
    """MODULE:NAME of a function of a `Setting` that yields rows as they are measured."""


def short_reason(error: BaseException) -> str:
    """An error on one line."""
    lines = str(error).strip().splitlines() or ["without a message"]
    return f"{type(error).__name__}: {lines[0]}"
