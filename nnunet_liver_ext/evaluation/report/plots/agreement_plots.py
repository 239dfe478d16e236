"""Scatter and Bland-Altman plots: do predicted quantities agree with the reference's?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from nnunet_liver_ext.evaluation.agreement import (
    limits_of_agreement,
    summarise_errors,
    threshold_agreement,
)
from nnunet_liver_ext.evaluation.files.find_label_maps import NO_MODALITY, ImageKey
from nnunet_liver_ext.evaluation.report.plots.drawing import (
    COLOURS,
    DASHED,
    FAINT,
    Mark,
    Plot,
    add_points,
    drawing_style,
    new_figure,
    round_ticks,
    set_ticks,
)

MEASURED_TWICE = ("prediction", "reference")


@dataclass(frozen=True)
class Quantity:
    """Something measured twice in each case, once in the prediction and once in the reference."""

    title: str
    """Such as "Volume, T1 liver"."""
    unit: str
    """"1" is a plain number."""
    decimals: int
    cases: Sequence[str]
    measured: np.ndarray
    """(N,), of the predictions; nan and infinite values are left out and counted."""
    reference: np.ndarray
    """(N,)."""
    colour: str = "c0"
    names: tuple[str, str] = MEASURED_TWICE

    @property
    def unit_text(self) -> str:
        return "" if self.unit == "1" else self.unit

    def text(self, value: float) -> str:
        """The value for a reader, with its unit."""
        if math.isnan(value):
            return "–"
        return f"{value:z.{self.decimals}f} {self.unit_text}".strip().replace("-", "−")

    def axis_title(self, text: str) -> str:
        """The text with the unit in brackets."""
        return f"{text} [{self.unit}]" if self.unit_text else text


def find_quantity(table: pd.DataFrame, metrics: tuple[str, str], **more: Any) -> Quantity | None:
    """The two metrics of one modality and class case by case, or None if no case has both.

    Args:
        table: rows of one modality and class.
        metrics: of the prediction and of the reference.
        more: the other fields of `Quantity`.
    """
    wide = table[table.metric.isin(metrics)].pivot(index="case", columns="metric", values="value")
    if not set(metrics) <= set(wide.columns):
        return None
    if not np.isfinite(wide[list(metrics)]).all(axis=1).any():
        return None
    measured, reference = (wide[name].to_numpy(float) for name in metrics)
    return Quantity(
        cases=list(map(str, wide.index)), measured=measured, reference=reference, **more
    )


@drawing_style()
def bland_altman(quantity: Quantity) -> Plot:
    """Difference against mean of prediction and reference; bias and 95 % limits of agreement."""
    differences = quantity.measured - quantity.reference
    means = (quantity.measured + quantity.reference) / 2
    limits = limits_of_agreement(differences)
    intervals = (limits.lower_interval, limits.upper_interval, limits.mean_interval)
    figure, axes = new_figure()
    around = [limits.lower, limits.upper, limits.lower_interval.lower, limits.upper_interval.upper]
    set_ticks(axes, x=round_ticks(means), y=round_ticks([*differences, *around, 0.0]))
    axes.set_title(quantity.axis_title("prediction − reference"))
    axes.set_xlabel(quantity.axis_title("mean of both"))
    axes.axhline(0, color=FAINT, alpha=0.7, linewidth=1, gid="zero")
    look: dict[str, Any] = {"color": COLOURS[quantity.colour], "linewidth": 1.4}
    if not math.isnan(limits.std):
        for low, high in intervals:
            axes.axhspan(low, high, **look | {"alpha": 0.12, "linewidth": 0}, gid="band")
        for limit in (limits.lower, limits.upper):
            axes.axhline(limit, **look, linestyle=DASHED, gid="limit")
        axes.axhline(limits.mean, **look | {"linewidth": 2.4}, gid="bias")
    caption = (
        f"Bias {quantity.text(limits.mean)}, 95 % limits of agreement"
        f" {quantity.text(limits.lower)} to {quantity.text(limits.upper)},"
        f" {_count(limits.count, limits.left_out)}."
    )
    description = f"Bland-Altman plot of {quantity.title}. {caption}"
    points = add_points(axes, _points(quantity, means, differences))
    return Plot(f"{quantity.title}: Bland-Altman", description, figure, points, caption)


@drawing_style()
def scatter(
    quantity: Quantity, *, threshold: float | None = None, threshold_name: str = ""
) -> Plot:
    """Prediction against reference with the line of equality, and a threshold on both axes."""
    figure, axes = new_figure()
    thresholds = [threshold] if threshold is not None else []
    ticks = round_ticks([*quantity.measured, *quantity.reference, *thresholds])
    set_ticks(axes, x=ticks, y=ticks)
    axes.set_title(quantity.axis_title(quantity.names[0]))
    axes.set_xlabel(quantity.axis_title(quantity.names[1]))
    ends = (ticks[0], ticks[-1])
    axes.plot(ends, ends, color=FAINT, alpha=0.7, linewidth=1, gid="zero")
    caption = _agreement_text(quantity)
    if threshold is not None:
        _draw_threshold(axes, threshold, threshold_name)
        caption += _threshold_text(quantity, threshold)
    title = f"{quantity.title}: {quantity.names[0]} and {quantity.names[1]}"
    points = add_points(axes, _points(quantity, quantity.reference, quantity.measured))
    description = f"Scatter plot of {title}. {caption}"
    return Plot(title, description, figure, points, caption)


@drawing_style()
def dice_over_volume(rows: pd.DataFrame, title: str, colours: Mapping[str, str]) -> Plot | None:
    """Dice over the reference's volume, of one class; None without a case that has both.

    Args:
        rows: with the columns case, modality, dice and volume_reference (ml).
        title: of the class.
        colours: by modality.
    """
    finite = rows[np.isfinite(rows["dice"]) & np.isfinite(rows["volume_reference"])]
    if finite.empty:
        return None
    figure, axes = new_figure()
    x = round_ticks(finite["volume_reference"], lowest=0)
    set_ticks(axes, x=x, y=round_ticks(finite["dice"], highest=1.0))
    axes.set_title("Dice")
    axes.set_xlabel("volume of the reference [ml]")
    marks = []
    for row in finite.to_dict("records"):
        dice, volume_ml = row["dice"], row["volume_reference"]
        text = f"{ImageKey(row['case'], row['modality'])}: Dice {dice:.3f}, {volume_ml:.0f} ml"
        colour = colours.get(row["modality"], "c0")
        marks.append(Mark(text, row["case"], volume_ml, dice, colour))
    modalities = finite["modality"].unique()
    legend = [(colours.get(modality, "c0"), modality) for modality in modalities]
    caption = _rank_correlation(finite)
    return Plot(
        f"Dice over volume, {title}",
        f"Scatter plot of Dice over the reference's volume, {title}. {caption}",
        figure,
        add_points(axes, marks),
        caption,
        legend if len(legend) > 1 else (),
    )


def _rank_correlation(rows: pd.DataFrame) -> str:
    from scipy.stats import spearmanr

    parts = []
    for modality, images in rows.groupby("modality", sort=False):
        name = "" if modality == NO_MODALITY else f"{modality} "
        dice, volume_ml = images["dice"], images["volume_reference"]
        if len(images) > 2 and dice.nunique() > 1 and volume_ml.nunique() > 1:
            rho = float(spearmanr(volume_ml, dice).statistic)
            parts.append(f"{name}ρ = {rho:.2f} ({len(images)} cases)".replace("-", "−"))
    return f"Rank correlation (Spearman): {', '.join(parts)}." if parts else ""


def _points(quantity: Quantity, x: np.ndarray, y: np.ndarray) -> Iterable[Mark]:
    values = zip(quantity.cases, x, y, quantity.measured, quantity.reference, strict=True)
    for case, at_x, at_y, measured, reference in values:
        if np.isfinite(at_x) and np.isfinite(at_y):
            numbers = f"{quantity.text(measured)}, {quantity.names[1]} {quantity.text(reference)}"
            yield Mark(f"{case}: {numbers}", case, at_x, at_y, quantity.colour)


def _draw_threshold(axes: Axes, threshold: float, name: str) -> None:
    look: dict[str, Any] = {"color": FAINT, "linewidth": 1, "linestyle": DASHED, "gid": "reference"}
    axes.axhline(threshold, **look)
    axes.axvline(threshold, **look)
    axes.annotate(
        name,
        (1, threshold),
        xytext=(0, 3),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        horizontalalignment="right",
        fontstyle="italic",
    )


def _agreement_text(quantity: Quantity) -> str:
    errors = summarise_errors(quantity.measured, quantity.reference)
    parts = [f"mean absolute difference {quantity.text(errors.mean_absolute_error)}"]
    if quantity.unit == "ml" and quantity.names == MEASURED_TWICE:
        parts.append(f"{100 * errors.share_within:.0f} % within {errors.within_percent:g} %")
    if quantity.names == MEASURED_TWICE and not math.isnan(errors.concordance):
        parts.append(f"concordance {errors.concordance:.3f}, r {errors.pearson_r:.3f}")
    text = ", ".join(parts).replace(" -", " −")
    return f"{text[0].upper()}{text[1:]}, {_count(errors.count, errors.left_out)}."


def _threshold_text(quantity: Quantity, threshold: float) -> str:
    sides = threshold_agreement(quantity.measured, quantity.reference, threshold)
    same = sides.true_positives + sides.true_negatives
    return (
        f" On the same side of {threshold:g}: {same} of {sides.count} (above in both"
        f" {sides.true_positives}, only predicted {sides.false_positives}, only in the reference"
        f" {sides.false_negatives})."
    )


def _count(count: int, left_out: int) -> str:
    return f"{count} case{'s' * (count != 1)}" + (f", {left_out} left out" if left_out else "")
