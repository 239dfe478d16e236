"""Duke Liver Dataset, DLDS (Macdonald et al. 2023): 2146 MR series of 105 patients, 310 of them
with liver masks.

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
from nnunet_liver_ext.dataset_conversion.datasets.duke_series import SEQUENCES, Series, duke_series
from nnunet_liver_ext.dataset_conversion.public_dataset import (
    DatasetOption,
    PublicDataset,
    SegmentationTask,
)
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.study import Study


def duke_pairs(root: Path, t1: str, t2: str) -> list[Study]:
    """Pairs of series by their letters; a series with a mask whose patient has none of the other
    sort is a study by itself.

    Raises:
        InputError: there is no key, or no series of the two sorts has a mask.
    """
    names, series = modalities(t1, t2), duke_series(root)
    if not any(one.letter for one in series):
        raise InputError(
            f"{root}: has no SegmentationKey.csv, which says what each series shows; put it beside"
            " the series."
        )
    by_patient: dict[str, list[Series]] = {}
    for one in series:
        by_patient.setdefault(one.patient, []).append(one)
    studies = [
        _study(names, pair)
        for own in by_patient.values()
        for pair in _pairs(
            [one for one in own if one.letter == t1], [one for one in own if one.letter == t2]
        )
    ]
    if not studies:
        raise InputError(f"{root}: no series {t1} or {t2} has a mask; {_with_masks(series)}.")
    return studies


def duke_images(root: Path, sequence: Sequence[str] = ()) -> list[Study]:
    """Each series with a mask as a study; those of some letters only, if any are given.

    Raises:
        InputError: there are none.
    """
    series = duke_series(root)
    chosen = [(one, one.masks) for one in series if not sequence or one.letter in sequence]
    studies = [
        Study(one.patient, one.name, {"MR": one.images}, {"MR": masks})
        for one, masks in chosen
        if masks
    ]
    if not studies:
        wanted = f"no series {' or '.join(sequence)}" if sequence else "no series"
        raise InputError(f"{root}: {wanted} has a mask; {_with_masks(series)}.")
    return studies


def modalities(t1: str, t2: str) -> tuple[str, str]:
    """Names of image 1 and image 2: "T1" and "T2" if they are that, else those of their contrasts.

    Raises:
        InputError: not two different letters of `SEQUENCES`.
    """
    if t1 not in SEQUENCES or t2 not in SEQUENCES or t1 == t2:
        known = ", ".join(f"{letter} ({name})" for letter, name in SEQUENCES.items())
        raise InputError(f"--t1 {t1} --t2 {t2}: give two different ones of {known}.")
    first, second = SEQUENCES[t1], SEQUENCES[t2]
    return (first, second) if first[:2] == second[:2] else (first[:2], second[:2])


def _pairs(
    first: Sequence[Series], second: Sequence[Series]
) -> Iterator[tuple[Series | None, Series | None]]:
    """What goes together of one patient's series of both sorts: each of the first sort with a mask,
    else of the second."""
    for one in [one for one in first if one.masks]:
        yield one, _partner(one, second)
    if not any(one.masks for one in first):
        for one in [one for one in second if one.masks]:
            yield _partner(one, first), one


def _partner(series: Series, others: Sequence[Series]) -> Series | None:
    return min(
        others,
        key=lambda one: (one.masks is None, abs(one.number - series.number), one.number),
        default=None,
    )


def _study(names: tuple[str, str], pair: tuple[Series | None, Series | None]) -> Study:
    found = {name: one for name, one in zip(names, pair, strict=True) if one is not None}
    series = list(found.values())
    images = {name: one.images for name, one in found.items()}
    masks = {name: one.masks for name, one in found.items() if one.masks}
    return Study(series[0].patient, "-".join(one.name for one in series), images, masks)


def _with_masks(series: Sequence[Series]) -> str:
    letters = sorted({one.letter or "unnamed" for one in series if one.masks})
    return f"those with masks are {', '.join(letters)}" if letters else "no series in it has one"


def _studies(root: Path, *, layout: str, t1: str, t2: str, sequence: Sequence[str]) -> list[Study]:
    root = Path(root).absolute()
    return duke_pairs(root, t1, t2) if layout == "pairs" else duke_images(root, sequence)


def _in_layout(dataset: PublicDataset, options: Mapping[str, Any]) -> PublicDataset:
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
    return replace(dataset, modalities=modalities(given["t1"], given["t2"]), pairs=True)


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
    modalities=modalities("B", "K"),
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
    adapt=_in_layout,
)
