"""CHAOS CT (Kavur et al. 2021): portal-venous CT of 40 liver donors, 20 of them with liver masks.

On disk: `CT/<id>/DICOM_anon/*.dcm` and `CT/<id>/Ground/liver_GT_000.png`, ... A mask's number is the rank of its slice among
the NAMES of the DICOM files (`i0000,0000b.dcm`, or `IMG-0002-00001.dcm`, which counts from 1), not along z: in the
examination seen z falls with the name. So masks are given to slices by rank first, and both are then sorted by position.
SliceThickness says 3.2 mm there and the positions 2.0 mm; positions count. UIDs are not to be relied on. Masks have one bit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.catalogue import PublicDataset, Task
from nnunet_liver_ext.dataset_conversion.datasets.numbered_files import TEST_IMAGES, folders_below, is_junk
from nnunet_liver_ext.dicom import grid_of, read_series, sorted_slices
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.images import array, image_like
from nnunet_liver_ext.studies import Study

MASK_NAME = re.compile(r"liver_GT_([0-9]+)\.png", re.IGNORECASE)
MR_SEQUENCES = ("T1DUAL", "T2SPIR")
"""Folders of CHAOS MR between <id> and DICOM_anon."""
SUSPICIOUS_SPREAD_HU = 100.0
"""Standard deviation of the liver's Hounsfield units. Liver tissue has some tens, and air or lung within a mask hundreds."""
CLEARLY_LESS = 0.8
"""A mirrored mask must have less than this share of the deviation to be the better one."""


def chaos_ct_studies(root: Path, *, test_images: bool = False) -> list[Study]:
    """All examinations below a folder, sorted by number; those without masks (the challenge's test set) on request.

    Raises:
        InputError: there are none.
    """
    series = [path for path in folders_below(root, "DICOM_anon") if path.parent.name not in MR_SEQUENCES]
    folders = [path.parent for path in series if test_images or (path.parent / "Ground").is_dir()]
    if not folders:
        raise InputError(f"{root}: holds no CHAOS CT data; expected CT/<id>/DICOM_anon with CT/<id>/Ground, at any depth.")
    return [_study(folder) for folder in sorted(folders, key=lambda folder: natural_order(folder.name))]


class ChaosCtReader:
    """Reads the slices of a folder and the PNG masks that belong to them by rank."""

    def image(self, path: Path) -> sitk.Image:
        return read_series(path, same_uid=False)

    def mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        slices = sorted_slices(image_path, same_uid=False)
        masks = _masks_in_order(path, image_path, len(slices))
        rank = {name: rank for rank, name in enumerate(sorted((one.path.name for one in slices), key=natural_order))}
        liver = np.stack([_read_png(masks[rank[one.path.name]], one.size) for one in slices])
        check_ct_not_flipped(array(image), liver, path)
        return image_like(liver, grid_of(slices))


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Key that sorts names as people do: 2 before 10, letters without regard to capitals."""
    words = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(word), "") if word[0].isdigit() else (1, 0, word.lower()) for word in words]


def check_ct_not_flipped(image_ZYX: np.ndarray, liver_ZYX: np.ndarray, path: Path) -> None:
    """Refuses a mask of a CT whose mirror image would lie on much more even tissue than itself.

    Raises:
        InputError: the Hounsfield units within the mask have a standard deviation of 100 or more, and within a mirrored mask
            less than 100 and less than 0.8 of it.
    """
    spread = _spread_hu(image_ZYX, liver_ZYX)
    if spread < SUSPICIOUS_SPREAD_HU:
        return
    flips = [axes for count in (1, 2, 3) for axes in combinations(range(3), count)]
    mirrored, best = min((_spread_hu(image_ZYX, np.flip(liver_ZYX, axes)), axes) for axes in flips)
    if mirrored < min(SUSPICIOUS_SPREAD_HU, CLEARLY_LESS * spread):
        names = ", ".join("zyx"[axis] for axis in best)
        raise InputError(
            f"{path}: these masks seem to be flipped along {names}: within them the image has a standard deviation of "
            f"{spread:.0f} HU, and of {mirrored:.0f} HU if they are flipped back; check images and masks of this case."
        )


def _spread_hu(image_ZYX: np.ndarray, mask_ZYX: np.ndarray) -> float:
    """Standard deviation within a mask; 0 if it is empty."""
    values = image_ZYX[mask_ZYX.astype(bool)].astype(float)
    return float(values.std()) if values.size else 0.0


def _study(folder: Path) -> Study:
    ground = folder / "Ground"
    masks = {"CT": ground} if ground.is_dir() else {}
    return Study(folder.name, folder.name, {"CT": folder / "DICOM_anon"}, masks)


def _masks_in_order(folder: Path, images: Path, slices: int) -> list[Path]:
    """The PNG of every slice, by rank.

    Raises:
        InputError: they are not numbered through from 0, or there are more or fewer than slices.
    """
    found = {int(match[1]): path for path in _files(folder) if (match := MASK_NAME.fullmatch(path.name))}
    if len(found) != slices:
        raise InputError(f"{folder}: holds {len(found)} masks liver_GT_NNN.png, {images} {slices} slices.")
    missing = sorted(set(range(slices)) - found.keys())
    if missing:
        raise InputError(f"{folder}: has no liver_GT_{missing[0]:03d}.png; masks are expected to count through from 000.")
    return [found[number] for number in range(slices)]


def _files(folder: Path) -> Sequence[Path]:
    return [path for path in sorted(folder.iterdir()) if not is_junk(path.name)]


def _read_png(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Liver (y, x) of one slice, bool."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise InputError(f"{path}: cannot be read, it is damaged or incomplete.") from None
    if image.GetSize() != size or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(f"{path}: is not a black-and-white image of the size of its slice, {size[0]}x{size[1]}.")
    values = array(image)
    if len(np.unique(values[values != 0])) > 1:
        raise InputError(f"{path}: holds several grey values; the masks of CHAOS CT have the liver and nothing else.")
    return values != 0


DATASET = PublicDataset(
    key="chaos-ct",
    title="CHAOS CT",
    content="40 CT volumes of healthy livers, 20 of them with liver masks",
    expects="<id>/DICOM_anon/*.dcm and <id>/Ground/liver_GT_NNN.png, at any depth",
    licence="CC BY-NC-SA 4.0",
    citation="Kavur et al., CHAOS Challenge, Medical Image Analysis 69:101950, 2021, doi:10.1016/j.media.2020.101950",
    url="https://doi.org/10.5281/zenodo.3431873",
    modalities=("CT",),
    tasks={"liver": Task(labels={"liver": (1,)})},
    studies=chaos_ct_studies,
    reader=ChaosCtReader,
    options=(TEST_IMAGES,),
)
