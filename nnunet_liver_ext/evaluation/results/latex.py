"""Tables for a paper."""

from __future__ import annotations

import pandas as pd

from nnunet_liver_ext.evaluation.absent_objects import (
    count_presence,
    describe_absent,
    leave_out_absent,
)
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.options import Empty
from nnunet_liver_ext.evaluation.results.results_table import summarise, summarised_metrics
from nnunet_liver_ext.evaluation.tidy_table import group_rows

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{sign: rf"\ensuremath{{{sign}}}" for sign in "<>|"},
        "−": r"\ensuremath{-}",
        "±": r"\ensuremath{\pm}",
        "∞": r"\ensuremath{\infty}",
        "φ": r"\ensuremath{\varphi}",
        "–": "--",
        "↑": r"\ensuremath{\uparrow}",
        "↓": r"\ensuremath{\downarrow}",
    }
)
"""Signs that mean something in LaTeX, and those that the fonts of pdfLaTeX lack."""


def escaped_latex(text: str) -> str:
    """Text as LaTeX prints it."""
    return text.translate(LATEX)


def summary_latex(table: pd.DataFrame, *, empty: Empty = "exclude") -> str:
    r"""Mean ± standard deviation of each modality and class; needs \usepackage{booktabs}.

    Args:
        table: as `results_table.results_table` makes it.
        empty: as `absent_objects.leave_out_absent`.
    """
    summary = summarise(leave_out_absent(table, empty))
    metrics = summarised_metrics(summary)
    presence = count_presence(table)
    absent = any(of_object.is_absent_somewhere for of_object in presence.values())
    rows = []
    for (modality, name), of_object in group_rows(summary, ["modality", "class"]):
        there = presence.get((modality, name))
        cases = [there.cases_text if there else str(of_object.cases.iloc[0])]
        if absent:
            cases.append(there.false_positives_text if there else "–")
        cells = [_cell(of_object[of_object.metric == metric.name]) for metric in metrics]
        rows.append([label(modality, name), *cases, *cells])
    headings = ["Cases", "False positives"] if absent else ["Cases"]
    headings += [metric.heading for metric in metrics]
    text = pd.DataFrame(rows, columns=["Object", *headings]).map(escaped_latex)
    text.columns = [escaped_latex(name) for name in text.columns]
    note = (
        "% Mean ± standard deviation over the finite values; +n: n infinite values (an empty mask),"
        " in no mean.\n"
    )
    if absent:
        note += f"% {describe_absent(empty)}\n"
    return note + text.to_latex(index=False, escape=False, column_format="l" + "r" * len(headings))


def _cell(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "–"
    row = rows.iloc[0]
    metric = METRICS[row["metric"]]
    infinite = f" +{row['infinite']}" if row["infinite"] else ""
    return f"{metric.format(row['mean'])} ± {metric.format(row['std'])}{infinite}"
