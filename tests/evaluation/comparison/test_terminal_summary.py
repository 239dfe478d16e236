"""A comparison on a terminal of 80 columns."""

from __future__ import annotations

import io
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from nnunet_liver_ext.evaluation.comparison.terminal_summary import comparison_tables
from nnunet_liver_ext.evaluation.statistics.paired_comparison import compare_paired

COLUMNS = ["model", "case", "patient", "modality", "class", "metric", "value", "unit"]


@pytest.mark.parametrize(("further_mm", "verdict"), [(5.0, "worse"), (-5.0, "contradictory")])
def test_the_table_is_whole(further_mm: float, verdict: str):
    """With long names of models, misses, intervals and the longest verdict."""
    rng, rows = np.random.default_rng(0), []
    for model, shift, misses in (("SingleInput", 0.0, 0), ("Similarity", further_mm, 3)):
        for case, distance in enumerate(12 + shift + rng.normal(0, 1, 20)):
            value = math.inf if case < misses else distance
            names = (f"nnUNetTrainer{model}", f"C{case}", f"P{case}", "T1", "liver")
            rows.append((*names, "hd95", value, "mm"))
    console = Console(width=80, file=io.StringIO())
    console.print(*comparison_tables(compare_paired(pd.DataFrame(rows, columns=COLUMNS))))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    (heading,) = [line for line in printed.splitlines() if "Measure" in line]
    assert heading.endswith("Verdict" + " " * (max(7, len(verdict)) - 7) + " ┃")
    assert "17/3" in printed
    assert f" {verdict} " in printed
