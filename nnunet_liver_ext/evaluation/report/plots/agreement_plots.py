"""Do measured numbers agree with the reference's? Scatter and Bland-Altman plots, and one error
against size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunet_liver_ext.evaluation.agreement import (
    limits_of_agreement,
    summarise_errors,
    threshold_agreement,
)
from nnunet_liver_ext.evaluation.files.label_maps import NO_MODALITY, ImageKey
from nnunet_liver_ext.evaluation.report.plots.shapes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Area,
    Line,
    Plot,
    Point,
    Scale,
    Text,
    frame,
    scale,
)

MEASURED_TWICE = ("prediction", "reference")
MOST_LEFT, MOST_RIGHT, LOWEST, HIGHEST = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP


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
    css: str = "s0"
    names: tuple[str, str] = MEASURED_TWICE

    @property
    def unit_text(self) -> str:
        return "" if self.unit == "1" else self.unit

    def text(self, value: float) -> str:
        """The value for a reader, with its unit."""
        if math.isnan(value):
            return "–"
        return f"{value:z.{self.decimals}f} {self.unit_text}".strip().replace("-", "−")


def quantity(table: pd.DataFrame, metrics: tuple[str, str], **more: object) -> Quantity | None:
    """The two metrics of one modality and class case by case, or None if no case has both.

    Args:
        table: rows of one modality and class.
        metrics: of the prediction and of the reference.
        more: the other fields of `Quantity`.
    """
    wide = table[table.metric.isin(metrics)].pivot(index="case", columns="metric", values="value")
    if (
        not set(metrics) <= set(wide.columns)
        or not np.isfinite(wide[list(metrics)]).all(axis=1).any()
    ):
        return None
    measured, reference = (wide[name].to_numpy(float) for name in metrics)
    return Quantity(
        cases=[str(case) for case in wide.index],
        measured=measured,
        reference=reference,
        **more,  # type: ignore[arg-type]
    )


def bland_altman(own: Quantity) -> Plot:
    """Difference against mean of prediction and reference, with bias and 95 % limits of agreement
    and their intervals."""
    differences, means = own.measured - own.reference, (own.measured + own.reference) / 2
    limits = limits_of_agreement(differences)
    around = [
        limits.lower,
        limits.upper,
        limits.lower_interval.lower,
        limits.upper_interval.upper,
        0.0,
    ]
    x, y = _scales(means, [*differences, *around])
    shapes = frame(x, y, _axis("mean of both", own), _axis("prediction − reference", own))
    shapes += [Line(x.start, y.at(0), x.end, y.at(0), "zero")]
    if not math.isnan(limits.std):
        for low, high in (limits.lower_interval, limits.upper_interval, limits.mean_interval):
            shapes.append(
                Area(
                    x.start,
                    y.at(high),
                    x.end - x.start,
                    round(y.at(low) - y.at(high), 1),
                    f"band {own.css}",
                )
            )
        for value in (limits.lower, limits.upper):
            shapes.append(Line(x.start, y.at(value), x.end, y.at(value), f"limit {own.css}"))
        shapes.append(Line(x.start, y.at(limits.mean), x.end, y.at(limits.mean), f"bias {own.css}"))
    caption = (
        f"Bias {own.text(limits.mean)}, 95 % limits of agreement {own.text(limits.lower)} to"
        f" {own.text(limits.upper)}, {_count(limits.count, limits.left_out)}."
    )
    points = _points(own, means, differences, x, y)
    description = f"Bland-Altman plot of {own.title}. {caption}"
    return Plot(f"{own.title}: Bland-Altman", description, shapes, points, caption)


def scatter(own: Quantity, *, threshold: float | None = None, threshold_name: str = "") -> Plot:
    """Prediction against reference with the line of equality, and a threshold on both axes."""
    both = [*own.measured, *own.reference, *([threshold] if threshold is not None else [])]
    x, y = _scales(both, both)
    shapes = frame(x, y, _axis(own.names[1], own), _axis(own.names[0], own))
    shapes.append(Line(x.start, y.start, x.end, y.end, "zero"))
    caption = _agreement_text(own)
    if threshold is not None:
        at_x, at_y = x.at(threshold), y.at(threshold)
        shapes += [
            Line(at_x, y.start, at_x, y.end, "reference"),
            Line(x.start, at_y, x.end, at_y, "reference"),
        ]
        shapes.append(Text(x.end, at_y - 4, threshold_name, "remark", "end"))
        caption += _threshold_text(own, threshold)
    points = _points(own, own.reference, own.measured, x, y)
    title = f"{own.title}: {own.names[0]} and {own.names[1]}"
    return Plot(title, f"Scatter plot of {title}. {caption}", shapes, points, caption)


def against_size(rows: pd.DataFrame, title: str, css: Mapping[str, str]) -> Plot | None:
    """Dice over the reference's volume, of one class; None without a case that has both.

    Args:
        rows: with the columns case, modality, dice and volume.
        title: of the class.
        css: by modality.
    """
    finite = rows[np.isfinite(rows["dice"]) & np.isfinite(rows["volume"])]
    if finite.empty:
        return None
    x = scale(finite["volume"], MOST_LEFT, MOST_RIGHT, lowest=0)
    y = scale(finite["dice"], LOWEST, HIGHEST, highest=1.0)
    points = []
    for row in finite.to_dict("records"):
        key = ImageKey(row["case"], row["modality"])
        text = f"{key}: Dice {row['dice']:.3f}, {row['volume']:.0f} ml"
        points.append(
            Point(
                x.at(row["volume"]),
                y.at(row["dice"]),
                text,
                row["case"],
                css.get(row["modality"], "s0"),
            )
        )
    caption = _rank_correlation(finite)
    shapes = frame(x, y, "volume of the reference [ml]", "Dice")
    legend = [(css.get(modality, "s0"), modality) for modality in finite["modality"].unique()]
    description = f"Scatter plot of Dice over the reference's volume, {title}. {caption}"
    return Plot(
        f"Dice over volume, {title}",
        description,
        shapes,
        points,
        caption,
        legend if len(legend) > 1 else (),
    )


def _rank_correlation(rows: pd.DataFrame) -> str:
    from scipy.stats import spearmanr

    parts = []
    for modality in rows["modality"].unique():
        own, name = (
            rows[rows["modality"] == modality],
            "" if modality == NO_MODALITY else f"{modality} ",
        )
        if len(own) > 2 and own["dice"].nunique() > 1 and own["volume"].nunique() > 1:
            rho = float(spearmanr(own["volume"], own["dice"]).statistic)
            parts.append(f"{name}ρ = {rho:.2f} ({len(own)} cases)".replace("-", "−"))
    return f"Rank correlation (Spearman): {', '.join(parts)}." if parts else ""


def _scales(
    x_values: Sequence[float] | np.ndarray, y_values: Sequence[float] | np.ndarray
) -> tuple[Scale, Scale]:
    return scale(x_values, MOST_LEFT, MOST_RIGHT), scale(y_values, LOWEST, HIGHEST)


def _points(
    own: Quantity, x_values: np.ndarray, y_values: np.ndarray, x: Scale, y: Scale
) -> list[Point]:
    return [
        Point(
            x.at(at_x),
            y.at(at_y),
            f"{case}: {own.text(measured)}, {own.names[1]} {own.text(reference)}",
            case,
            own.css,
        )
        for case, at_x, at_y, measured, reference in zip(
            own.cases, x_values, y_values, own.measured, own.reference, strict=True
        )
        if np.isfinite(at_x) and np.isfinite(at_y)
    ]


def _agreement_text(own: Quantity) -> str:
    errors = summarise_errors(own.measured, own.reference)
    parts = [f"mean absolute difference {own.text(errors.mean_absolute_error)}"]
    if own.unit == "ml" and own.names == MEASURED_TWICE:
        parts.append(f"{100 * errors.share_within:.0f} % within {errors.within_percent:g} %")
    if own.names == MEASURED_TWICE and not math.isnan(errors.concordance):
        parts.append(
            f"concordance {errors.concordance:.3f}, r {errors.pearson_r:.3f}".replace("-", "−")
        )
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}, {_count(errors.count, errors.left_out)}."


def _threshold_text(own: Quantity, threshold: float) -> str:
    found = threshold_agreement(own.measured, own.reference, threshold)
    same = found.true_positives + found.true_negatives
    return (
        f" On the same side of {threshold:g}: {same} of {found.count} (above in both"
        f" {found.true_positives}, only predicted {found.false_positives}, only in the reference"
        f" {found.false_negatives})."
    )


def _axis(text: str, own: Quantity) -> str:
    return f"{text} [{own.unit}]" if own.unit_text else text


def _count(count: int, left_out: int) -> str:
    return f"{count} case{'s' * (count != 1)}" + (f", {left_out} left out" if left_out else "")
