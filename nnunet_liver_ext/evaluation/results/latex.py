"""Tables for a paper."""

from __future__ import annotations

import pandas as pd

from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.results.class_labels import label
from nnunet_liver_ext.evaluation.results.results_table import grouped, summarise

SUMMARISED = (
    "dice",
    "surface_dice",
    "hd",
    "hd95",
    "asd",
    "volume_difference",
    "fat_mean_difference",
    "lesion_f1",
    "uncertainty_aware_score",
    "relative_similarity_prediction",
)
"""Metrics of a summary, as far as they were measured."""
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
    r"""Mean ± standard deviation over the cases of each modality and class, as a table that needs
    \usepackage{booktabs}."""
    summary = summarise(table)
    names = [name for name in SUMMARISED if name in set(summary.metric)]
    columns = [
        METRICS[name].title + (f" [{METRICS[name].unit}]" if METRICS[name].unit != "1" else "")
        for name in names
    ]
    rows = [
        [
            label(modality, class_name),
            str(own.cases.iloc[0]),
            *(_cell(own[own.metric == name]) for name in names),
        ]
        for (modality, class_name), own in grouped(summary, ["modality", "class"])
    ]
    text = pd.DataFrame(rows, columns=["Object", "Cases", *columns]).map(escaped_latex)
    text.columns = [escaped_latex(name) for name in text.columns]
    note = (
        "% Mean ± standard deviation over the finite values; +n: n infinite values (an empty mask),"
        " in no mean.\n"
    )
    return note + text.to_latex(
        index=False, escape=False, column_format="l" + "r" * (len(names) + 1)
    )


def _cell(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "–"
    row = rows.iloc[0]
    metric = METRICS[row["metric"]]
    infinite = f" +{row['infinite']}" if row["infinite"] else ""
    return f"{metric.format(row['mean'])} ± {metric.format(row['std'])}{infinite}"
