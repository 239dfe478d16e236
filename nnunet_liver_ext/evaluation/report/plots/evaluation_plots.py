"""Which plots the page of an evaluation has: as many as its results allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from nnunet_liver_ext.evaluation.agreement import FATTY_LIVER_PERCENT
from nnunet_liver_ext.evaluation.files.find_label_maps import NO_MODALITY
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.metric_entry import PlotTopic
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.report.plots.agreement_plots import (
    Quantity,
    bland_altman,
    dice_over_volume,
    find_quantity,
    scatter,
)
from nnunet_liver_ext.evaluation.report.plots.box_plots import box_plots
from nnunet_liver_ext.evaluation.report.plots.drawing import SERIES, Plot
from nnunet_liver_ext.evaluation.report.plots.lesion_plots import lesion_strip, size_plot
from nnunet_liver_ext.evaluation.tidy_table import group_rows, image_rows, pair_rows

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
        table: as `results_table.results_table`.
        details: as `results_table.details_tables`.
    """
    images = image_rows(table)
    colours = choose_colours(list(images.modality.unique()))
    overlap = _box_plots(images, "overlap", colours) + _over_volume(images, colours)
    volumes = [*_volumes(images, colours), *_box_plots(images, "volume", colours)]
    lesions = _lesions(images, details.get("lesions"), colours)
    raters = _box_plots(images, "raters", colours)
    groups = [
        PlotGroup("Overlap and distances", BOX_NOTE, overlap),
        PlotGroup("Volume", LIMITS_NOTE, volumes),
        PlotGroup("Fat fraction", FAT_NOTE, list(_fat(images, colours))),
        PlotGroup("Lesions", LESION_NOTE, lesions),
        PlotGroup("Among raters", RATER_NOTE, raters),
        PlotGroup("Both images of a pair", PAIR_NOTE, list(_pairs(pair_rows(table)))),
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


def choose_colours(names: list[str]) -> dict[str, str]:
    """A colour for each name, in order; again from the first after `SERIES`."""
    return {name: f"c{number % SERIES}" for number, name in enumerate(names)}


def _box_plots(table: pd.DataFrame, topic: PlotTopic, colours: Mapping[str, str]) -> list[Plot]:
    """The box plots of a topic; the metrics that a table shows first come first."""
    metrics = [metric for metric in METRICS.values() if metric.plotted_with == topic]
    telling_first = sorted(metrics, key=lambda metric: not metric.shown_first)
    return box_plots(table, [metric.name for metric in telling_first], colours)


def _over_volume(table: pd.DataFrame, colours: Mapping[str, str]) -> list[Plot]:
    metrics = {"dice", "volume_reference"}
    plots = []
    for name, rows in table[table.metric.isin(metrics)].groupby("class", sort=False):
        wide = rows.pivot(index=["case", "modality"], columns="metric", values="value")
        if metrics <= set(wide.columns):
            title = label(NO_MODALITY, str(name))
            plots.append(dice_over_volume(wide.reset_index(), title, colours))
    return [plot for plot in plots if plot is not None]


def _quantities(
    table: pd.DataFrame,
    metrics: tuple[str, str],
    colours: Mapping[str, str],
    title: str,
    **more: object,
) -> Iterator[Quantity]:
    for (modality, name), rows in group_rows(table, ["modality", "class"]):
        more |= {"title": f"{title}, {label(modality, name)}"}
        quantity = find_quantity(rows, metrics, colour=colours.get(modality, "c0"), **more)
        if quantity is not None:
            yield quantity


def _volumes(table: pd.DataFrame, colours: Mapping[str, str]) -> Iterator[Plot]:
    for volume in _quantities(table, VOLUMES, colours, "Volume", unit="ml", decimals=1):
        yield bland_altman(volume)
        yield scatter(volume)


def _fat(table: pd.DataFrame, colours: Mapping[str, str]) -> Iterator[Plot]:
    name = f"{FATTY_LIVER_PERCENT} %"
    for fat in _quantities(table, FAT, colours, "Fat fraction", unit="%", decimals=2):
        yield bland_altman(fat)
        yield scatter(fat, threshold=FATTY_LIVER_PERCENT, threshold_name=name)


def _lesions(
    table: pd.DataFrame, lesions: pd.DataFrame | None, colours: Mapping[str, str]
) -> list[Plot]:
    plots = []
    if lesions is not None and len(lesions):
        for key, rows in group_rows(lesions, ["modality", "class"]):
            plots += [size_plot(rows, label(*key)), lesion_strip(rows, label(*key))]
    return plots + _box_plots(table, "lesions", colours)


def _pairs(table: pd.DataFrame) -> Iterator[Plot]:
    names = ("predictions", "references")
    for metric, title, unit, decimals in (
        ("relative_similarity", "Relative similarity", "1", 3),
        ("pair_volume_difference", "Volume, first − second image", "ml", 1),
    ):
        metrics = (f"{metric}_prediction", f"{metric}_reference")
        more = {"unit": unit, "decimals": decimals, "names": names}
        for quantity in _quantities(table, metrics, {}, title, **more):
            yield scatter(quantity)
