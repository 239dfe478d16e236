"""ATLAS 2023 (Quinton et al. 2023): T1 MRI of hepatocellular carcinoma, with liver and tumours.

The images are contrast-enhanced.

On disk: `train/imagesTr/imN.nii.gz` and `train/labelsTr/lbN.nii.gz`, N from 0 to 59. Labels exclude
each other: 1 is the liver without its tumours, 2 the tumours, so the liver is 1 and 2 together. The
test set's masks are not public.
"""

from __future__ import annotations

from pathlib import Path

from nnunet_liver_ext.dataset_conversion.datasets.numbered_files import (
    NumberedFiles,
    check_label_names,
)
from nnunet_liver_ext.dataset_conversion.public_dataset import TEST_IMAGES, PublicDataset
from nnunet_liver_ext.dataset_conversion.segmentation_tasks import LIVER_AND_TUMOURS
from nnunet_liver_ext.studies.study import Study

FILES = NumberedFiles(
    image="imagesTr/im([0-9]+)",
    mask="labelsTr/lb([0-9]+)",
    test_image="imagesTs/im([0-9]+)",
    expected="imagesTr/imN.nii.gz with labelsTr/lbN.nii.gz",
)


def atlas_studies(root: Path, *, test_images: bool = False) -> list[Study]:
    """All images below a folder, sorted by number; those of the test set on request.

    Raises:
        InputError: as `NumberedFiles.studies`, or dataset.json numbers the labels otherwise.
    """
    studies = FILES.studies(root, modality="MR", test_images=test_images)
    check_label_names(
        [study.images["MR"] for study in studies], {"liver": 1, "tumor": 2, "tumour": 2}
    )
    return studies


DATASET = PublicDataset(
    key="atlas",
    title="ATLAS 2023",
    content="60 contrast-enhanced T1 MR volumes with liver and tumours (hepatocellular carcinoma)",
    expects="imagesTr/imN.nii.gz and labelsTr/lbN.nii.gz, at any depth",
    licence="CC BY-NC-SA 4.0",
    citation=(
        "Quinton et al., A Tumour and Liver Automatic Segmentation (ATLAS) Dataset on"
        " Contrast-Enhanced Magnetic Resonance Imaging for Hepatocellular Carcinoma, Data 8(5):79,"
        " 2023, doi:10.3390/data8050079"
    ),
    url="https://atlas-challenge.u-bourgogne.fr",
    modalities=("MR",),
    tasks=LIVER_AND_TUMOURS,
    studies=atlas_studies,
    options=(TEST_IMAGES,),
)
