"""The picture and the table of the toy experiment ("Cooperating networks", figure 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_liver_ext.atomic_write import atomic_write

ACCURATE = {"dice_t1": 0.9, "dice_t2": 0.8}
"""Mean Dice with the annotations that a model must have for its similarity to mean anything."""


def write_results(table: pd.DataFrame, out: Path) -> None:
    """results.csv (tidy), results.md (a row for each λr, over all seeds) and figure.png."""
    with atomic_write(out / "results.csv") as unfinished:
        table.to_csv(unfinished, index=False)
    with atomic_write(out / "results.md") as unfinished:
        unfinished.write_text(to_markdown(summarise(table)))
    with atomic_write(out / "figure.png") as unfinished:
        draw_figure(table, unfinished)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each λr.

    Args:
        table: tidy: seed, lambda_r, case, metric, value.

    Returns:
        lambda_r; the mean over pairs and seeds of every metric; gain_median; gain_positive, the
        share of pairs with a gain; gain_by_seed, the mean gain of each seed; accurate, whether both
        Dice reach `ACCURATE` in the mean.
    """
    wide = table.pivot_table(
        index=["lambda_r", "seed", "case"], columns="metric", values="value"
    ).reset_index()
    rows = []
    for lambda_r, pairs in wide.groupby("lambda_r"):
        row = {
            "lambda_r": lambda_r,
            **pairs.drop(columns=["lambda_r", "seed", "case"]).mean().to_dict(),
        }
        row["gain_median"] = pairs["gain"].median()
        row["gain_positive"] = (pairs["gain"].dropna() > 0).mean()
        row["gain_by_seed"] = " ".join(
            f"{gain:+.3f}" for gain in pairs.groupby("seed")["gain"].mean()
        )
        row["pairs"], row["excluded"] = len(pairs), int(pairs["gain"].isna().sum())
        row["accurate"] = all(row[metric] >= least for metric, least in ACCURATE.items())
        rows.append(row)
    return pd.DataFrame(rows).sort_values("lambda_r", ascending=False, ignore_index=True)


def to_markdown(summary: pd.DataFrame) -> str:
    """The summary as a Markdown table."""
    lines = [
        (
            "| λr | mean gain | by seed | median gain | pairs with a gain | D_S prediction | D_S"
            " annotation | Dice T1 | Dice T2 | registor's error (px) | T1 ≥ .9 and T2 ≥ .8 |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.lambda_r:.3f} | {row.gain:+.4f} | {row.gain_by_seed} | {row.gain_median:+.4f} |"
        f" {row.gain_positive:.0%} | {row.similarity:.4f} | {row.similarity_reference:.4f} |"
        f" {row.dice_t1:.3f} | {row.dice_t2:.3f} | {row.registor_error_px:.2f} |"
        f" {'yes' if row.accurate else 'no'} |"
        for row in summary.itertuples()
    ]
    excluded = int(summary["excluded"].sum())
    return "\n".join(
        [*lines, "", f"{excluded} pairs are excluded: a predicted mask is empty or full.", ""]
    )


def draw_figure(table: pd.DataFrame, path: Path) -> None:
    """Gain in similarity by λr as boxes over the test pairs (figure 3), and below it what it costs.

    Models that are not accurate (`ACCURATE`) are left out and named: one that segments nothing
    would set the scale.
    """
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style.context("default"):
        figure = Figure(figsize=(9, 8.5), layout="constrained")
        FigureCanvasAgg(figure)
        shown, left_out = _select_accurate(table)
        gain, dice, error = figure.subplots(3, 1, sharex=True, height_ratios=(2.2, 1, 1))
        _draw_boxes(gain, shown)
        gain.set_title(left_out, fontsize="small")
        _draw_means(dice, shown, {"dice_t1": "T1", "dice_t2": "T2"}, "Dice with the annotation")
        _draw_means(error, shown, {"registor_error_px": "registor"}, "error of the shift (px)")
        error.set(xlabel="λr = 1 − λp", xlim=(-0.03, 1.03))
        figure.savefig(path, dpi=120, format="png")


def _select_accurate(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows of accurate models (all if there are none), and a line on the others."""
    summary = summarise(table)
    inaccurate = summary.loc[~summary["accurate"], "lambda_r"]
    if len(inaccurate) in (0, len(summary)):
        return table, ""
    names = ", ".join(f"{lambda_r:g}" for lambda_r in inaccurate)
    return (
        table[~table["lambda_r"].isin(inaccurate)],
        f"left out, mean Dice below .9 (T1) or .8 (T2): λr = {names}",
    )


def _draw_boxes(axes: Any, table: pd.DataFrame) -> None:
    gains = table[table.metric == "gain"].dropna()
    groups = {
        float(lambda_r): pairs["value"].to_numpy()  # type: ignore[arg-type]
        for lambda_r, pairs in gains.groupby("lambda_r")
    }
    width = 0.6 * min(np.diff(sorted(groups)), default=0.1)
    axes.boxplot(
        list(groups.values()),
        positions=list(groups),
        widths=width,
        manage_ticks=False,
        flierprops={"markersize": 2},
    )
    axes.axhline(0, color="tab:red", linewidth=1)
    axes.set_ylabel("gain in similarity: D_S(prediction) − D_S(annotation)")
    axes.grid(alpha=0.3, axis="y")


def _draw_means(axes: Any, table: pd.DataFrame, metrics: dict[str, str], label: str) -> None:
    for metric, name in metrics.items():
        means = (
            table[table.metric == metric].groupby(["lambda_r", "seed"])["value"].mean().unstack()
        )
        (line,) = axes.plot(means.index, means.mean(axis=1), marker=".", label=name)
        for seed in means:
            axes.plot(means.index, means[seed], ".", color=line.get_color(), alpha=0.35)
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
