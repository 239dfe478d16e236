"""SLIVER07 (Heimann et al. 2009): 20 CT volumes with liver masks.

On disk: `liver-orig001.mhd` and `liver-seg001.mhd` with a `.raw` beside each, side by side or in
folders of their own; the challenge's test set has images of the same names without masks, in
folders whose names begin with "test". Every value above 0 is liver. The headers of the masks do not
all repeat the geometry of the scan, so it is taken from the scan.
"""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.datasets.numbered_files import NumberedFiles
from nnunet_liver_ext.dataset_conversion.public_dataset import (
    TEST_IMAGES,
    PublicDataset,
    SegmentationTask,
)
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.grid import Grid
from nnunet_liver_ext.space.images import array, image_like, read_image, read_mask
from nnunet_liver_ext.studies.study import Study

FILES = NumberedFiles(
    image="liver-orig([0-9]+)",
    mask="liver-seg([0-9]+)",
    test_image="test[^/]*/(?:.*/)?liver-orig([0-9]+)",
    expected="liver-origNNN.mhd with liver-segNNN.mhd",
)


def sliver07_studies(root: Path, *, test_images: bool = False) -> list[Study]:
    """All scans below a folder, sorted by number; those of the test set on request.

    Raises:
        InputError: as `NumberedFiles.studies`.
    """
    return FILES.studies(root, modality="CT", test_images=test_images)


class SliverReader:
    """Reads scans as they are, and masks voxel by voxel: their own geometry is not looked at."""

    def read_image(self, path: Path) -> sitk.Image:
        return read_image(path)

    def read_mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        mask, grid = read_mask(path), Grid.from_image(image)
        if mask.GetSize() != grid.size:
            mask_size, image_size = (
                "x".join(map(str, size)) for size in (mask.GetSize(), grid.size)
            )
            raise InputError(
                f"{path}: has {mask_size} voxels, its scan {image_path.name} {image_size}; one is"
                " another case's."
            )
        return image_like(array(mask) > 0, grid)


DATASET = PublicDataset(
    key="sliver07",
    title="SLIVER07",
    content="20 CT volumes with liver masks",
    expects="liver-origNNN.mhd and liver-segNNN.mhd, each with its .raw, at any depth",
    licence="terms of the challenge: research only, registration needed",
    citation=(
        "Heimann et al., Comparison and Evaluation of Methods for Liver Segmentation From CT"
        " Datasets, IEEE Transactions on Medical Imaging 28(8):1251-1265, 2009,"
        " doi:10.1109/TMI.2009.2013851"
    ),
    url="https://sliver07.grand-challenge.org",
    modalities=("CT",),
    tasks={"liver": SegmentationTask(labels={"liver": (1,)})},
    studies=sliver07_studies,
    reader=SliverReader,
    options=(TEST_IMAGES,),
)
