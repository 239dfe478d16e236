"""The paragraph about methods for a paper: what was measured, how, and whom to cite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.absent_objects import count_presence, describe_absent
from nnunet_liver_ext.evaluation.agreement import FATTY_LIVER_PERCENT
from nnunet_liver_ext.evaluation.files.find_label_maps import NO_MODALITY
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.report.sections.citations import CITATIONS
from nnunet_liver_ext.evaluation.results.results_json import versions
from nnunet_liver_ext.evaluation.tidy_table import image_rows


@dataclass(frozen=True)
class MethodsText:
    """Paragraphs with citations in brackets, and the list of these."""

    paragraphs: list[str]
    references: list[str]

    @property
    def text(self) -> str:
        """All of it as plain text."""
        return "\n\n".join([*self.paragraphs, "References\n" + "\n".join(self.references)])


def describe_evaluation(
    table: pd.DataFrame,
    options: Options,
    failures: Sequence[CaseFailure],
    details: Mapping[str, pd.DataFrame],
) -> MethodsText:
    """What an evaluation's numbers are; only what is in the table is described."""
    return number_references(
        [" ".join(part) for part in _parts(table, options, failures, details) if part]
    )


def number_references(paragraphs: list[str]) -> MethodsText:
    """The paragraphs with numbers for the names of `CITATIONS` in brackets, as they first come."""
    text = "\n".join(paragraphs)
    order = sorted(
        (name for name in CITATIONS if f"[{name}]" in text),
        key=lambda name: text.index(f"[{name}]"),
    )
    for number, name in enumerate(order, start=1):
        paragraphs = [paragraph.replace(f"[{name}]", f"[{number}]") for paragraph in paragraphs]
    return MethodsText(
        paragraphs, [f"{number}. {CITATIONS[name]}" for number, name in enumerate(order, start=1)]
    )


def name_software() -> str:
    """Name and versions of what measured."""
    others = versions()
    version = others.pop("nnunet_liver_ext")
    numbers = ", ".join(f"{name} {number}" for name, number in others.items())
    return f"nnunet_liver_ext {version} ({numbers})"


def _parts(
    table: pd.DataFrame,
    options: Options,
    failures: Sequence[CaseFailure],
    details: Mapping[str, pd.DataFrame],
) -> Iterator[list[str]]:
    metrics = set(table["metric"])
    presence = count_presence(image_rows(table)).values()
    absent = any(of_object.is_absent_somewhere for of_object in presence)
    yield [*_material(table, failures), *_overlap(metrics, options, absent=absent)]
    yield [*_volumes(metrics), *_fat(metrics, options), *_lesions(metrics, options)]
    yield [*_raters(metrics, details), *_pairs(metrics, options), *_summary(metrics)]


def _material(table: pd.DataFrame, failures: Sequence[CaseFailure]) -> Iterator[str]:
    images = image_rows(table)
    cases, patients = images["case"].nunique(), images["patient"].nunique()
    counts = [
        f"{modality}: {rows['case'].nunique()}"
        for modality, rows in images.groupby("modality", sort=False)
    ]
    of_modality = f" ({', '.join(counts)})" if set(images["modality"]) != {NO_MODALITY} else ""
    of_patients = f" of {patients} patients" if patients != cases else ""
    classes = ", ".join(
        name if not name.isdecimal() else f"label {name}" for name in images["class"].unique()
    )
    yield (
        f"Predicted masks of {cases} case{'s' * (cases != 1)}{of_patients}{of_modality} were"
        f" compared with their references on the references' grids with {name_software()},"
        f" following Metrics Reloaded [metrics_reloaded]. Classes: {classes}."
    )
    if failures:
        yield (
            f"{len(failures)} could not be evaluated and {'is' if len(failures) == 1 else 'are'} in"
            " none of the numbers."
        )


