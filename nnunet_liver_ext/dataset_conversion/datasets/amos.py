"""AMOS22 (Ji et al. 2022): CT and MR of the abdomen with 15 organs.

On disk: `imagesTr/amos_0540.nii.gz` and `labelsTr/amos_0540.nii.gz`, the same with Va (and Ts,
whose masks were kept back). CT and MR lie in the same folders: numbers from 500 on are MR, though
dataset.json speaks of CT alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from nnunet_liver_ext.dataset_conversion.datasets.numbered_files import (
    NumberedFiles,
    check_label_names,
)
from nnunet_liver_ext.dataset_conversion.public_dataset import (
    TEST_IMAGES,
    DatasetOption,
    PublicDataset,
)
from nnunet_liver_ext.dataset_conversion.segmentation_tasks import organ_tasks
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import stem
from nnunet_liver_ext.studies.study import Study

FIRST_MR = 500
"""Number of the first MR image; lower ones are CT."""
CHANNELS = {"mr": "MR", "ct": "CT", "both": "image"}
"""Name of the image's channel by --modality. CT and MR together must not be called CT: nnU-Net
would scale both by the statistics of CT."""
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
    "pancreas": 10,
    "right adrenal gland": 11,
    "left adrenal gland": 12,
    "duodenum": 13,
    "bladder": 14,
    "prostate or uterus": 15,
}
FILES = NumberedFiles(
    image="images(?:Tr|Va)/amos_([0-9]+)",
    mask="labels(?:Tr|Va)/amos_([0-9]+)",
    test_image="imagesTs/amos_([0-9]+)",
    test_mask="labelsTs/amos_([0-9]+)",
    expected="imagesTr/amos_NNNN.nii.gz with labelsTr/amos_NNNN.nii.gz",
)


def amos_studies(root: Path, *, modality: str = "mr", test_images: bool = False) -> list[Study]:
    """The images of a modality below a folder, sorted by number.

    Args:
        root: folder, searched at any depth.
        modality: "mr", "ct" or "both".
        test_images: images of imagesTs that have no mask too.

    Raises:
        InputError: as `NumberedFiles.studies`, none of the modality, or dataset.json numbers the
            liver otherwise.
    """
    channel = CHANNELS[modality]
    studies = FILES.studies(root, modality=channel, test_images=test_images)
    chosen = [study for study in studies if modality in ("both", _modality(study.images[channel]))]
    if not chosen:
        kinds = "MR (numbers from 500 on)" if modality == "mr" else "CT (numbers below 500)"
        raise InputError(f"{root}: holds no {kinds} of AMOS; choose another with --modality.")
    check_label_names([study.images[channel] for study in chosen], {"liver": ORGANS["liver"]})
    return chosen


def _modality(path: Path) -> str:
    """ "mr" or "ct", by the number in the name."""
    return "mr" if int(re.sub(r"\D", "", stem(path))) >= FIRST_MR else "ct"


def _adapt_channel(dataset: PublicDataset, options: Mapping[str, Any]) -> PublicDataset:
    """The entry for --modality: the name of the channel."""
    return replace(dataset, modalities=(CHANNELS[options.get("modality") or "mr"],))


DATASET = PublicDataset(
    key="amos",
    title="AMOS22",
    content="60 MR and 300 CT volumes with 15 abdominal organs; --modality mr, ct or both",
    expects="imagesTr, labelsTr, imagesVa, labelsVa with amos_NNNN.nii.gz, at any depth",
    licence="CC BY-SA 4.0",
    citation=(
        "Ji et al., AMOS: A Large-Scale Abdominal Multi-Organ Benchmark for Versatile Medical Image"
        " Segmentation, NeurIPS Datasets and Benchmarks, 2022, arXiv:2206.08023"
    ),
    url="https://amos22.grand-challenge.org",
    modalities=("MR",),
    tasks=organ_tasks(ORGANS),
    studies=amos_studies,
    options=(
        DatasetOption(
            name="modality", help="mr, ct or both.", default="mr", choices=tuple(CHANNELS)
        ),
        TEST_IMAGES,
    ),
    adapt=_adapt_channel,
)
