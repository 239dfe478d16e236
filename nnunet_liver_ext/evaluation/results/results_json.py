"""results.json: what results.csv does not say."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_liver_ext import __version__
from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.absent_objects import count_presence, leave_out_absent
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.results_table import summarise
from nnunet_liver_ext.evaluation.tidy_table import empty_masks

SHARED_CONVENTIONS = {
    "surface": "6-connected inner border of each mask, voxel centres in mm",
    "relative_similarity": (
        "highest Dice of the pair's masks after a transform of the first, on their grid if it is"
        " one, else on the pair's common grid; nan (excluded) if one is empty or fills the volume"
    ),
    "empty masks": (
        "both empty: Dice and surface Dice 1, distances 0; one empty: Dice and surface Dice 0,"
        " distances inf"
    ),
    "summary": (
        "mean, std (n - 1), median, min and max of finite values; `infinite` and `undefined` (nan)"
        " count the others; overlap and distance of cases whose reference lacks the object are"
        " undefined with `empty` exclude, and false positives are in `presence`"
    ),
}


def conventions(options: Options) -> dict[str, str]:
    """What the numbers mean, by metric or kind of metric."""
    beyond = {"standard": "background", "chaos": "more of the mask"}[options.convention]
    shared = SHARED_CONVENTIONS
    return {
        "surface": f"{shared['surface']}; beyond the volume is {beyond}",
        **{metric.name: metric.convention for metric in METRICS.values() if metric.convention},
        **{name: text for name, text in shared.items() if name != "surface"},
    }


def write_json(
    table: pd.DataFrame,
    path: Path,
    *,
    options: Options,
    pairs: Sequence[dict[str, Any]] = (),
    agreement: Sequence[dict[str, Any]] = (),
    detection: Sequence[dict[str, Any]] = (),
    to_look_at: Sequence[dict[str, Any]] = (),
    more: Mapping[str, Any] | None = None,
    failures: Sequence[CaseFailure] = (),
    notes: Sequence[CaseFailure] = (),
) -> None:
    """Writes conventions, versions, the summary, empty masks and problems.

    Numbers that do not exist are null, so the file is plain JSON; there are no folders of this
    machine in it.
    """
    content = {
        "tolerance_mm": options.tolerance_mm,
        "options": options.to_json(),
        "conventions": conventions(options),
        "versions": versions(),
        "presence": [
            {"modality": modality, "class": name, **asdict(presence)}
            for (modality, name), presence in count_presence(table).items()
        ],
        "summary": [
            _plain(row)
            for row in summarise(leave_out_absent(table, options.empty)).to_dict("records")
        ],
        "similarity": (
            {"transforms": options.similarity, "pairs": [_plain(row) for row in pairs]}
            if options.similarity
            else None
        ),
        "agreement": [_plain(row) for row in agreement],
        "detection": [_plain(row) for row in detection],
        "to_look_at": list(to_look_at),
        "empty_masks": empty_masks(table),
        "failures": [vars(failure) for failure in failures],
        "notes": [vars(note) for note in notes],
        **(more or {}),
    }
    with atomic_write(path) as unfinished:
        unfinished.write_text(
            json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
            encoding="utf-8",
        )


def versions() -> dict[str, str]:
    """The versions of the software that the numbers depend on."""
    packages = {name: version(name) for name in ("numpy", "scipy", "SimpleITK", "pandas")}
    return {"nnunet_liver_ext": __version__, "python": platform.python_version(), **packages}


def _plain(value: Any) -> Any:
    """Plain JSON: a number that does not exist is null, an infinite one is text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
