"""The report of an evaluation: summary, plots, every case, and a paragraph on methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.absent_objects import (
    count_presence,
    describe_absent,
    leave_out_absent,
)
from nnunet_liver_ext.evaluation.files.case_files import CaseFiles
from nnunet_liver_ext.evaluation.files.described_labels import Classes
from nnunet_liver_ext.evaluation.files.find_label_maps import NO_MODALITY, ImageKey
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.object_names import label
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.report.html_page import write_page
from nnunet_liver_ext.evaluation.report.pictures.case_picture import Picture
from nnunet_liver_ext.evaluation.report.pictures.picture_plan import (
    PicturePlan,
    draw_pictures,
    plan_pictures,
)
from nnunet_liver_ext.evaluation.report.plots.evaluation_plots import plot_groups
from nnunet_liver_ext.evaluation.report.sections.case_sections import (
    CaseSection,
    make_case_sections,
)
from nnunet_liver_ext.evaluation.report.sections.case_table import (
    make_anchors,
    make_case_table,
    rank_cases,
)
from nnunet_liver_ext.evaluation.report.sections.evaluation_methods import describe_evaluation
from nnunet_liver_ext.evaluation.report.sections.summary_cards import (
    collect_spreads,
    make_cards,
    make_pair_cards,
)
from nnunet_liver_ext.evaluation.results.flags import ORGAN, Flag, describe_empty, find_flags
from nnunet_liver_ext.evaluation.results.pair_summary import (
    further_cells,
    further_headings,
    pair_cells,
)
from nnunet_liver_ext.evaluation.results.results_json import conventions, versions
from nnunet_liver_ext.evaluation.tidy_table import empty_masks, group_rows, image_rows, pair_rows

Pictures = list[tuple[str, str, Picture | str]]
"""What stands in a case's section: modality, headline, and the picture or why there is none."""


def write_report(
    table: pd.DataFrame,
    path: Path,
    *,
    cases: Sequence[CaseFiles],
    classes: Classes | None,
    options: Options,
    pairs: Sequence[dict[str, Any]] = (),
    failures: Sequence[CaseFailure] = (),
    notes: Sequence[CaseFailure] = (),
    details: Mapping[str, pd.DataFrame] | None = None,
    processes: int | None = None,
) -> None:
    """Draws the pictures and writes the report beside `path`, then renames it.

    Args:
        table: as `results_table.results_table` makes it.
        path: of the HTML file.
        cases: the files behind the table, for the pictures.
        classes: labels of each class by name, or None to draw every label.
        options: how it was measured.
        pairs: how similar the masks of a pair are, as `pair_summary.summarise_pairs`.
        failures: what could not be evaluated; listed on top.
        notes: what else the reader should know.
        details: lesions and raters, as `results_table.details_tables`.
        processes: how many pictures are drawn at a time; by default as many as there are processors
            and work for.

    Raises:
        InputError: a process that drew pictures was killed.
    """
    table, details = sort_rows(table, options), details or {}
    images, of_pairs = image_rows(table), pair_rows(table)
    counting = leave_out_absent(table, options.empty)
    presence = count_presence(images)
    flags = find_flags(table, failures, options)
    anchors = make_anchors(table, flags)
    sections = make_case_sections(table, flags, anchors, notes, details)
    plan = _plan_pictures(images, cases, flags)
    drawn = draw_pictures(plan, classes, processes)
    write_page(
        "evaluation.html.j2",
        path,
        number_of_cases=images["case"].nunique(),
        number_of_patients=images["patient"].nunique(),
        modalities=[name for name in images.modality.unique() if name != NO_MODALITY],
        tolerance_mm=f"{options.tolerance_mm:g}" if "surface_dice" in set(images.metric) else "",
        similarity=options.similarity,
        cards=make_cards(counting, failures, flags, presence),
        absent_note=(
            describe_absent(options.empty)
            if any(of_object.is_absent_somewhere for of_object in presence.values())
            else ""
        ),
        measures=collect_spreads(image_rows(counting)),
        pairs=[
            (label(row["modality"], row["class"]), [*pair_cells(row), *further_cells(row)])
            for row in pairs
        ],
        pair_headings=further_headings(pairs),
        pair_cards=make_pair_cards(table, pairs),
        pair_table=make_case_table(of_pairs, [], anchors, "pairs"),
        plot_groups=plot_groups(counting, details),
        case_table=make_case_table(images, flags, anchors, "cases"),
        look_first=_look_first(images),
        number_flagged=len({flag.key.case for flag in flags}),
        case_sections=[(section, _choose_pictures(section, images, drawn)) for section in sections],
        picture_note=plan.note,
        several_raters=any(len(case.references) > 1 for case in cases),
        methods=describe_evaluation(table, options, failures, details),
        conventions=conventions(options),
        options={name: _option_text(value) for name, value in options.to_json().items()},
        versions=versions(),
        failures=failures,
        notes=_group_notes(notes, empty_masks(table), options),
        anchors=anchors,
        label=label,
    )


