"""Tables for a paper."""

from __future__ import annotations

import pandas as pd

from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.object_names import label
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


def summary_latex(table: pd.DataFrame) -> str:
    r"""Mean ± standard deviation of each modality and class; needs \usepackage{booktabs}."""
    summary = summarise(table)
    metrics = summarised_metrics(summary)
    rows = [
        [
            label(modality, class_name),
            str(of_object.cases.iloc[0]),
            *(_cell(of_object[of_object.metric == metric.name]) for metric in metrics),
        ]
        for (modality, class_name), of_object in group_rows(summary, ["modality", "class"])
    ]
    text = pd.DataFrame(rows, columns=["Object", "Cases", *(metric.heading for metric in metrics)])
    text = text.map(escaped_latex)
    text.columns = [escaped_latex(name) for name in text.columns]
    note = (
        "% Mean ± standard deviation over the finite values; +n: n infinite values (an empty mask),"
        " in no mean.\n"
    )
    return note + text.to_latex(
        index=False, escape=False, column_format="l" + "r" * (len(metrics) + 1)
    )


def _cell(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "–"
    row = rows.iloc[0]
    metric = METRICS[row["metric"]]
    infinite = f" +{row['infinite']}" if row["infinite"] else ""
    return f"{metric.format(row['mean'])} ± {metric.format(row['std'])}{infinite}"
