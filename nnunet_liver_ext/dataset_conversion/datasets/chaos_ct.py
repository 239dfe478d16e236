"""CHAOS CT (Kavur et al. 2021): portal-venous CT of 40 liver donors, 20 of them with liver masks.

On disk: `CT/<id>/DICOM_anon/*.dcm` and `CT/<id>/Ground/liver_GT_000.png`, ... A mask's number is
the rank of its slice among the NAMES of the DICOM files (`i0000,0000b.dcm`, or
`IMG-0002-00001.dcm`, which counts from 1), not along z: in the examination seen z falls with the
name. So masks are given to slices by rank first, and both are then sorted by position.
SliceThickness says 3.2 mm there and the positions 2.0 mm; positions count. UIDs are not to be
relied on. Masks have one bit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.flipped_masks import CT, check_not_flipped
from nnunet_liver_ext.dataset_conversion.folder_search import folders_below, is_junk, natural_order
from nnunet_liver_ext.dataset_conversion.public_dataset import (
    TEST_IMAGES,
    PublicDataset,
    SegmentationTask,
)
from nnunet_liver_ext.dataset_conversion.slicewise_masks import rank_names, read_png_slice
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.dicom import grid_of_slices, read_series, read_slice_headers
from nnunet_liver_ext.space.images import array, image_like
from nnunet_liver_ext.studies.study import Study

MASK_NAME = re.compile(r"liver_GT_([0-9]+)\.png", re.IGNORECASE)
MR_SEQUENCES = ("T1DUAL", "T2SPIR")
"""Folders of CHAOS MR between <id> and DICOM_anon."""


def chaos_ct_studies(root: Path, *, test_images: bool = False) -> list[Study]:
    """All examinations below a folder, sorted by number.

    Those without masks (the challenge's test set) are taken on request.

    Raises:
        InputError: there are none.
    """
    series = [
        path
        for path in folders_below(Path(root).absolute(), "DICOM_anon")
        if path.parent.name not in MR_SEQUENCES
    ]
    folders = [path.parent for path in series if test_images or (path.parent / "Ground").is_dir()]
    if not folders:
        raise InputError(
            f"{root}: holds no CHAOS CT data; expected CT/<id>/DICOM_anon with CT/<id>/Ground, at"
            " any depth."
        )
    return [
        _study(folder) for folder in sorted(folders, key=lambda folder: natural_order(folder.name))
    ]


class ChaosCtReader:
    """Reads the slices of a folder and the PNG masks that belong to them by rank."""

    def read_image(self, path: Path) -> sitk.Image:
        return read_series(path, same_uid=False)

    def read_mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        slices = read_slice_headers(image_path, same_uid=False)
        masks = _masks_in_order(path, image_path, len(slices))
        rank_of_name = rank_names(header.path.name for header in slices)
        liver = np.stack(
            [_read_liver(masks[rank_of_name[header.path.name]], header.size) for header in slices]
        )
        check_not_flipped(array(image), liver, path, CT)
        return image_like(liver, grid_of_slices(slices))


def _study(folder: Path) -> Study:
    ground = folder / "Ground"
    masks = {"CT": ground} if ground.is_dir() else {}
    return Study(folder.name, folder.name, {"CT": folder / "DICOM_anon"}, masks)


def _masks_in_order(folder: Path, images: Path, slices: int) -> list[Path]:
    """The PNG of every slice, by rank.

    Raises:
        InputError: they are not numbered through from 0, or there are more or fewer than slices.
    """
    by_number = {
        int(match[1]): path for path in _files(folder) if (match := MASK_NAME.fullmatch(path.name))
    }
    if len(by_number) != slices:
        raise InputError(
            f"{folder}: holds {len(by_number)} masks liver_GT_NNN.png, {images} {slices} slices."
        )
    missing = sorted(set(range(slices)) - by_number.keys())
    if missing:
        raise InputError(
            f"{folder}: has no liver_GT_{missing[0]:03d}.png; masks are expected to count through"
            " from 000."
        )
    return [by_number[number] for number in range(slices)]


def _files(folder: Path) -> Sequence[Path]:
    return [path for path in sorted(folder.iterdir()) if not is_junk(path.name)]


def _read_liver(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Liver (y, x) of one slice, bool."""
    values = read_png_slice(path, size)
    if len(np.unique(values[values != 0])) > 1:
        raise InputError(
            f"{path}: holds several grey values; the masks of CHAOS CT have the liver and nothing"
            " else."
        )
    return values != 0


DATASET = PublicDataset(
    key="chaos-ct",
    title="CHAOS CT",
    content="40 CT volumes of healthy livers, 20 of them with liver masks",
    expects="<id>/DICOM_anon/*.dcm and <id>/Ground/liver_GT_NNN.png, at any depth",
    licence="CC BY-NC-SA 4.0",
    citation=(
        "Kavur et al., CHAOS Challenge, Medical Image Analysis 69:101950, 2021,"
        " doi:10.1016/j.media.2020.101950"
    ),
    url="https://doi.org/10.5281/zenodo.3431873",
    modalities=("CT",),
    tasks={"liver": SegmentationTask(labels={"liver": (1,)})},
    studies=chaos_ct_studies,
    reader=ChaosCtReader,
    options=(TEST_IMAGES,),
)
