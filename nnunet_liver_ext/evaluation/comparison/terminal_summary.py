"""A comparison of models for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd
from rich.table import Table
from rich.text import Text

from nnunet_liver_ext.evaluation.comparison.written_tables import (
    COMPARISON,
    RANKING,
    RUNS,
    WORDS,
    caption,
    model_names,
    rank_cells,
    text_table,
)
from nnunet_liver_ext.evaluation.statistics.sentences import comparison_sentence
from nnunet_liver_ext.evaluation.tidy_table import group_rows

SHOWN = [
    "Measure",
    "Object",
    "Cases/left out",
    "Difference",
    "p (BH)",
    "Better/tied/worse",
    "Verdict",
]
UNBROKEN = ("Difference", "Verdict")
"""Columns that are as wide as their longest word; the others give way where 80 are too few."""


def comparison_tables(comparison: pd.DataFrame) -> Iterator[Table | Text]:
    """For each two models a table and the sentences; then what the columns are."""
    for _, rows in group_rows(comparison, ["model_a", "model_b"]):
        text = text_table(rows, COMPARISON)
        text["Cases/left out"] = text["Cases"] + "/" + text["Left out"]  # 80 columns hold no more
        yield _table(text[SHOWN], model_names(rows.iloc[0].to_dict()))
        yield Text(
            "\n".join(f"- {comparison_sentence(row)}" for row in rows.to_dict("records")) + "\n"
        )
    yield Text(caption(comparison), style="dim")


def ranking_table(ranking: pd.DataFrame) -> Table:
    """The rank of each model, and how often it comes first when other patients are drawn."""
    text = text_table(ranking, RANKING)
    text["Cell"] = rank_cells(text)
    rows = [
        {
            "Measure": measure,
            "Object": name,
            "Cases": of_object["Cases"].iloc[0],
            "Left out": of_object["Left out"].iloc[0].partition(" ")[0],
            **dict(zip(of_object["Model"], of_object["Cell"], strict=True)),
            "tau": of_object["Kendall's tau"].iloc[0],
        }
        for (measure, name), of_object in group_rows(text, ["Measure", "Object"])
    ]
    below = (
        "Rank by the mean, or first by fewer cases without a mask (∞), and how often the model"
        " comes first when patients are drawn anew; tau:"
        " mean of Kendall's tau between the rankings then and this one."
    )
    return _table(pd.DataFrame(rows), "Ranking", below)


def run_table(runs: pd.DataFrame) -> Table:
    """How much the runs of one training differ."""
    below = (
        "Mean and largest absolute difference between two runs' means on a fold; case by case:"
        " between single cases."
    )
    return _table(text_table(runs, RUNS), "Run to run", below)


def _table(text: pd.DataFrame, title: str, below: str | None = None) -> Table:
    shown = Table(title=Text(title), caption=Text(below) if below else None)
    for name in text.columns:
        header = Text(name.replace("/", "/\n") if name in SHOWN else name)
        shown.add_column(
            header,
            justify="left" if name in WORDS else "right",
            overflow="fold",
            width=_longest_word([name, *text[name]]) if name in UNBROKEN else None,
        )
    for row in text.to_numpy().tolist():
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def _longest_word(cells: Iterable[str]) -> int:
    return max(len(word) for cell in cells for word in cell.split())
