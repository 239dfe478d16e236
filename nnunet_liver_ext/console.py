"""Progress for long work, and silence for what others print."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

LINE_EVERY_S = 60.0
"""How often the state of long work is told where there is no terminal to draw a bar on."""

NAMED_CASES = 5
"""Of one note; of further ones the number is told."""


class LinesOfProgress(Progress):
    """What a bar shows, as a line a minute: for logs, batch systems and pipes."""

    def __init__(self, console: Console) -> None:
        super().__init__(console=console, disable=True)
        self._told = time.monotonic()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        now = time.monotonic()
        if now - self._told >= LINE_EVERY_S:
            self._told = now
            self.console.print(self._line(task_id), highlight=False, soft_wrap=True)

    def _line(self, task_id: TaskID) -> str:
        task = self._tasks[task_id]
        total = "" if task.total is None else f" of {task.total:.0f}"
        seconds = task.time_remaining
        left = "" if seconds is None else f", about {timedelta(seconds=round(seconds))} left"
        return f"{task.description}: {task.completed:.0f}{total}{left}"


def progress_bar() -> Progress:
    """A bar with a description, n of m and the time that is left, on standard error.

    Where that is no terminal, a line a minute says the same.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        return LinesOfProgress(console)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


def list_cases(cases: Sequence[str]) -> str:
    """The names of some cases; of many the first five, and how many more there are."""
    more = f" and {len(cases) - NAMED_CASES} more" if len(cases) > NAMED_CASES else ""
    return ", ".join(cases[:NAMED_CASES]) + more


def print_notes(notes: Mapping[str, Sequence[str]]) -> None:
    """Prints what a user should know of cases on standard error, each sentence once.

    Args:
        notes: sentences by the case's name.
    """
    names: dict[str, list[str]] = {}
    for name, sentences in notes.items():
        for sentence in sentences:
            names.setdefault(sentence, []).append(name)
    console = Console(stderr=True)
    for sentence, cases in names.items():
        line = f"note on {list_cases(cases)}: {sentence}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops what nnU-Net prints, whole plans and lines for every case."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
