"""CirrMRI600+ with its quirks: doubled folders, and a patient's T1 and T2 in different published
splits."""

import json
from pathlib import Path

import pytest

from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.datasets.cirrmri600 import DATASET, cirrmri600_studies
from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import image_like, write_image
from tests.dataset_conversion.conftest import COARSE, T1_GRID, T2_GRID, ball

GRIDS = {"T1": T1_GRID, "T2": T2_GRID}


def add(root: Path, modality: str, part: str, pid: str, *, doubled: bool = False) -> None:
    name, grid = f"Cirrhosis_{modality}_3D", GRIDS[modality]
    folder = root / name / name if doubled else root / name
    mask = ball(grid, (0, 0, 0))
    write_image(
        image_like((mask * 100.0).astype("float32"), grid),
        folder / f"{part}_images" / f"{pid}.nii.gz",
    )
    write_image(image_like(mask, grid), folder / f"{part}_masks" / f"{pid}.nii.gz")


@pytest.fixture
def cirrmri(tmp_path: Path) -> Path:
    """Patients 1, 2, 10 and 33 have both images, 4 only T1, 5 only T2; the T1 folder is doubled."""
    root = tmp_path / "CirrMRI600+"
    for pid, t1, t2 in [
        ("1", "train", "test"),
        ("2", "valid", "valid"),
        ("10", "test", "train"),
        ("33", "train", "train"),
    ]:
        add(root, "T1", t1, pid, doubled=True)
        add(root, "T2", t2, pid)
    add(root, "T1", "train", "4", doubled=True)
    add(root, "T2", "valid", "5")
    junk = root / "__MACOSX" / "Cirrhosis_T2_3D" / "train_images" / "._1.nii.gz"
    junk.parent.mkdir(parents=True)
    junk.touch()
    return root


def test_pid_links_t1_and_t2_across_the_published_splits(cirrmri: Path):
    studies = cirrmri600_studies(cirrmri, paired_only=True)
    assert [(study.patient, study.name) for study in studies] == [
        (pid, pid) for pid in ("1", "2", "10", "33")
    ]
    first = studies[0]
    assert [path.parent.name for path in first.images.values()] == ["train_images", "test_images"]
    assert [path.parent.name for path in first.masks.values()] == ["train_masks", "test_masks"]


def test_patients_with_one_of_the_images_are_incomplete_pairs(cirrmri: Path):
    studies = {study.patient: study for study in cirrmri600_studies(cirrmri)}
    assert list(studies) == ["1", "2", "4", "5", "10", "33"]
    assert (set(studies["4"].images), set(studies["4"].masks)) == ({"T1"}, {"T1"})
    assert (set(studies["5"].images), set(studies["5"].masks)) == ({"T2"}, {"T2"})


def test_one_modality_alone_is_refused(cirrmri: Path):
    for path in (cirrmri / "Cirrhosis_T1_3D", cirrmri / "Cirrhosis_T2_3D"):
        with pytest.raises(InputError, match="holds no patients with both images"):
            cirrmri600_studies(path)


def test_the_converted_dataset_is_split_by_patient_anew(cirrmri: Path, raw: Path):
    settings = ConversionSettings(spacing=COARSE)
    studies = cirrmri600_studies(cirrmri, paired_only=True)
    folder = write_dataset(
        studies,
        dataset_id=511,
        name="Cirr",
        settings=settings,
        folds=4,
        processes=1,
        notes=DATASET.notes,
        source_root=cirrmri,
    )
    content = json.loads((folder / "dataset.json").read_text())
    assert (content["numTraining"], content["licence"]) == (4, "CC BY-NC 4.0")
    splits = json.loads((folder / "splits_final.json").read_text())
    assert sorted(case for fold in splits for case in fold["val"]) == [
        f"P00{n}_S1" for n in (1, 2, 3, 4)
    ]
    case = Manifest.load(folder).cases["P001_S1"]
    assert case.patient == "1"
    assert case.sources["T1"].path == "Cirrhosis_T1_3D/Cirrhosis_T1_3D/train_images/1.nii.gz"


def test_a_patient_with_two_images_of_one_kind_is_refused(cirrmri: Path):
    add(cirrmri, "T2", "train", "1")
    with pytest.raises(InputError, match="patient 1 has a second T2 image"):
        cirrmri600_studies(cirrmri)
