"""Whether results were measured in the same way, as the results.json beside each of them says."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.comparison.results_folders import ModelResults
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS

ALWAYS = ("raters", "options.resample", "conventions.empty masks")
"""Entries of results.json that every metric depends on."""


def entries_that_must_agree(metric: str) -> tuple[str, ...]:
    """Entries of results.json that a metric depends on."""
    return (*METRICS[metric].depends_on, *ALWAYS, f"conventions.{metric}")


def refuse_other_conventions(results: Sequence[ModelResults], metrics: Sequence[str]) -> None:
    """Refuses to compare what was measured differently; what is not said counts as equal.

    Raises:
        InputError: tolerance, transforms or conventions of one of the metrics differ.
    """
    for metric in metrics:
        for entry in entries_that_must_agree(metric):
            said = [
                (model.name, model.measured[entry]) for model in results if entry in model.measured
            ]
            other = next((value for value in said if value[1] != said[0][1]), None)
            if other is not None:
                name = entry.rpartition(".")[2]
                raise InputError(
                    f"{metric} was measured differently: {name} is {said[0][1]!r} for {said[0][0]}"
                    f" and {other[1]!r} for {other[0]}. Evaluate one of them again, or leave"
                    f" {metric} out with --metrics."
                )
