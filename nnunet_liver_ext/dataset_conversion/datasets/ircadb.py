"""3D-IRCADb-01 (Soler et al. 2010): CT of 20 patients with masks of all structures, as DICOM.

On disk: `3Dircadb1.N/PATIENT_DICOM/image_0`, `image_1`, ... and
`3Dircadb1.N/MASKS_DICOM/<structure>/image_0`, ...; unpacking the zip files may nest
`MASKS_DICOM/MASKS_DICOM`. A mask's slice belongs to the scan's slice of the same file name,
whatever its header says, and every value above 0 is inside. The liver is in `liver`; tumours are in
several folders: `livertumor`, `livertumors`, `livertumor01`, ..., which are united. `tumor`,
`leftsurretumor` and `rightsurretumor` are tumours of other organs. Five patients have no liver
tumour. The patients are volumes 28 to 47 of LiTS: do not test on one what was trained on the other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.flipped_masks import CT, check_not_flipped
from nnunet_liver_ext.dataset_conversion.folder_search import folders_below, is_junk, natural_order
from nnunet_liver_ext.dataset_conversion.public_dataset import PublicDataset
from nnunet_liver_ext.dataset_conversion.segmentation_tasks import LABELS, LIVER_AND_TUMOURS
from nnunet_liver_ext.dataset_conversion.slicewise_masks import read_dicom_slice
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.dicom import grid_of_slices, read_series, read_slice_headers
from nnunet_liver_ext.space.dicom_headers import SliceHeader, is_dicom
from nnunet_liver_ext.space.images import array, image_like
from nnunet_liver_ext.studies.study import Study

PATIENT = re.compile(r"3Dircadb1\.[0-9]+", re.IGNORECASE)
TUMOUR = re.compile(r"livertumou?rs?[_ -]?[0-9]*", re.IGNORECASE)


def ircadb_studies(root: Path) -> list[Study]:
    """All patients below a folder, sorted by number.

    Raises:
        InputError: there are none, one is there twice or without masks, or the zip files in its
            folder were not unpacked.
    """
    folders = _patients(Path(root))
    if not folders:
        raise InputError(
            f"{root}: holds no 3D-IRCADb-01 data; expected 3Dircadb1.N/PATIENT_DICOM and"
            " 3Dircadb1.N/MASKS_DICOM, at any depth."
        )
    ordered = sorted(folders.items(), key=lambda entry: natural_order(entry[0]))
    return [
        Study(name, name, {"CT": _scan_folder(folder)}, {"CT": _mask_folder(folder)})
        for name, folder in ordered
    ]


class IrcadbReader:
    """Reads a scan, and from the folders of masks one label map: 1 liver, 2 tumour."""

    def read_image(self, path: Path) -> sitk.Image:
        return read_series(path)

    def read_mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        slices = read_slice_headers(image_path)
        liver = _read_structure(path / _liver_name(path), slices)
        check_not_flipped(array(image), liver, path / _liver_name(path), CT)
        labels = np.where(liver, LABELS["liver"], 0).astype(np.uint8)
        for folder in find_tumour_folders(path):
            labels[_read_structure(folder, slices)] = LABELS["tumour"]
        return image_like(labels, grid_of_slices(slices))


def find_tumour_folders(masks: Path) -> list[Path]:
    """The folders of liver tumours among those of all structures, sorted."""
    return sorted(
        folder for folder in masks.iterdir() if folder.is_dir() and TUMOUR.fullmatch(folder.name)
    )


def _patients(root: Path) -> dict[str, Path]:
    """Folder of each patient by its name; of nested folders of one name the outermost."""
    by_name: dict[str, Path] = {}
    for folder in [*folders_below(root, "PATIENT_DICOM"), *folders_below(root, "MASKS_DICOM")]:
        above = [
            path
            for path in folder.parents
            if PATIENT.fullmatch(path.name) and path.is_relative_to(root)
        ]
        if above and by_name.setdefault(above[-1].name, above[-1]) != above[-1]:
            raise InputError(
                f"{above[-1]}: patient {above[-1].name} is there twice, also as"
                f" {by_name[above[-1].name]}; keep one."
            )
    return by_name


def _scan_folder(patient: Path) -> Path:
    """The folder with the scan's slices."""
    folders = [
        folder
        for folder in folders_below(patient, "PATIENT_DICOM")
        if any(is_dicom(path) for path in folder.iterdir())
    ]
    return _check_single(folders, patient, "PATIENT_DICOM with DICOM files")


def _mask_folder(patient: Path) -> Path:
    """The folder with a folder for each structure."""
    folders = [folder for folder in folders_below(patient, "MASKS_DICOM") if _liver_name(folder)]
    return _check_single(folders, patient, "MASKS_DICOM with a folder liver")


def _check_single(folders: Sequence[Path], patient: Path, expected: str) -> Path:
    if len(folders) != 1:
        raise InputError(
            f"{patient}: has {len(folders)} folders {expected}, expected one; were all its zip"
            " files unpacked?"
        )
    return folders[0]


def _liver_name(masks: Path) -> str:
    """Name of the liver's folder, "" if there is none."""
    return next(
        (
            folder.name
            for folder in sorted(masks.iterdir())
            if folder.name.lower() == "liver" and folder.is_dir()
        ),
        "",
    )


def _read_structure(folder: Path, slices: Sequence[SliceHeader]) -> np.ndarray:
    """One structure, bool (z, y, x), in the order of the scan's slices.

    Raises:
        InputError: its files are not named as the scan's, have another size, or negative values.
    """
    names = {path.name for path in folder.iterdir() if path.is_file() and not is_junk(path.name)}
    different = sorted(names ^ {header.path.name for header in slices}, key=natural_order)
    if different:
        scan = slices[0].path.parent
        where, there = (scan, folder) if different[0] in names else (folder, scan)
        raise InputError(
            f"{folder}: its files are not named as those of {scan}: {where} has no {different[0]}"
            f" of {there}."
        )
    return np.stack([_read_inside(folder / header.path.name, header.size) for header in slices])


def _read_inside(path: Path, size: tuple[int, int]) -> np.ndarray:
    values = read_dicom_slice(path, size)
    if values.min() < 0:
        raise InputError(f"{path}: holds the value {values.min():g}; a mask has none below 0.")
    return values > 0


DATASET = PublicDataset(
    key="ircadb",
    title="3D-IRCADb-01",
    content="20 CT volumes with liver and, in 15 of them, tumours",
    expects=(
        "3Dircadb1.N/PATIENT_DICOM and 3Dircadb1.N/MASKS_DICOM/liver, livertumor, ..., unpacked, at"
        " any depth"
    ),
    licence="CC BY-NC-ND",
    citation=(
        "Soler et al., 3D image reconstruction for comparison of algorithm database: A patient"
        " specific anatomical and medical image database, IRCAD, Strasbourg, 2010"
    ),
    url="https://www.ircad.fr/research/data-sets/liver-segmentation-3d-ircadb-01/",
    modalities=("CT",),
    tasks=LIVER_AND_TUMOURS,
    studies=ircadb_studies,
    reader=IrcadbReader,
    dataset_name="IRCADb01",
)
