"""TotalSegmentator MRI (Akinci D'Antonoli et al. 2025): MR of all body regions and sequences.

Each structure has a mask file of its own.

On disk: `s0001/mri.nii.gz` and `s0001/segmentations/liver.nii.gz`. Most images show other parts of
the body: there the liver's mask is empty, or the file is missing. A missing file says nothing of
the liver, so such an image is never a liver-free one.
"""

from __future__ import annotations

from pathlib import Path

from nnunet_liver_ext.dataset_conversion.folder_search import files_below
from nnunet_liver_ext.dataset_conversion.public_dataset import (
    TEST_IMAGES,
    DatasetOption,
    PublicDataset,
    SegmentationTask,
)
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import array, image_ending, read_mask, stem
from nnunet_liver_ext.studies.study import Study


def totalsegmentator_mri_studies(
    root: Path, *, liver_free: bool = False, test_images: bool = False
) -> list[Study]:
    """All images below a folder that show some liver, sorted by name.

    Args:
        root: folder, searched at any depth.
        liver_free: images whose liver mask is there and empty too; the writer must allow empty
            masks then.
        test_images: images without a liver mask too.

    Raises:
        InputError: there are none, two subjects have one name, or a mask cannot be read.
    """
    subjects = _subjects(Path(root))
    masks = {name: _liver_mask(image.parent) for name, image in subjects.items()}
    studies = []
    for name, image in subjects.items():
        mask = masks[name]
        if mask is None:
            studies += [Study(name, name, {"MR": image}, {})] if test_images else []
        elif liver_free or array(read_mask(mask)).any():
            studies.append(Study(name, name, {"MR": image}, {"MR": mask}))
    if not studies:
        raise InputError(
            f"{root}: none of {len(subjects)} images of TotalSegmentator MRI shows a liver; "
            "expected sNNNN/segmentations/liver.nii.gz beside sNNNN/mri.nii.gz."
        )
    return studies


def _subjects(root: Path) -> dict[str, Path]:
    """Image of each subject, by the name of its folder, sorted."""
    images: dict[str, Path] = {}
    for path in files_below(root):
        if image_ending(path) in (".nii.gz", ".nii") and stem(path) == "mri":
            name = path.parent.name
            if name in images:
                raise InputError(
                    f"{path}: subject {name} is there twice, also as {images[name]}; keep one."
                )
            images[name] = path
    if not images:
        raise InputError(
            f"{root}: holds no TotalSegmentator MRI data; expected sNNNN/mri.nii.gz, at any depth."
        )
    return dict(sorted(images.items()))


def _liver_mask(folder: Path) -> Path | None:
    masks = (folder / "segmentations" / f"liver{ending}" for ending in (".nii.gz", ".nii"))
    return next((mask for mask in masks if mask.is_file()), None)


DATASET = PublicDataset(
    key="totalsegmentator-mri",
    title="TotalSegmentator MRI",
    content="those of 616 MR volumes of all body regions that show the liver, with liver masks",
    expects="sNNNN/mri.nii.gz and sNNNN/segmentations/liver.nii.gz, at any depth",
    licence="CC BY-NC-SA 2.0",
    citation=(
        "Akinci D'Antonoli et al., TotalSegmentator MRI: Robust Sequence-independent Segmentation"
        " of Multiple Anatomic Structures in MRI, Radiology 314(2), 2025, doi:10.1148/radiol.241613"
    ),
    url="https://github.com/wasserth/TotalSegmentator",
    modalities=("MR",),
    tasks={"liver": SegmentationTask(labels={"liver": (1,)})},
    studies=totalsegmentator_mri_studies,
    options=(
        DatasetOption(
            name="liver-free",
            help="Take images whose liver mask is empty too; needs --allow-empty.",
            default=False,
            type=bool,
        ),
        TEST_IMAGES,
    ),
)
