"""CirrMRI600+ (Jha et al. 2025): T1 and T2 of patients with cirrhosis, not registered, with a liver mask each.

On disk: `Cirrhosis_{T1,T2}_3D/{train,valid,test}_{images,masks}/<pid>.nii.gz`, with folders that may be doubled by
unpacking. The same pid in both is the same patient. The published splits may put a patient's T1 and T2 on different sides,
so they are forgotten and folds are made anew by patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.images import image_ending, stem
from nnunet_liver_ext.studies import Study

PARTS = ("train", "valid", "test")
NOTES = {
    "name": "CirrMRI600+",
    "licence": "CC BY-NC 4.0",
    "reference": "Jha et al., Large Scale MRI Collection and Segmentation of Cirrhotic Liver, Scientific Data 2025, "
    "doi:10.1038/s41597-025-05201-7",
    "release": "https://osf.io/cuk24/",
}


def cirrmri600_studies(root: Path) -> list[Study]:
    """All patients that have both T1 and T2, sorted by pid.

    Raises:
        InputError: the folders are not there, no patient has both, or a patient has two images of one kind.
    """
    images, masks = _files(Path(root), "images"), _files(Path(root), "masks")
    paired = sorted(images["T1"].keys() & images["T2"].keys(), key=lambda pid: (len(pid), pid))
    if not paired:
        raise InputError(
            f"{root}: holds no patients with both images; expected Cirrhosis_T1_3D/train_images/PID.nii.gz and the same "
            "PID in Cirrhosis_T2_3D, each in any of train, valid and test."
        )
    return [
        Study(
            pid,
            pid,
            {modality: images[modality][pid] for modality in ("T1", "T2")},
            {modality: masks[modality][pid] for modality in ("T1", "T2") if pid in masks[modality]},
        )
        for pid in paired
    ]


def unpaired_patients(root: Path) -> list[str]:
    """pids that have only one of T1 and T2, so `cirrmri600_studies` leaves them out."""
    images = _files(Path(root), "images")
    return sorted(images["T1"].keys() ^ images["T2"].keys(), key=lambda pid: (len(pid), pid))


def _files(root: Path, kind: str) -> dict[str, dict[str, Path]]:
    """By modality and pid."""
    found: dict[str, dict[str, Path]] = {"T1": {}, "T2": {}}
    for modality, files in found.items():
        for path in _below(root, modality, kind):
            pid = stem(path)
            if pid in files:
                raise InputError(f"{path}: patient {pid} has a second {modality} {kind[:-1]}, {files[pid]}; keep one.")
            files[pid] = path
    return found


def _below(root: Path, modality: str, kind: str) -> Iterator[Path]:
    for part in PARTS:
        for folder in sorted(root.rglob(f"{part}_{kind}")):
            inside = folder.relative_to(root.parent).parts
            if f"Cirrhosis_{modality}_3D" in inside and "__MACOSX" not in inside and folder.is_dir():
                yield from (path for path in sorted(folder.iterdir()) if image_ending(path) and path.name[0] != ".")
