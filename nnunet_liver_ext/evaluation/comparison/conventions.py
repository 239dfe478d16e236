"""Whether results were measured in the same way, as the results.json beside each of them says."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.comparison.results_folders import Results
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS

DEPENDS_ON = {
    "surface": ("options.convention", "conventions.surface"),
    "fat": ("options.fat_margin_mm",),
    "detection": ("options.min_lesion_dice",),
}
"""By family: entries of results.json that must be equal before a metric is compared, beside its own
convention."""
MORE = {
    "surface_dice": ("tolerance_mm",),
    "relative_similarity_prediction": ("similarity.transforms", "conventions.relative_similarity"),
    "relative_similarity_gain": ("similarity.transforms", "conventions.relative_similarity"),
}
"""By metric."""


ALWAYS = ("raters", "options.resample", "conventions.empty masks")


def depends_on(metric: str) -> tuple[str, ...]:
    """Entries of results.json that a metric depends on."""
    of_family = DEPENDS_ON.get(METRICS[metric].family, ())
    return (*MORE.get(metric, ()), *of_family, *ALWAYS, f"conventions.{metric}")


def refuse_other_conventions(results: Sequence[Results], metrics: Sequence[str]) -> None:
    """Refuses to compare what was measured differently; what a results.json does not say is taken
    as equal.

    Raises:
        InputError: tolerance, transforms or conventions of one of the metrics differ.
    """
    for metric in metrics:
        for entry in depends_on(metric):
            said = [(own.name, own.measured[entry]) for own in results if entry in own.measured]
            other = next((two for two in said if two[1] != said[0][1]), None)
            if other is not None:
                name = entry.rpartition(".")[2]
                raise InputError(
                    f"{metric} was measured differently: {name} is {said[0][1]!r} for {said[0][0]}"
                    f" and {other[1]!r} for {other[0]}. Evaluate one of them again, or leave"
                    f" {metric} out with --metrics."
                )
