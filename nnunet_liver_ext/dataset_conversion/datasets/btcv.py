"""BTCV, Beyond the Cranial Vault (Landman et al. 2015): portal-venous CT with 13 organs.

On disk: `RawData/Training/img/img0001.nii.gz` and `RawData/Training/label/label0001.nii.gz`,
matched by number; the test images in `RawData/Testing/img` have no masks.
"""

from __future__ import annotations

from pathlib import Path

from nnunet_liver_ext.dataset_conversion.datasets.numbered_files import NumberedFiles
from nnunet_liver_ext.dataset_conversion.public_dataset import TEST_IMAGES, PublicDataset
from nnunet_liver_ext.dataset_conversion.segmentation_tasks import organ_tasks
from nnunet_liver_ext.studies.study import Study

ORGANS = {
    "spleen": 1,
    "right kidney": 2,
    "left kidney": 3,
    "gallbladder": 4,
    "oesophagus": 5,
    "liver": 6,
    "stomach": 7,
    "aorta": 8,
    "inferior vena cava": 9,
    "portal and splenic vein": 10,
    "pancreas": 11,
    "right adrenal gland": 12,
    "left adrenal gland": 13,
}
FILES = NumberedFiles(
    image="img/img([0-9]+)",
    mask="label/label([0-9]+)",
    test_image="testing/img/img([0-9]+)",
    expected="img/imgNNNN.nii.gz with label/labelNNNN.nii.gz",
)


def btcv_studies(root: Path, *, test_images: bool = False) -> list[Study]:
    """All images below a folder, sorted by number; those of the test set on request.

    Raises:
        InputError: as `NumberedFiles.studies`.
    """
    return FILES.studies(root, modality="CT", test_images=test_images)


DATASET = PublicDataset(
    key="btcv",
    title="BTCV abdomen",
    content="30 CT volumes with 13 abdominal organs",
    expects="img/imgNNNN.nii.gz and label/labelNNNN.nii.gz, at any depth",
    licence="terms of use on Synapse, registration needed",
    citation=(
        "Landman et al., MICCAI Multi-Atlas Labeling Beyond the Cranial Vault: Workshop and"
        " Challenge, 2015"
    ),
    url="https://www.synapse.org/Synapse:syn3193805",
    modalities=("CT",),
    tasks=organ_tasks(ORGANS),
    studies=btcv_studies,
    options=(TEST_IMAGES,),
    dataset_name="BTCV",
)
