"""CHAOS MR (Kavur et al. 2021): in-phase T1 and T2-SPIR of one examination, with masks of both.

On disk: `<id>/T1DUAL/DICOM_anon/{InPhase,OutPhase}/*.dcm`, `<id>/T1DUAL/Ground/*.png`,
`<id>/T2SPIR/DICOM_anon/*.dcm`, `<id>/T2SPIR/Ground/*.png`. T1 masks exist for the in-phase echo
only, whose files have even numbers, so masks and slices are matched by file stem. UIDs were
anonymised file by file and mean nothing. Rows and columns of a mask are those of its slice, not
flipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.flipped_masks import MR, check_not_flipped
from nnunet_liver_ext.dataset_conversion.folder_search import folders_below, is_junk, natural_order
from nnunet_liver_ext.dataset_conversion.public_dataset import (
    DatasetOption,
    PublicDataset,
    SegmentationTask,
)
from nnunet_liver_ext.dataset_conversion.segmentation_tasks import organ_tasks
from nnunet_liver_ext.dataset_conversion.slicewise_masks import read_png_slice
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.dicom import grid_of_slices, read_series, read_slice_headers
from nnunet_liver_ext.space.images import array, image_like
from nnunet_liver_ext.studies.study import Study

ORGANS = {"liver": 1, "right kidney": 2, "left kidney": 3, "spleen": 4}
"""The labels of the masks that `ChaosReader` gives."""
GREY_VALUES = {
    "liver": (55, 70),
    "right kidney": (110, 135),
    "left kidney": (175, 200),
    "spleen": (240, 255),
}
"""Grey values v of each organ in the PNG files, low < v <= high (nominally 63, 126, 189, 252)."""


def chaos_mr_studies(root: Path) -> list[Study]:
    """All examinations below a folder, sorted by number.

    Those without masks (the challenge's test set) are included.

    Raises:
        InputError: there are none.
    """
    folders = [path.parent for path in folders_below(Path(root).absolute(), "T1DUAL")]
    if not folders:
        raise InputError(
            f"{root}: holds no CHAOS MR data; give the folder with <id>/T1DUAL and <id>/T2SPIR"
            " in it."
        )
    return [
        _study(folder) for folder in sorted(folders, key=lambda folder: natural_order(folder.name))
    ]


def organ_labels(organs: Sequence[str]) -> tuple[dict[str, tuple[int, ...]], tuple[int, ...]]:
    """`labels` and `ignored_labels` for some organs; the others become background.

    Raises:
        InputError: an organ that CHAOS does not have.
    """
    unknown = [organ for organ in organs if organ not in ORGANS]
    if unknown:
        raise InputError(f"CHAOS MR has no organ {unknown[0]!r}; choose from {', '.join(ORGANS)}.")
    ignored = tuple(label for organ, label in ORGANS.items() if organ not in organs)
    return {organ: (ORGANS[organ],) for organ in organs}, ignored


class ChaosReader:
    """Reads the slices of a folder and the PNG masks that belong to them."""

    def read_image(self, path: Path) -> sitk.Image:
        return read_series(_series(path), same_uid=False)

    def read_mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        slices = read_slice_headers(_series(image_path), same_uid=False)
        pngs = {png.stem: png for png in path.glob("*.png") if not is_junk(png.name)}
        _check_same_slices(
            path, set(pngs), _series(image_path), {header.path.stem for header in slices}
        )
        labels = np.stack([_read_labels(pngs[header.path.stem], header.size) for header in slices])
        check_not_flipped(array(image), labels == ORGANS["liver"], path, MR)
        return image_like(labels, grid_of_slices(slices))


def _study(folder: Path) -> Study:
    images = {"T1": folder / "T1DUAL" / "DICOM_anon", "T2": folder / "T2SPIR" / "DICOM_anon"}
    grounds = {"T1": folder / "T1DUAL" / "Ground", "T2": folder / "T2SPIR" / "Ground"}
    return Study(
        folder.name,
        folder.name,
        {name: path for name, path in images.items() if path.is_dir()},
        {name: path for name, path in grounds.items() if path.is_dir()},
    )


def _series(folder: Path) -> Path:
    """The folder with the slices: DICOM_anon itself for T2, its in-phase sub-folder for T1."""
    return find_in_phase_folder(folder) if folder.parent.name == "T1DUAL" else folder


def find_in_phase_folder(folder: Path) -> Path:
    """The sub-folder with the in-phase images: of the two echoes that with the longer echo time.

    Raises:
        InputError: there are not two sub-folders, or their echo times are missing or equal.
    """
    echoes = sorted(path for path in folder.glob("*") if path.is_dir() and not is_junk(path.name))
    if len(echoes) != 2:
        raise InputError(
            f"{folder}: expected two folders, InPhase and OutPhase, found {len(echoes)}."
        )
    times = [read_slice_headers(echo, same_uid=False)[0].echo_time_ms for echo in echoes]
    if times[0] is None or times[1] is None or times[0] == times[1]:
        raise InputError(
            f"{folder}: the echo times do not tell which images are in phase ({times[0]} and"
            f" {times[1]} ms)."
        )
    return echoes[0] if times[0] > times[1] else echoes[1]


def _check_same_slices(
    masks: Path, mask_stems: set[str], images: Path, image_stems: set[str]
) -> None:
    if mask_stems == image_stems:
        return
    alone = sorted(image_stems - mask_stems)
    example = (
        f"no mask for {alone[0]}"
        if alone
        else f"no slice for {sorted(mask_stems - image_stems)[0]}"
    )
    raise InputError(
        f"{masks}: holds {len(mask_stems)} PNG masks, {images} {len(image_stems)} slices"
        f" ({example})."
    )


def _read_labels(png: Path, size: tuple[int, int]) -> np.ndarray:
    """Labels (y, x) of one slice."""
    grey = read_png_slice(png, size)
    labels = np.zeros(grey.shape, np.uint8)
    for organ, (low, high) in GREY_VALUES.items():
        labels[(grey > low) & (grey <= high)] = ORGANS[organ]
    unknown = grey[(labels == 0) & (grey != 0)]
    if unknown.size:
        raise InputError(
            f"{png}: holds the grey value {int(unknown[0])}, which stands for no organ."
        )
    return labels


def _examinations(root: Path, organ: Sequence[str] = ()) -> list[Study]:
    return chaos_mr_studies(root)


def _adapt_organs(dataset: PublicDataset, options: Mapping[str, Any]) -> PublicDataset:
    """--organ in place of --task, so a --task beside it is unknown."""
    chosen = options.get("organ") or ()
    if not chosen:
        return dataset
    labels, ignored = organ_labels(chosen)
    return replace(
        dataset,
        tasks={" and ".join(chosen): SegmentationTask(labels=labels, ignored_labels=ignored)},
    )


DATASET = PublicDataset(
    key="chaos-mr",
    title="CHAOS MR",
    content=(
        "in-phase T1 and T2 of 40 healthy abdomens, 20 of them with masks of liver, kidneys and"
        " spleen"
    ),
    expects="<id>/T1DUAL and <id>/T2SPIR, at any depth",
    licence="CC BY-NC-SA 4.0",
    citation=(
        "Kavur et al., CHAOS Challenge, Medical Image Analysis 69:101950, 2021,"
        " doi:10.1016/j.media.2020.101950"
    ),
    url="https://doi.org/10.5281/zenodo.3431873",
    modalities=("T1", "T2"),
    pairs=True,
    tasks=organ_tasks(ORGANS),
    studies=_examinations,
    dataset_name="ChaosMR",
    reader=ChaosReader,
    options=(
        DatasetOption(
            name="organ",
            help="liver, right kidney, left kidney or spleen; repeat; default liver.",
            multiple=True,
        ),
    ),
    adapt=_adapt_organs,
)