def _overlap(metrics: set[str], options: Options, *, absent: bool) -> Iterator[str]:
    yield "Overlap was measured by the Dice coefficient in voxels."
    if options.resample:
        yield "Predictions on other grids were interpolated to those of their references."
    if "hd95" in metrics:
        beyond = "background"
        if options.convention == "chaos":
            beyond = "taken as a continuation of the mask, as CHAOS does [chaos]"
        yield (
            "The border of a mask is its 6-connected inner border, with voxel centres in mm; what"
            f" lies beyond the volume is {beyond}."
        )
    for metric in METRICS.values():
        if metric.methods_sentence and metric.name in metrics:
            yield metric.methods_sentence.format(**options.to_json())
    if "hd95" in metrics:
        yield (
            "Two empty masks have a Dice of 1 and distances of 0, one empty mask a Dice of 0 and"
            " infinite distances; infinite values are in no mean and are counted beside it."
        )
    else:
        yield "Two empty masks have a Dice of 1, one empty mask of 0."
    if absent:
        yield describe_absent(options.empty)


def _volumes(metrics: set[str]) -> Iterator[str]:
    if "volume_difference" not in metrics:
        return
    yield (
        "Volumes are voxels times voxel volume; differences are prediction minus reference, with 95"
        " % limits of agreement (mean ± 1.96 standard deviations) [bland_altman]."
    )


def _fat(metrics: set[str], options: Options) -> Iterator[str]:
    if "fat_mean_difference" not in metrics:
        return
    margin = (
        f" without a margin of {options.fat_margin_mm:g} mm along its border"
        if options.fat_margin_mm
        else ""
    )
    yield (
        f"The fat fraction is the mean of its image over the mask{margin}; more than"
        f" {FATTY_LIVER_PERCENT} % is taken for a fatty liver [fatty_liver]."
    )


def _lesions(metrics: set[str], options: Options) -> Iterator[str]:
    if "lesion_f1" not in metrics:
        return
    yield (
        f"Lesions ({', '.join(options.lesions)}) are 26-connected pieces. Reference and predicted"
        " lesions were assigned to each other, several to several if need be, so that the sum of"
        f" their Dice is largest; a correspondence with a Dice above {options.min_lesion_dice:g}"
        " counts as found [hansch]. Sizes are diameters of spheres of the same volume."
    )


def _raters(metrics: set[str], details: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    if "uncertainty_aware_score" not in metrics:
        return
    names = []
    if "raters" in details:
        rows = details["raters"]
        names = sorted(
            set(map(str, rows["second"])) | set(map(str, rows["first"])) - {"prediction"}
        )
    several = f"{len(names)} raters" if names else "Several raters"
    yield (
        f"{several} drew the references; what depends on the reference is the mean over them. The"
        " uncertainty-aware score is φ = max(1 − 0.1·ε(prediction, raters) / ε(raters), 0) with"
        " the mean discrepancy ε = 1 − Dice; 0.9 is a prediction as far from the raters as these"
        " are from one another [hansch]."
    )


def _pairs(metrics: set[str], options: Options) -> Iterator[str]:
    if "relative_similarity_prediction" not in metrics:
        return
    yield (
        "The relative similarity D_S of the two masks of a pair is their highest Dice after a"
        f" transform of the first ({options.similarity}), on the pair's common grid [similarity];"
        " pairs with an empty mask were left out. Predictions and references were compared by the"
        " Wilcoxon signed-rank test. The Dice of both masks without registration says how far the"
        " organ has moved, that of the first prediction after this transform with the second"
        " reference how well it was followed."
    )
    if "registered_dice" in metrics:
        yield (
            "The Dice of the first mask, moved by the model's own deformation, with the second"
            " reference was measured as well."
        )


def _summary(metrics: set[str]) -> Iterator[str]:
    yield (
        "Results are mean ± standard deviation (n − 1) and median with range over the cases with a"
        " finite value."
    )
    yield (
        "Cases were marked for review if Dice or HD95 had a robust z beyond 3.5 on the bad side"
        " [outliers], or if a mask was empty, in several pieces, mostly on the patient's left or"
        " outside the body."
    )
