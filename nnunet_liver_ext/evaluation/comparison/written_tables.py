"""A comparison of models as tables for a reader: text, Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.results.latex import escaped_latex
from nnunet_liver_ext.evaluation.statistics.sentences import (
    ComparisonRow,
    comparison_sentence,
    format_number,
    format_p,
)

Cells = Mapping[str, Callable[[ComparisonRow], str]]
"""What stands in each column of a table."""
WORDS = ("Measure", "Object", "Models", "Model", "Verdict")
"""Columns of words; all others are numbers."""
FOOTNOTE = "* optimistic: the checkpoint was chosen on these cases."


def _mean(name: str, decimals: int = 0) -> Callable[[ComparisonRow], str]:
    return lambda row: format_number(row[name], METRICS[row["metric"]].compared_decimals + decimals)


def _measure(row: ComparisonRow) -> str:
    return METRICS[row["metric"]].compared_heading


def _object(row: ComparisonRow) -> str:
    return label(row["modality"], row["class"])


def model_name(row: ComparisonRow, side: str) -> str:
    """Name of model "a" or "b"; an asterisk: its checkpoint was chosen on these cases."""
    return f"{row[f'model_{side}']}{'*' * bool(row.get(f'optimistic_{side}', False))}"


def model_names(row: ComparisonRow) -> str:
    """ "B − A"."""
    return f"{model_name(row, 'b')} − {model_name(row, 'a')}"


def interval_text(row: ComparisonRow) -> str:
    """ "0.012 (0.004 to 0.020)"; the difference alone if there is no interval."""
    decimals = METRICS[row["metric"]].compared_decimals
    difference = format_number(row["mean_difference"], decimals)
    if math.isnan(row["low"]):
        return difference
    low, high = (format_number(row[side], decimals) for side in ("low", "high"))
    return f"{difference} ({low} to {high})"


def left_out_text(row: ComparisonRow) -> str:
    """Cases that the means leave out: "3", or "3 (∞ 2/0)": the first model has no mask in two."""
    left_out = str(row["missing"] + row["absent"] + row["not_finite"])
    if not row["infinite_a"] + row["infinite_b"]:
        return left_out
    return f"{left_out} (∞ {row['infinite_b']}/{row['infinite_a']})"


COMPARISON: Cells = {
    "Measure": lambda row: f"{_measure(row)} {'↑' if row['higher_is_better'] else '↓'}",
    "Object": _object,
    "Models": model_names,
    "Patients": lambda row: str(row["patients"]),
    "Cases": lambda row: str(row["cases"]),
    "Left out": left_out_text,
    "First": _mean("mean_b"),
    "Second": _mean("mean_a"),
    "Difference": interval_text,
    "p": lambda row: format_p(row["p_value"]),
    "p (BH)": lambda row: format_p(row["p_adjusted"]),
    "r": lambda row: format_number(row["rank_biserial"], 2),
    "Better/tied/worse": lambda row: f"{row['better']}/{row['tied']}/{row['worse']}",
    "Verdict": lambda row: str(row["verdict"]),
}
RANKING: Cells = {
    "Measure": _measure,
    "Object": _object,
    "Model": lambda row: str(row["model"]),
    "Cases": lambda row: str(row["cases"]),
    "Left out": lambda row: (
        f"{row['left_out']} (∞ {row['infinite']})" if row["infinite"] else str(row["left_out"])
    ),
    "Mean": _mean("mean"),
    "Rank": lambda row: "–" if math.isnan(row["rank"]) else f"{row['rank']:g}",
    "Mean rank": lambda row: format_number(row["mean_rank"], 2),
    "Ranks first": lambda row: "–" if math.isnan(row["first"]) else f"{row['first']:.0%}",
    "Kendall's tau": lambda row: format_number(row["kendall_tau"], 2),
}
RUNS: Cells = {
    "Measure": _measure,
    "Object": _object,
    "Fold": lambda row: str(row["fold"]),
    "Cases": lambda row: str(row["cases"]),
    "Left out": lambda row: str(row["left_out"]),
    "Mean": _mean("mean"),
    "Run to run": _mean("difference", 1),
    "Largest": _mean("largest", 1),
    "Case by case": _mean("case_difference", 1),
}


def text_table(table: pd.DataFrame, cells: Cells) -> pd.DataFrame:
    """A row of text for each row of the table."""
    return pd.DataFrame(
        [[make(row) for make in cells.values()] for row in table.to_dict("records")],
        columns=list(cells),
    )


def rank_cells(text: pd.DataFrame) -> pd.Series:
    """Rank, how often that is the first, and cases without a mask: "2 (14%), ∞ 3"."""
    first = (" (" + text["Ranks first"] + ")").replace(" (–)", "")
    misses = text["Left out"].str.extract(r"\((∞ \d+)\)")[0]
    return text["Rank"] + first + (", " + misses).fillna("")


def caption(comparison: pd.DataFrame) -> str:
    """What the columns are; with the footnote if a score is optimistic."""
    first = comparison.iloc[0]
    text = (
        "Difference: mean over the cases, first minus second model, with its"
        f" {first['confidence']:.0%} confidence interval (patients resampled). p: Wilcoxon"
        " signed-rank test of"
        f" {'the means of patients' if first['tested_unit'] == 'patient' else 'single cases'}; BH:"
        " after Benjamini-Hochberg within the kind of measure. r: matched-pairs rank-biserial"
        " correlation, positive if the first is better. Better/tied/worse: cases. ↑ more is"
        " better, ↓ less is better. Left out: cases in no mean (one model lacks them, the"
        " reference lacks the object, or a value is not finite); ∞ first/second: the model has no"
        " mask, a loss that ranks last in p, r and better/tied/worse."
    )
    return f"{text} {FOOTNOTE}" if has_optimistic(comparison) else text


def has_optimistic(comparison: pd.DataFrame) -> bool:
    """Whether a model's checkpoint was chosen on the cases of the comparison."""
    return bool(comparison.filter(["optimistic_a", "optimistic_b"]).any(axis=None))


def markdown_table(text: pd.DataFrame) -> str:
    """A table of text in Markdown."""
    lines = [list(text.columns), ["---"] * len(text.columns), *text.to_numpy().tolist()]
    return (
        "\n".join(
            "| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |"
            for line in lines
        )
        + "\n"
    )


def markdown(
    comparison: pd.DataFrame, ranking: pd.DataFrame, runs: pd.DataFrame, notes: Sequence[str]
) -> str:
    """Sentences, the table, and ranking, run-to-run differences and notes where there are any."""
    parts = [
        "# Comparison\n",
        *(f"- {comparison_sentence(row)}" for row in comparison.to_dict("records")),
        "",
    ]
    parts += [markdown_table(text_table(comparison, COMPARISON)), caption(comparison), ""]
    if len(ranking):
        parts += ["## Ranking\n", markdown_table(text_table(ranking, RANKING))]
    if len(runs):
        parts += ["## Run to run\n", markdown_table(text_table(runs, RUNS))]
    if notes:
        parts += ["## Notes\n", *(f"- {note}" for note in notes), ""]
    return "\n".join(parts)


def latex(comparison: pd.DataFrame) -> str:
    r"""The table for a paper. It needs \usepackage{booktabs}, and it is wide."""
    text = text_table(comparison, COMPARISON).drop(columns="Verdict")
    columns = "".join("l" if name in WORDS else "r" for name in text.columns)
    table = text.map(escaped_latex).to_latex(index=False, escape=False, column_format=columns)
    return f"% {caption(comparison)}\n{table}"
