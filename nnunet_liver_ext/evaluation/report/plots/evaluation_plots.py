"""Which plots the page of an evaluation has: as many as its results allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from nnunet_liver_ext.evaluation.agreement import FATTY_LIVER_PERCENT
from nnunet_liver_ext.evaluation.class_labels import label
from nnunet_liver_ext.evaluation.files.label_maps import NO_MODALITY
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.metric_entry import PlotTopic
from nnunet_liver_ext.evaluation.report.plots.agreement_plots import (
    Quantity,
    against_size,
    bland_altman,
    quantity,
    scatter,
)
from nnunet_liver_ext.evaluation.report.plots.distributions import distributions
from nnunet_liver_ext.evaluation.report.plots.lesion_plots import lesion_strip, size_plot
from nnunet_liver_ext.evaluation.report.plots.shapes import Plot
from nnunet_liver_ext.evaluation.tidy_table import group_rows, image_rows, pair_rows

SERIES = 8
"""Colours that style.css has for them."""
VOLUMES = ("volume_prediction", "volume_reference")
FAT = ("fat_mean_prediction", "fat_mean_reference")


@dataclass(frozen=True)
class PlotGroup:
    """Plots that answer one question."""

    title: str
    note: str
    plots: list[Plot]


def plot_groups(table: pd.DataFrame, details: Mapping[str, pd.DataFrame]) -> list[PlotGroup]:
    """All groups that have a plot.

    Args:
        table: as `tables.results_table`.
        details: as `tables.details_tables`.
    """
    images, pairs = image_rows(table), pair_rows(table)
    css = colours(list(images.modality.unique()))
    groups = [
        PlotGroup(
            "Overlap and distances",
            BOX_NOTE,
            [*_box_plots(images, "overlap", css), *_over_volume(images, css)],
        ),
        PlotGroup(
            "Volume",
            LIMITS_NOTE,
            [*_volumes(images, css), *_box_plots(images, "volume", css)],
        ),
        PlotGroup("Fat fraction", FAT_NOTE, list(_fat(images, css))),
        PlotGroup("Lesions", LESION_NOTE, _lesions(images, details.get("lesions"), css)),
        PlotGroup("Among raters", RATER_NOTE, _box_plots(images, "raters", css)),
        PlotGroup("Both images of a pair", PAIR_NOTE, list(_pairs(pairs))),
    ]
    return [group for group in groups if group.plots]


BOX_NOTE = (
    "Box: quartiles and median; whiskers: the farthest value within 1.5 box lengths; points: cases"
    " (rest the pointer on one for its name, click to go to it). Triangles: infinite values (red)"
    " and values beyond the axis (hollow)."
)
LIMITS_NOTE = (
    "Differences are prediction minus reference. Solid line: bias; dashed: 95 % limits of"
    " agreement; bands: their 95 % confidence intervals. Several cases of one patient count as"
    " independent here."
)
FAT_NOTE = (
    f"Mean over the mask. Dashed: {FATTY_LIVER_PERCENT} %, above which a liver is called fatty"
    " (Szczepaniak et al. 2005)."
)
LESION_NOTE = (
    "Found: the overlap with a predicted lesion is large enough; a lesion with a poor overlap is"
    " missed and false."
)
RATER_NOTE = (
    "φ compares the prediction's distance from the raters with theirs from one another: 0.9 and"
    " more is as good as a rater."
)
PAIR_NOTE = (
    "Each point is a pair. On the line the predictions agree with each other as the references do."
)


def colours(names: list[str]) -> dict[str, str]:
    """A CSS class for each name, in order; again from the first after `SERIES`."""
    return {name: f"s{number % SERIES}" for number, name in enumerate(names)}


def _box_plots(table: pd.DataFrame, topic: PlotTopic, css: Mapping[str, str]) -> list[Plot]:
    """The box plots of a topic; the metrics that a table shows first come first."""
    metrics = [metric for metric in METRICS.values() if metric.plotted_with == topic]
    telling_first = sorted(metrics, key=lambda metric: not metric.shown_first)
    return distributions(table, [metric.name for metric in telling_first], css)


def _over_volume(table: pd.DataFrame, css: Mapping[str, str]) -> list[Plot]:
    wanted = table[table.metric.isin(["dice", "volume_reference"])]
    plots = []
    for name, own in wanted.groupby("class", sort=False):
        wide = own.pivot(index=["case", "modality"], columns="metric", values="value").reset_index()
        wide = wide.rename(columns={"volume_reference": "volume"})
        if {"dice", "volume"} <= set(wide.columns):
            plots.append(against_size(wide, label(NO_MODALITY, str(name)), css))
    return [plot for plot in plots if plot is not None]


def _quantities(
    table: pd.DataFrame, metrics: tuple[str, str], css: Mapping[str, str], **more: object
) -> Iterator[Quantity]:
    for (modality, name), rows in group_rows(table, ["modality", "class"]):
        title = f"{more['title']}, {label(modality, name)}"
        own = quantity(rows, metrics, **{**more, "title": title}, css=css.get(modality, "s0"))
        if own is not None:
            yield own


def _volumes(table: pd.DataFrame, css: Mapping[str, str]) -> Iterator[Plot]:
    for own in _quantities(table, VOLUMES, css, title="Volume", unit="ml", decimals=1):
        yield bland_altman(own)
        yield scatter(own)


def _fat(table: pd.DataFrame, css: Mapping[str, str]) -> Iterator[Plot]:
    for own in _quantities(table, FAT, css, title="Fat fraction", unit="%", decimals=2):
        yield bland_altman(own)
        yield scatter(own, threshold=FATTY_LIVER_PERCENT, threshold_name=f"{FATTY_LIVER_PERCENT} %")


def _lesions(
    table: pd.DataFrame, lesions: pd.DataFrame | None, css: Mapping[str, str]
) -> list[Plot]:
    plots = []
    if lesions is not None and len(lesions):
        for (modality, name), rows in group_rows(lesions, ["modality", "class"]):
            plots += [
                size_plot(rows, label(modality, name)),
                lesion_strip(rows, label(modality, name)),
            ]
    return plots + _box_plots(table, "lesions", css)


def _pairs(table: pd.DataFrame) -> Iterator[Plot]:
    names = ("predictions", "references")
    for metric, title, unit, decimals in (
        ("relative_similarity", "Relative similarity", "1", 3),
        ("pair_volume_difference", "Volume, first − second image", "ml", 1),
    ):
        metrics = (f"{metric}_prediction", f"{metric}_reference")
        for own in _quantities(
            table, metrics, {}, title=title, unit=unit, decimals=decimals, names=names
        ):
            yield scatter(own)