def sort_rows(table: pd.DataFrame, options: Options) -> pd.DataFrame:
    """Rows by modality (pairs last), then class (liver first, lesions last), then as they were."""

    def rank(modality: str, name: str) -> tuple[bool, str, bool, bool]:
        return modality in pairs, modality, name in options.lesions, name.lower() != ORGAN

    pairs = set(pair_rows(table)["modality"])
    objects = sorted(
        (key for key, _ in group_rows(table, ["modality", "class"])), key=lambda key: rank(*key)
    )
    place = {key: number for number, key in enumerate(objects)}
    places = [place[key] for key in zip(table["modality"], table["class"], strict=True)]
    return table.iloc[np.argsort(places, kind="stable")].reset_index(drop=True)


def _group_notes(
    notes: Sequence[CaseFailure], empty: Sequence[Mapping[str, str]], options: Options
) -> list[tuple[list[str], str]]:
    """What there is to say, and of which cases."""
    said: dict[str, list[str]] = {}
    for row in empty:
        text = f"{describe_empty(row['empty'], options.empty)}."
        said.setdefault(text, []).append(f"{row['case']}, {label(row['modality'], row['class'])}")
    for note in notes:
        said.setdefault(note.reason, []).append(note.case)
    return [(cases, text) for text, cases in said.items()]


def _plan_pictures(
    images: pd.DataFrame, cases: Sequence[CaseFiles], flags: Sequence[Flag]
) -> PicturePlan:
    measured = {ImageKey(*names) for names, _ in group_rows(images, ["case", "modality"])}
    ranked = {
        ImageKey(case, modality)
        for modality in images.modality.unique()
        for _, case, _ in rank_cases(images, modality)
    }
    return plan_pictures(
        [case for case in cases if case.key in measured], ranked, {flag.key for flag in flags}
    )


def _choose_pictures(
    section: CaseSection, images: pd.DataFrame, drawn: Mapping[ImageKey, Picture | str]
) -> Pictures:
    rows_of_case = images[images["case"] == section.name]
    return [
        (
            "" if modality == NO_MODALITY else modality,
            _write_headline(rows),
            drawn[ImageKey(case, modality)],
        )
        for (case, modality), rows in group_rows(rows_of_case, ["case", "modality"])
        if ImageKey(case, modality) in drawn
    ]


def _write_headline(rows: pd.DataFrame) -> str:
    parts = []
    for name, measured in rows.groupby("class", sort=False):
        values = dict(zip(measured["metric"], measured["value"], strict=True))
        numbers = [
            f"{METRICS[metric].title} {METRICS[metric].format(values[metric])}{unit}"
            for metric, unit in (("dice", ""), ("hd95", " mm"))
            if metric in values
        ]
        parts.append(f"{label(NO_MODALITY, str(name))} {', '.join(numbers)}")
    return " · ".join(parts)


def _option_text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    if value is None:
        return "none"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _look_first(images: pd.DataFrame) -> list[tuple[str, list[tuple[str, str, str]]]]:
    return [
        (
            "" if modality == NO_MODALITY else modality,
            [
                (rank, case, METRICS["dice"].format(dice))
                for rank, case, dice in rank_cases(images, modality)
            ],
        )
        for modality in images.modality.unique()
    ]
