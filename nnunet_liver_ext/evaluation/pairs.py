"""Do the two masks of a pair agree? Relative similarity and volumes, for the predictions and for the references beside them.

The goal of Couteaux et al. 2021, "Cooperating networks", section 3: masks of two images of one organ that are alike up to a
deformation, so that measurements agree. Similarity is measured on the pair's common grid, the one that conversion would
make of the references' grids with its default spacing; volumes on each mask's own grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nnunet_liver_ext.dataset_conversion.common_grid import common_grid, mask_on_grid
from nnunet_liver_ext.errors import CaseFailure, InputError
from nnunet_liver_ext.evaluation.cases import CaseResult, Comparison, labels_in, object_in, same_grid
from nnunet_liver_ext.evaluation.label_maps import Classes, Key
from nnunet_liver_ext.evaluation.measures import PAIR_METRICS
from nnunet_liver_ext.evaluation.metrics import volume_ml
from nnunet_liver_ext.evaluation.tables import grouped, pair_rows
from nnunet_liver_ext.images import Grid, array, image_like
from nnunet_liver_ext.transforms import Transforms

SIDES = ("prediction", "reference")


@dataclass(frozen=True)
class PairComparison:
    """The comparisons of both images of one case."""

    first: Comparison
    second: Comparison

    @property
    def key(self) -> Key:
        return Key(self.first.key.case, f"{self.first.key.modality}-{self.second.key.modality}")


@dataclass(frozen=True)
class _Side:
    """Two label maps (z, y, x), one of each image, and their grids."""

    labels: tuple[np.ndarray, np.ndarray]
    grids: tuple[Grid, Grid]


def pairs_among(comparisons: Iterable[Comparison], modalities: tuple[str, ...]) -> list[PairComparison]:
    """The cases of which both images are compared."""
    by_key = {comparison.key: comparison for comparison in comparisons}
    first, second = modalities
    return [
        PairComparison(own, by_key[Key(key.case, second)])
        for key, own in by_key.items()
        if key.modality == first and Key(key.case, second) in by_key
    ]


def evaluate_pair(pair: PairComparison, classes: Classes | None, *, transforms: Transforms) -> CaseResult | CaseFailure:
    """Measures one pair.

    Args:
        pair: which files.
        classes: labels of each class by name; None measures each label that occurs.
        transforms: the class of relative similarity.

    Returns:
        One value for each of `measures.PAIR_METRICS` and class, nan where a mask is empty; or why there are none.
    """
    try:
        sides = _read(pair)
        classes = classes or {
            str(n): (n,) for n in sorted({n for own in sides for one in own.labels for n in labels_in(one)})
        }
        return CaseResult(pair.key, {name: _measured(sides, labels, transforms) for name, labels in classes.items()})
    except (InputError, OSError, MemoryError, RuntimeError) as error:
        return CaseFailure(str(pair.key), f"relative similarity was not measured: {error or type(error).__name__}")


def summarise_pairs(table: pd.DataFrame) -> list[dict[str, Any]]:
    """How similar the masks of a pair are: modality, class, pairs, excluded, prediction, reference, gain, p_value.

    `excluded` counts the pairs with an empty mask (of prediction or reference); they are in no mean. p_value: Wilcoxon
    signed-rank test of the predictions' similarities against the references', nan if no pair differs.
    """
    rows = pair_rows(table)
    if rows.empty:
        return []
    return [
        {"modality": modality, "class": name, **_summary(own.pivot(index="case", columns="metric", values="value"))}
        for (modality, name), own in grouped(rows, ["modality", "class"])
    ]


def pair_cells(row: dict[str, Any]) -> list[str]:
    """A row of `summarise_pairs` for a reader: pairs, excluded, predictions, references, difference, p."""
    means = [PAIR_METRICS[f"relative_similarity_{part}"].format(row[part]) for part in (*SIDES, "gain")]
    p_value = "–" if math.isnan(row["p_value"]) else f"{row['p_value']:.2g}"
    return [str(row["pairs"]), str(row["excluded"]), *means, p_value]


def _summary(values: pd.DataFrame) -> dict[str, float]:
    from scipy.stats import wilcoxon

    both = values[np.isfinite(values["relative_similarity_gain"])]
    pred, ref, gain = (both[f"relative_similarity_{part}"] for part in (*SIDES, "gain"))
    p_value = float(wilcoxon(pred, ref).pvalue) if (gain != 0).any() else math.nan
    means = {name: float(own.mean()) for name, own in zip((*SIDES, "gain"), (pred, ref, gain), strict=True)}
    return {"pairs": len(values), "excluded": len(values) - len(both), **means, "p_value": p_value}


def _read(pair: PairComparison) -> tuple[_Side, _Side]:
    """Predictions and references. Raises InputError if a prediction is not on its reference's grid."""
    first, second = (_labels_and_grid(comparison) for comparison in (pair.first, pair.second))
    grids = first[2], second[2]
    return _Side((first[0], second[0]), grids), _Side((first[1], second[1]), grids)


def _labels_and_grid(comparison: Comparison) -> tuple[np.ndarray, np.ndarray, Grid]:
    pred, ref, _ = same_grid(comparison)
    return pred, ref, comparison.reference.read()[1]


def _measured(sides: tuple[_Side, _Side], labels: tuple[int, ...], transforms: Transforms) -> dict[str, float]:
    masks = [tuple(object_in(one, labels) for one in side.labels) for side in sides]
    similarity = [_similarity(own, side.grids, transforms) for own, side in zip(masks, sides, strict=True)]
    volumes = [
        volume_ml(own[0], side.grids[0].spacing_mm) - volume_ml(own[1], side.grids[1].spacing_mm)
        for own, side in zip(masks, sides, strict=True)
    ]
    return {
        "relative_similarity_prediction": similarity[0],
        "relative_similarity_reference": similarity[1],
        "relative_similarity_gain": similarity[0] - similarity[1],
        "pair_volume_difference_prediction": volumes[0],
        "pair_volume_difference_reference": volumes[1],
    }


def _similarity(masks: tuple[np.ndarray, ...], grids: tuple[Grid, Grid], transforms: Transforms) -> float:
    from nnunet_liver_ext.evaluation.similarity import relative_similarity

    spacing_mm = grids[0].spacing_mm
    if not grids[0].matches(grids[1]):
        images = [image_like(mask, grid) for mask, grid in zip(masks, grids, strict=True)]
        common = common_grid(images)
        masks, spacing_mm = tuple(array(mask_on_grid(image, common, 2)) for image in images), common.spacing_mm
    return relative_similarity(masks[0], masks[1], spacing_mm, transforms).dice
