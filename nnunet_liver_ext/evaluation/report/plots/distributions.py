"""Which box plots there are: one for each class and metric, with a box for each modality and
model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from nnunet_liver_ext.evaluation.class_labels import label
from nnunet_liver_ext.evaluation.files.label_maps import NO_MODALITY
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.report.plots.box_plots import Group, box_plot
from nnunet_liver_ext.evaluation.report.plots.shapes import Plot
from nnunet_liver_ext.evaluation.tidy_table import group_rows


def distributions(
    table: pd.DataFrame, metrics: Sequence[str], css: Mapping[str, str]
) -> list[Plot]:
    """A plot for each class and each of the metrics that the table has, with a box for each
    modality.

    Args:
        table: results; with the column `model` each box is of one model, too.
        metrics: names.
        css: by modality, or by model.
    """
    several = table["class"].nunique() > 1
    plots = []
    for class_name in table["class"].unique():
        for name in metrics:
            own = table[
                (table["metric"] == name) & (table["class"] == class_name) & table["value"].notna()
            ]
            if len(own):
                groups = list(_groups(own, css))
                title = (
                    f"{METRICS[name].heading}, {label(NO_MODALITY, class_name)}"
                    if several
                    else METRICS[name].heading
                )
                plots.append(box_plot(METRICS[name], groups, title))
    return plots


def _groups(rows: pd.DataFrame, css: Mapping[str, str]) -> Iterator[Group]:
    for (modality, name), of_object in group_rows(rows, ["modality", "class"]):
        if "model" not in of_object:
            yield Group((label(modality, name),), of_object, css.get(modality, "s0"))
            continue
        for model in of_object["model"].unique():
            yield Group(
                (label(modality, name), model),
                of_object[of_object["model"] == model],
                css.get(model, "s0"),
            )
