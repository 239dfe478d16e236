"""Duke Liver Dataset (DLDS, Macdonald et al. 2023): 2146 MR series of 105 patients.

310 series have liver masks.

On disk: `Segmentation/0001/<series>/images/*.dicom` and `.../masks/*.dicom` for the series with
masks, and in an archive of its own `Series_Classification/0001/<series>/*.dicom` for all series;
unpacking may double folders. `SegmentationKey.csv` and `SeriesClassificationKey.csv` say by a
letter what a series shows (`duke_series.SEQUENCES`). `duke_masks` has the masks' quirks.

Two series of a patient show one body in two breath-holds, not registered: a pair. Masks are on
T1-weighted series only (B 85, C 3, E 2, G 82, H 54, K 83, O 1). So a pair with two masks has two T1
contrasts, by default before contrast agent and portal venous; `--t1 B --t2 A` pairs T1 with T2,
which has no masks. G and H are echoes of one acquisition, hence aligned. Of several series of one
sort each with a mask makes a study, together with the series of the other sort that is nearest in
number, those with a mask first. With `--layout images` each series with a mask is an ordinary
image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_liver_ext.dataset_conversion.datasets.duke_masks import DukeReader
from nnunet_liver_ext.dataset_conversion.datasets.duke_series import SEQUENCES, Series, find_series
from nnunet_liver_ext.dataset_conversion.public_dataset import (
    DatasetOption,
    PublicDataset,
    SegmentationTask,
)
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.study import Study


def duke_pairs(root: Path, t1: str, t2: str) -> list[Study]:
    """Pairs of series, chosen by their letters.

    A series with a mask whose patient has none of the other sort is a study by itself.

    Raises:
        InputError: there is no key, or no series of the two sorts has a mask.
    """
    names, all_series = contrast_names(t1, t2), find_series(root)
    if not any(series.letter for series in all_series):
        raise InputError(
            f"{root}: has no SegmentationKey.csv, which says what each series shows; put it beside"
            " the series."
        )
    by_patient: dict[str, list[Series]] = {}
    for series in all_series:
        by_patient.setdefault(series.patient, []).append(series)
    studies = [
        _study(names, pair)
        for of_patient in by_patient.values()
        for pair in _match_series(
            [series for series in of_patient if series.letter == t1],
            [series for series in of_patient if series.letter == t2],
        )
    ]
    if not studies:
        raise InputError(
            f"{root}: no series {t1} or {t2} has a mask; {_describe_masked(all_series)}."
        )
    return studies


def duke_images(root: Path, sequence: Sequence[str] = ()) -> list[Study]:
    """Each series with a mask as a study; those of some letters only, if any are given.

    Raises:
        InputError: there are none.
    """
    all_series = find_series(root)
    studies = [
        Study(series.patient, series.name, {"MR": series.images}, {"MR": series.masks})
        for series in all_series
        if series.masks and (not sequence or series.letter in sequence)
    ]
    if not studies:
        wanted = f"no series {' or '.join(sequence)}" if sequence else "no series"
        raise InputError(f"{root}: {wanted} has a mask; {_describe_masked(all_series)}.")
    return studies


def contrast_names(t1: str, t2: str) -> tuple[str, str]:
    """Names of image 1 and image 2: "T1" and "T2" if they are that, else those of their contrasts.

    Raises:
        InputError: not two different letters of `SEQUENCES`.
    """
    if t1 not in SEQUENCES or t2 not in SEQUENCES or t1 == t2:
        known = ", ".join(f"{letter} ({name})" for letter, name in SEQUENCES.items())
        raise InputError(f"--t1 {t1} --t2 {t2}: give two different ones of {known}.")
    first, second = SEQUENCES[t1], SEQUENCES[t2]
    return (first, second) if first[:2] == second[:2] else (first[:2], second[:2])


def _match_series(
    first: Sequence[Series], second: Sequence[Series]
) -> Iterator[tuple[Series | None, Series | None]]:
    """Matches one patient's series of two sorts.

    Each series of the first sort with a mask is matched with the nearest of the second sort; if
    none has a mask, each of the second sort that has one is matched with the nearest of the first.
    """
    for series in first:
        if series.masks:
            yield series, _nearest_series(series, second)
    if not any(series.masks for series in first):
        for series in second:
            if series.masks:
                yield _nearest_series(series, first), series


def _nearest_series(series: Series, others: Sequence[Series]) -> Series | None:
    """The series that is nearest in number; those with a mask come first."""
    return min(
        others,
        key=lambda other: (other.masks is None, abs(other.number - series.number), other.number),
        default=None,
    )


def _study(names: tuple[str, str], pair: tuple[Series | None, Series | None]) -> Study:
    by_name = {name: series for name, series in zip(names, pair, strict=True) if series is not None}
    images = {name: series.images for name, series in by_name.items()}
    masks = {name: series.masks for name, series in by_name.items() if series.masks}
    all_series = list(by_name.values())
    study_name = "-".join(series.name for series in all_series)
    return Study(all_series[0].patient, study_name, images, masks)


def _describe_masked(all_series: Sequence[Series]) -> str:
    """What is said of the series that have masks."""
    letters = sorted({series.letter or "unnamed" for series in all_series if series.masks})
    return f"those with masks are {', '.join(letters)}" if letters else "no series in it has one"


def _studies(root: Path, *, layout: str, t1: str, t2: str, sequence: Sequence[str]) -> list[Study]:
    root = Path(root).absolute()
    return duke_pairs(root, t1, t2) if layout == "pairs" else duke_images(root, sequence)


def _adapt_layout(dataset: PublicDataset, options: Mapping[str, Any]) -> PublicDataset:
    """The entry for --layout, --t1 and --t2."""
    given = {
        option.argument: options.get(option.argument) or option.default
        for option in dataset.options
    }
    if given["layout"] == "images":
        return replace(dataset, modalities=("MR",), pairs=False)
    if given["sequence"]:
        raise InputError(
            "--sequence goes with --layout images; pairs are chosen with --t1 and --t2."
        )
    return replace(dataset, modalities=contrast_names(given["t1"], given["t2"]), pairs=True)


DATASET = PublicDataset(
    key="duke",
    title="Duke Liver Dataset",
    content="310 MR series with liver masks: pairs of two contrasts, or images",
    expects=(
        "Segmentation/0001/<series>/{images,masks}/*.dicom, at any depth; for pairs"
        " SegmentationKey.csv too"
    ),
    licence="on request, under the terms of the release",
    citation=(
        "Macdonald et al., Duke Liver Dataset: A Publicly Available Liver MRI Dataset with Liver"
        " Segmentation Masks and Series Labels, Radiology: Artificial Intelligence, 2023,"
        " doi:10.1148/ryai.220275"
    ),
    url="https://doi.org/10.5281/zenodo.7774566",
    modalities=contrast_names("B", "K"),
    pairs=True,
    tasks={"liver": SegmentationTask(labels={"liver": (1,)})},
    studies=_studies,
    reader=DukeReader,
    options=(
        DatasetOption(
            name="layout",
            help="pairs of two series, or each series with a mask as an image.",
            default="pairs",
            choices=("pairs", "images"),
        ),
        DatasetOption(
            name="t1",
            help="Image 1 of a pair, by its letter in the key.",
            default="B",
            choices=tuple(SEQUENCES),
        ),
        DatasetOption(
            name="t2",
            help="Image 2 of a pair; A is T2, which has no masks.",
            default="K",
            choices=tuple(SEQUENCES),
        ),
        DatasetOption(
            name="sequence",
            help="With images: a letter to take; repeat. [default: all]",
            choices=tuple(SEQUENCES),
            multiple=True,
        ),
    ),
    dataset_name="DukeLiver",
    adapt=_adapt_layout,
)
