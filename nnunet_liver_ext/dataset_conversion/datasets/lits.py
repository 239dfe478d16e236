"""LiTS (Bilic et al. 2023) and Task03 of the Medical Segmentation Decathlon: CT of liver tumours.

On disk: LiTS `volume-N.nii` and `segmentation-N.nii`, in folders that differ between copies; the
decathlon `imagesTr/liver_N.nii.gz` and `labelsTr/liver_N.nii.gz`, the same cases under the same
numbers. The liver is 1 and 2 together. Files are matched by their number.

Volumes 28 to 47 are the 20 patients of 3D-IRCADb-01, with an identity affine in place of the
scanner's: their voxels count as 1 mm cubes, which they are not, and nobody says which way they are
turned. Masks fit them voxel by voxel, so they can be trained on, as is usual, but lengths and
volumes in them are wrong. They are found by their headers, not by their numbers, and bear
`UNKNOWN_VOXEL_SIZE` as the name of their study in pairs.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.datasets.numbered_files import (
    NumberedFiles,
    check_label_names,
)
from nnunet_liver_ext.dataset_conversion.image_reader import put_on_image_grid
from nnunet_liver_ext.dataset_conversion.public_dataset import (
    TEST_IMAGES,
    DatasetOption,
    PublicDataset,
)
from nnunet_liver_ext.dataset_conversion.segmentation_tasks import LIVER_AND_TUMOURS
from nnunet_liver_ext.errors import InputError, last_line
from nnunet_liver_ext.space.grid import Grid
from nnunet_liver_ext.space.images import array, image_like, read_image, read_mask
from nnunet_liver_ext.studies.study import Study

UNKNOWN_VOXEL_SIZE = "unknown-voxel-size"
REMARK = (
    f'Cases whose study is "{UNKNOWN_VOXEL_SIZE}" in pairs.json have an identity affine: voxels of'
    " 1 mm and an orientation that are not true, so lengths and volumes in them are wrong. They"
    " are patients of 3D-IRCADb-01: do not test on one what was trained on the other."
)
LITS_FILES = NumberedFiles(
    image="volume-([0-9]+)",
    mask="segmentation-([0-9]+)",
    test_image="test-volume-([0-9]+)",
    expected="volume-N.nii with segmentation-N.nii",
)
MSD_FILES = NumberedFiles(
    image="imagesTr/liver_([0-9]+)",
    mask="labelsTr/liver_([0-9]+)",
    test_image="imagesTs/liver_([0-9]+)",
    expected="imagesTr/liver_N.nii.gz with labelsTr/liver_N.nii.gz",
)


def lits_studies(
    root: Path, *, identity_affine: str = "keep", test_images: bool = False
) -> list[Study]:
    """All volumes of LiTS, sorted by number.

    Args:
        root: folder, searched at any depth.
        identity_affine: "keep" or "leave-out" volumes whose voxel size is not known.
        test_images: the 70 volumes without segmentations too.

    Raises:
        InputError: as `NumberedFiles.studies`, or a header cannot be read.
    """
    studies = LITS_FILES.studies(root, modality="CT", test_images=test_images)
    return _mark_unknown_voxel_sizes(studies, identity_affine)


def msd_liver_studies(
    root: Path, *, identity_affine: str = "keep", test_images: bool = False
) -> list[Study]:
    """All volumes of Task03_Liver, sorted by number; arguments and errors as for `lits_studies`.

    Raises:
        InputError: also if dataset.json gives the liver another number.
    """
    studies = MSD_FILES.studies(root, modality="CT", test_images=test_images)
    check_label_names([study.images["CT"] for study in studies], {"liver": 1, "cancer": 2})
    return _mark_unknown_voxel_sizes(studies, identity_affine)


class LitsReader:
    """Reads files as they are.

    A mask with an identity affine is taken to lie on its image voxel by voxel.
    """

    def read_image(self, path: Path) -> sitk.Image:
        return read_image(path)

    def read_mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        mask = read_mask(path)
        if mask.GetSize() == image.GetSize() and has_identity_affine(Grid.from_image(mask)):
            return image_like(array(mask), Grid.from_image(image))
        return put_on_image_grid(mask, path, image, image_path)


def has_identity_affine(grid: Grid) -> bool:
    """Whether a grid comes from a header without the scanner's geometry.

    Such grids have voxels of 1 mm from (0, 0, 0) on, along the axes.
    """
    return (
        np.allclose(grid.spacing, 1, atol=1e-6)
        and np.allclose(grid.origin, 0, atol=1e-6)
        and np.allclose(np.abs(grid.direction), np.eye(3).flatten(), atol=1e-6)
    )


def _mark_unknown_voxel_sizes(studies: list[Study], identity_affine: str) -> list[Study]:
    """The studies with those of unknown voxel size marked, or without them."""
    marked = []
    for study in studies:
        if not has_identity_affine(_read_grid(study.images["CT"])):
            marked.append(study)
        elif identity_affine == "keep":
            marked.append(replace(study, study=UNKNOWN_VOXEL_SIZE))
    return marked


def _read_grid(path: Path) -> Grid:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(
            f"{path}: cannot be read, it is damaged or incomplete ({last_line(error)})."
        ) from None
    return Grid(
        reader.GetSize()[:3],
        reader.GetSpacing()[:3],
        reader.GetOrigin()[:3],
        reader.GetDirection()[:9],
    )


def _adapt_remark(dataset: PublicDataset, options: Mapping[str, Any]) -> PublicDataset:
    """Volumes that are left out need no remark."""
    return replace(dataset, remark="") if options.get("identity_affine") == "leave-out" else dataset


DATASET = PublicDataset(
    key="lits",
    title="LiTS",
    content="131 CT volumes with liver and tumours; 20 of them (28 to 47) without their voxel size",
    expects="volume-N.nii and segmentation-N.nii, at any depth",
    licence="CC BY-NC-ND 4.0",
    citation=(
        "Bilic et al., The Liver Tumor Segmentation Benchmark (LiTS), Medical Image Analysis"
        " 84:102680, 2023, doi:10.1016/j.media.2022.102680"
    ),
    url="https://competitions.codalab.org/competitions/17094",
    modalities=("CT",),
    tasks=LIVER_AND_TUMOURS,
    studies=lits_studies,
    reader=LitsReader,
    options=(
        DatasetOption(
            name="identity-affine",
            help=(
                "Volumes whose header has an identity affine in place of voxel size and"
                " orientation: keep or leave-out."
            ),
            default="keep",
            choices=("keep", "leave-out"),
        ),
        TEST_IMAGES,
    ),
    dataset_name="LiTS",
    adapt=_adapt_remark,
    remark=REMARK,
)
MSD_LIVER = replace(
    DATASET,
    key="msd-liver",
    title="Medical Segmentation Decathlon, Task03 Liver",
    content="the 131 CT volumes of LiTS under the decathlon's names and licence",
    expects="imagesTr/liver_N.nii.gz and labelsTr/liver_N.nii.gz, at any depth",
    licence="CC BY-SA 4.0",
    citation=(
        "Antonelli et al., The Medical Segmentation Decathlon, Nature Communications 13:4128, 2022,"
        " doi:10.1038/s41467-022-30695-9"
    ),
    url="http://medicaldecathlon.com",
    studies=msd_liver_studies,
    dataset_name="MSDLiver",
)
