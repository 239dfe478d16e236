"""What a reader of results should know beside failures: what is missing, case by case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.files.case_files import CaseFiles
from nnunet_liver_ext.evaluation.measuring.one_case import CaseResult
from nnunet_liver_ext.evaluation.options import Options


def missing_image_notes(
    cases: Sequence[CaseFiles], kind: Literal["image", "fat"]
) -> list[CaseFailure]:
    """Notes on cases without an image, or without one of the fat fraction."""
    reason = {
        "image": "no image was found; its picture in the report is grey.",
        "fat": "no image of the fat fraction was found.",
    }[kind]
    return [CaseFailure(str(case.key), reason) for case in cases if getattr(case, kind) is None]


def lesion_class_notes(results: Sequence[CaseResult], options: Options) -> list[CaseFailure]:
    """Notes on classes of lesions that no case has.

    They are needed where no dataset.json names the classes, so that a wrong name is not noticed
    before.
    """
    measured = {name for result in results for name in result.values}
    return [
        CaseFailure(name, "no case has this class, so there are no lesions.")
        for name in options.lesions
        if name not in measured
    ]


def lone_image_notes(cases: Sequence[CaseFiles], modalities: Sequence[str]) -> list[CaseFailure]:
    """Notes on images without a partner, where others have one."""
    keys = [case.key for case in cases if case.key.modality in modalities]
    images = Counter(key.case for key in keys)
    return [
        CaseFailure(str(key), "the other image of the pair is missing: no relative similarity.")
        for key in keys
        if images[key.case] == 1
    ]
