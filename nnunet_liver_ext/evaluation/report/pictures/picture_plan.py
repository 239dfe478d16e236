"""Which pictures the report has, within a budget of bytes; they are drawn in several processes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from nnunet_liver_ext.console import progress_bar
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.files.case_files import CaseFiles
from nnunet_liver_ext.evaluation.files.described_labels import Classes
from nnunet_liver_ext.evaluation.files.find_label_maps import ImageKey
from nnunet_liver_ext.evaluation.report.pictures.case_picture import (
    LARGE,
    SMALL,
    Picture,
    draw_picture,
)
from nnunet_liver_ext.evaluation.report.pictures.slice_layout import PictureSize
from nnunet_liver_ext.workers import choose_processes, run_in_processes

LARGE_UP_TO = 120  # pictures of some 45 kB
SMALL_UP_TO = 300  # pictures of some 20 kB


@dataclass(frozen=True)
class PicturePlan:
    """What is drawn."""

    cases: Sequence[CaseFiles]
    size: PictureSize
    note: str
    """What the reader should know; empty if every image has a large picture."""


def plan_pictures(
    cases: Sequence[CaseFiles], ranked: Collection[ImageKey], flagged: Collection[ImageKey]
) -> PicturePlan:
    """Large pictures of few images, small ones of more; of many only those that matter.

    Args:
        cases: all of them.
        ranked: worst, median and best.
        flagged: those with a flag.
    """
    if len(cases) <= LARGE_UP_TO:
        return PicturePlan(cases, LARGE, "")
    if len(cases) <= SMALL_UP_TO:
        return PicturePlan(
            cases,
            SMALL,
            f"The pictures of more than {LARGE_UP_TO} images are small, to keep this file small.",
        )
    first = [case for case in cases if case.key in ranked]
    more = [case for case in cases if case.key in flagged and case.key not in ranked]
    chosen = [*first, *more[: max(0, SMALL_UP_TO - len(first))]]
    note = (
        f"There are pictures of {len(chosen)} of the {len(cases)} images, to keep this file"
        " small: those of the worst, median and best cases and of those with a flag."
    )
    left_out = len(first) + len(more) - len(chosen)
    if left_out:
        note += f" {left_out} more flagged images have none."
    return PicturePlan(chosen, LARGE if len(chosen) <= LARGE_UP_TO else SMALL, note)


def draw_pictures(
    plan: PicturePlan, classes: Classes | None, processes: int | None = None
) -> dict[ImageKey, Picture | str]:
    """The picture of each case, or why there is none; a process has one case in memory.

    Args:
        plan: as `plan_pictures`.
        classes: labels of each class by name, or None to draw every label.
        processes: how many draw at a time; by default as `workers.choose_processes`.

    Raises:
        InputError: a process was killed.
    """
    drawn: dict[ImageKey, Picture | str] = {}
    if not plan.cases:
        return drawn
    with progress_bar() as progress:
        task = progress.add_task("Drawing pictures", total=len(plan.cases))
        pictures = run_in_processes(
            partial(draw_or_say_why, classes=classes, size=plan.size),
            plan.cases,
            choose_processes(processes, len(plan.cases)),
            threads=1,
        )
        for index, picture in pictures:
            drawn[plan.cases[index].key] = picture
            progress.advance(task)
    return drawn


def draw_or_say_why(case: CaseFiles, classes: Classes | None, size: PictureSize) -> Picture | str:
    """The picture, or why it cannot be drawn (`CaseFiles.reason`)."""
    try:
        return draw_picture(case, classes, size)
    except (InputError, OSError, MemoryError) as error:
        return case.reason(error)
