"""Values in label maps that are no class: "ignore", padding, an overflow.

Where no dataset.json names the classes, every label that occurs is taken for one. A value that
tools write for "not set" (−1, 255, 65535) would then be a class of which all other cases have two
empty masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.measuring.one_case import CaseResult

NOT_SET = frozenset({2**8 - 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, 2**32 - 1})
"""The highest values of the integer types. A class in masks that hold nothing else (0 and 255)."""


def refuse_stray_labels(
    results: Sequence[CaseResult],
) -> tuple[list[CaseResult], list[CaseFailure]]:
    """The cases without stray labels, and why the others are not evaluated.

    Args:
        results: of label maps without class names; a class is called by its label.
    """
    labels = {int(name) for result in results for name in result.values}
    stray = {label for label in labels if label < 0}
    if labels - NOT_SET - stray:
        stray |= labels & NOT_SET
    kept = [result for result in results if not stray & set(map(int, result.values))]
    failures = [
        CaseFailure(str(result.key), _reason(result, sorted(stray & set(map(int, result.values)))))
        for result in results
        if result not in kept
    ]
    return kept, failures


def _reason(result: CaseResult, stray: Iterable[int]) -> str:
    return (
        " ".join(
            f"the {' and the '.join(_holders(result, label))} holds the label {label}, which is no"
            " class."
            for label in stray
        )
        + " Set it to 0 where it means nothing, or name the classes (a dataset.json, --label)."
    )


def _holders(result: CaseResult, label: int) -> list[str]:
    values = result.values[str(label)]
    return [
        f"{side} ({values[f'volume_{side}']:.2g} ml)"
        for side in ("prediction", "reference")
        if values[f"volume_{side}"] > 0
    ]
