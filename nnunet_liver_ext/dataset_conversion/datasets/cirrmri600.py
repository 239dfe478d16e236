"""CirrMRI600+ (Jha et al. 2025): unregistered T1 and T2 of patients with cirrhosis.

Each image has a liver mask.

On disk: `Cirrhosis_{T1,T2}_3D/{train,valid,test}_{images,masks}/<pid>.nii.gz`, with folders that
may be doubled by unpacking. The same pid in both is the same patient. The published splits may put
a patient's T1 and T2 on different sides, so they are forgotten and folds are made anew by patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nnunet_liver_ext.dataset_conversion.folder_search import folders_below, is_junk, natural_order
from nnunet_liver_ext.dataset_conversion.public_dataset import (
    DatasetOption,
    PublicDataset,
    SegmentationTask,
)
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import image_ending, stem
from nnunet_liver_ext.studies.study import Study

PARTS = ("train", "valid", "test")


def cirrmri600_studies(root: Path, *, paired_only: bool = False) -> list[Study]:
    """All patients, sorted by pid; many have both T1 and T2, some only one of them.

    Args:
        root: folder, searched at any depth.
        paired_only: leave out patients with only one of the images.

    Raises:
        InputError: the folders are not there, no patient has both, or a patient has two images of
            one kind.
    """
    images, masks = (
        _files_by_modality(Path(root), "images"),
        _files_by_modality(Path(root), "masks"),
    )
    paired = images["T1"].keys() & images["T2"].keys()
    if not paired:
        raise InputError(
            f"{root}: holds no patients with both images; expected"
            " Cirrhosis_T1_3D/train_images/PID.nii.gz and the same PID in Cirrhosis_T2_3D, each in"
            " any of train, valid and test."
        )
    chosen = paired if paired_only else images["T1"].keys() | images["T2"].keys()
    return [
        Study(
            pid,
            pid,
            {
                modality: images[modality][pid]
                for modality in ("T1", "T2")
                if pid in images[modality]
            },
            {modality: masks[modality][pid] for modality in ("T1", "T2") if pid in masks[modality]},
        )
        for pid in sorted(chosen, key=natural_order)
    ]


def _files_by_modality(root: Path, kind: str) -> dict[str, dict[str, Path]]:
    """The files of a kind ("images" or "masks"), by modality and pid."""
    by_modality: dict[str, dict[str, Path]] = {"T1": {}, "T2": {}}
    for modality, files in by_modality.items():
        for path in _find_files(root, modality, kind):
            pid = stem(path)
            if pid in files:
                raise InputError(
                    f"{path}: patient {pid} has a second {modality} {kind[:-1]}, {files[pid]}; keep"
                    " one."
                )
            files[pid] = path
    return by_modality


def _find_files(root: Path, modality: str, kind: str) -> Iterator[Path]:
    for part in PARTS:
        for folder in folders_below(root, f"{part}_{kind}"):
            inside = folder.relative_to(root.parent).parts
            if f"Cirrhosis_{modality}_3D" in inside:
                yield from (
                    path
                    for path in sorted(folder.iterdir())
                    if image_ending(path) and not is_junk(path.name)
                )


DATASET = PublicDataset(
    key="cirrmri600",
    title="CirrMRI600+",
    content="T1 and T2 of 291 patients with cirrhosis, not registered, with liver masks",
    expects=(
        "Cirrhosis_T1_3D and Cirrhosis_T2_3D with {train,valid,test}_{images,masks}/PID.nii.gz, at"
        " any depth"
    ),
    licence="CC BY-NC 4.0",
    citation=(
        "Jha et al., Large Scale MRI Collection and Segmentation of Cirrhotic Liver, Scientific"
        " Data 2025, doi:10.1038/s41597-025-05201-7"
    ),
    url="https://osf.io/cuk24/",
    modalities=("T1", "T2"),
    pairs=True,
    tasks={"liver": SegmentationTask(labels={"liver": (1,)})},
    studies=cirrmri600_studies,
    dataset_name="CirrMRI600",
    options=(
        DatasetOption(
            name="paired-only",
            help="Leave out patients who have only one of T1 and T2.",
            default=False,
            type=bool,
        ),
    ),
)
