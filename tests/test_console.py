"""Progress where there is a terminal, and where there is none."""

from __future__ import annotations

import io
import itertools

from rich.console import Console

from nnunet_liver_ext import console


def test_without_a_terminal_a_line_a_minute_says_how_far_the_work_is(monkeypatch):
    seconds = itertools.count(start=0, step=25)
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr("rich.console.monotonic", lambda: 0.0)
    written = io.StringIO()
    with console.LinesOfProgress(Console(file=written)) as progress:
        task = progress.add_task("Evaluating", total=7)
        for _ in range(7):
            progress.advance(task)
    told = [line.split(",")[0] for line in written.getvalue().splitlines()]
    assert told == ["Evaluating: 3 of 7", "Evaluating: 6 of 7"]


def test_the_bar_becomes_lines_where_standard_error_is_no_terminal(capsys):
    assert isinstance(console.progress_bar(), console.LinesOfProgress)


def test_work_of_unknown_length_tells_what_is_done(monkeypatch):
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.0)
    written = io.StringIO()
    progress = console.LinesOfProgress(Console(file=written))
    progress.advance(progress.add_task("Epochs", total=None))
    assert written.getvalue() == "Epochs: 1\n"


def test_a_note_on_many_cases_is_one_line_on_standard_error(capsys):
    sentence = "the T1 image is [strange]."
    console.print_notes({f"c{i}": (sentence, "alone.")[: 1 + (i == 0)] for i in range(7)})
    assert capsys.readouterr() == (
        "",
        f"note on c0, c1, c2, c3, c4 and 2 more: {sentence}\nnote on c0: alone.\n",
    )
