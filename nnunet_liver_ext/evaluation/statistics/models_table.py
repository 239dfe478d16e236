"""The table that statistics start from: results of several models, a row for each value.

Columns: model, case, modality, class, metric, value, unit, and patient if cases share one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.metric_entry import Metric
from nnunet_liver_ext.evaluation.tidy_table import group_rows

VALUE = ("modality", "class", "metric", "value", "unit")
ROW_KEY = ["model", "case", "modality", "class", "metric"]


def fill_in_patients(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a patient for every case.

    A case without a patient (no such column, nothing in it, or the case itself, which is what
    evaluate writes if it knows no patient) takes the one that it has elsewhere in the table, and is
    a patient of its own if there is none.

    Raises:
        InputError: a column is missing, a row is there twice, or a case has two patients.
    """
    missing = [name for name in ("model", "case", *VALUE) if name not in table.columns]
    if missing:
        raise InputError(f"the table of results has no column {', '.join(missing)}.")
    twice = table[table.duplicated(ROW_KEY)]
    if len(twice):
        raise InputError(
            f"{', '.join(map(str, twice.iloc[0][ROW_KEY]))}: is in the results twice; keep one row."
        )
    patients = known_patients(table)
    return table.assign(patient=[patients.get(case, case) for case in table["case"]])


def known_patients(table: pd.DataFrame) -> dict[str, str]:
    """The patient of each case that has one.

    Raises:
        InputError: a case has two patients.
    """
    if "patient" not in table.columns:
        return {}
    known = (
        table["patient"].notna() & (table["patient"] != "") & (table["patient"] != table["case"])
    )
    named = table.loc[known, ["case", "patient"]].drop_duplicates()
    twice = named[named["case"].duplicated()]
    if len(twice):
        case = twice["case"].iloc[0]
        names = " and ".join(map(str, named["patient"][named["case"] == case]))
        raise InputError(
            f"case {case}: has the patients {names}; a case has one. Do the results name cases in"
            " the same way?"
        )
    return dict(zip(named["case"], named["patient"].astype(str), strict=True))


def split_by_metric_and_object(
    rows: pd.DataFrame, metrics: Sequence[Metric]
) -> Iterator[tuple[Metric, Mapping[str, str], pd.DataFrame]]:
    """Metric by metric, the rows of each modality and class.

    Yields:
        The metric; modality, class, metric and unit by these names; the rows.
    """
    for metric in metrics:
        of_metric = rows[rows["metric"] == metric.name]
        for (modality, class_name), of_object in group_rows(of_metric, ["modality", "class"]):
            names = {"modality": modality, "class": class_name, "metric": metric.name}
            yield metric, {**names, "unit": str(of_object["unit"].iloc[0])}, of_object
