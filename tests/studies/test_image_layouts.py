from pathlib import Path

import pytest

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.study import Study
from nnunet_liver_ext.studies.study_layouts import read_image_studies


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def files(study: Study) -> dict[str, str]:
    """Names of all files of a study."""
    return {what: path.name for what, path in study.files().items()}


def test_a_csv(tmp_path: Path):
    touch(tmp_path, "a/ct.nii.gz", "a/mask.nrrd", "a/liver.nii.gz", "b/series/1.dcm")
    csv = tmp_path / "studies.csv"
    csv.write_text(
        "patient,study,CT,mask,liver_mask\nanna,1,a/ct.nii.gz,a/mask.nrrd,a/liver.nii.gz\nben,,b/series,,\n"
    )
    anna, ben = read_image_studies(csv, modalities=["CT"])
    a = tmp_path / "a"
    assert anna == Study(
        "anna", "1", {"CT": a / "ct.nii.gz"}, {"CT": a / "mask.nrrd", "liver": a / "liver.nii.gz"}
    )
    assert ben == Study("ben", "ben", {"CT": tmp_path / "b" / "series"}, {})
    assert ben.is_labelled is False


def test_several_channels_in_a_csv(tmp_path: Path):
    touch(tmp_path, "w.nii.gz", "f.nii.gz", "m.nii.gz")
    (tmp_path / "s.csv").write_text(
        "patient,water,Fat,mask,age\nanna,w.nii.gz,f.nii.gz,m.nii.gz,61\n"
    )
    (study,) = read_image_studies(tmp_path / "s.csv", modalities=["water", "fat"])
    assert files(study) == {"water": "w.nii.gz", "fat": "f.nii.gz", "water mask": "m.nii.gz"}


def test_an_only_image_may_be_called_image(tmp_path: Path):
    touch(tmp_path, "a.nii.gz")
    (tmp_path / "s.csv").write_text("patient,image\nanna,a.nii.gz\n")
    assert files(read_image_studies(tmp_path / "s.csv", modalities=["MR"])[0]) == {"MR": "a.nii.gz"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("patient,t1\nanna,a.nii.gz\n", "no image column; expected mr"),
        (
            "patient,mr,liver mask\nanna,a.nii.gz,a.nii.gz\n",
            "column 'liver mask' is probably liver_mask; rename it",
        ),
        ("patient,mr,mask\nanna,a.nii.gz,b.nii.gz\n", r"row 2: b\.nii\.gz does not exist"),
        (
            "patient,mr,image\nanna,a.nii.gz,a.nii.gz\n",
            r"row 2: a\.nii\.gz is a second file for MR",
        ),
        ("patient,mr\n", "holds no studies"),
    ],
)
def test_what_is_wrong_in_a_csv_is_said(tmp_path: Path, content: str, message: str):
    touch(tmp_path, "a.nii.gz")
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_image_studies(tmp_path / "s.csv", modalities=["MR"])


def test_files_side_by_side(tmp_path: Path):
    touch(
        tmp_path,
        "a.nii.gz",
        "a_mask.nii.gz",
        "a_liver_mask.nii.gz",
        "b_liver.nii.gz",
        "b_liver_seg.nii.gz",
    )
    touch(
        tmp_path,
        "c_MR.nrrd",
        "c_MR_label.nrrd",
        "d_0000.nii.gz",
        "d_mask.nii.gz",
        "e/1.dcm",
        "e_mask.nii.gz",
    )
    touch(tmp_path, "._a.nii.gz", "notes.txt")
    studies = {
        study.name: files(study) for study in read_image_studies(tmp_path, modalities=["MR"])
    }
    assert studies == {
        "a": {"MR": "a.nii.gz", "MR mask": "a_mask.nii.gz", "liver mask": "a_liver_mask.nii.gz"},
        "b_liver": {"MR": "b_liver.nii.gz", "MR mask": "b_liver_seg.nii.gz"},
        "c": {"MR": "c_MR.nrrd", "MR mask": "c_MR_label.nrrd"},
        "d": {"MR": "d_0000.nii.gz", "MR mask": "d_mask.nii.gz"},
        "e": {"MR": "e", "MR mask": "e_mask.nii.gz"},
    }


def test_several_channels_side_by_side(tmp_path: Path):
    touch(
        tmp_path,
        "a_water.nii.gz",
        "a_fat.nii.gz",
        "a_mask.nii.gz",
        "b_0000.nii.gz",
        "b_0001.nii.gz",
        "other.nii.gz",
    )
    studies = {
        study.name: files(study)
        for study in read_image_studies(tmp_path, modalities=["water", "fat"])
    }
    assert studies == {
        "a": {"water": "a_water.nii.gz", "fat": "a_fat.nii.gz", "water mask": "a_mask.nii.gz"},
        "b": {"water": "b_0000.nii.gz", "fat": "b_0001.nii.gz"},
    }


def test_a_sub_folder_for_each_study(tmp_path: Path):
    touch(
        tmp_path,
        "anna/image.nii.gz",
        "anna/mask.nii.gz",
        "anna/liver_mask.nii.gz",
        "ben/CT/1.dcm",
        "ben/CT_seg.nrrd",
    )
    touch(tmp_path, "predicted/anna.nii.gz", "predicted/prediction.json", "empty/readme.md")
    studies = {
        study.name: files(study) for study in read_image_studies(tmp_path, modalities=["CT"])
    }
    assert studies == {
        "anna": {"CT": "image.nii.gz", "CT mask": "mask.nii.gz", "liver mask": "liver_mask.nii.gz"},
        "ben": {"CT": "CT", "CT mask": "CT_seg.nrrd"},
    }


def test_a_raw_dataset_of_nnunet(tmp_path: Path):
    touch(
        tmp_path,
        "imagesTr/a_0000.nii.gz",
        "imagesTr/b_0000.nii.gz",
        "labelsTr/a.nii.gz",
        "imagesTs/c_0000.nii.gz",
    )
    touch(tmp_path, "dataset.json")
    studies = {
        study.name: files(study) for study in read_image_studies(tmp_path, modalities=["CT"])
    }
    assert studies == {
        "a": {"CT": "a_0000.nii.gz", "CT mask": "a.nii.gz"},
        "b": {"CT": "b_0000.nii.gz"},
        "c": {"CT": "c_0000.nii.gz"},
    }
    touch(tmp_path, "labelsTr/z.nii.gz")
    with pytest.raises(InputError, match=r"z\.nii\.gz: is a mask, but there is no image of z"):
        read_image_studies(tmp_path, modalities=["CT"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.nii.gz", "b_mask.nii.gz"), r"b_mask\.nii\.gz: is a mask, but there is no image of b"),
        (("a.nii.gz", "a.nrrd"), r"a\.nrrd: is a second MR image beside a\.nii\.gz"),
        (
            ("a.nii.gz", "a_mask.nii.gz", "a_seg.nrrd"),
            r"a_seg\.nrrd: is a second a mask beside a_mask\.nii\.gz",
        ),
        (("a.nii.gz", "a/image.nii.gz"), "two studies have the same name 'a'"),
        ((), "holds no studies; expected NAME.nii.gz"),
    ],
)
def test_folders_that_cannot_be_understood(tmp_path: Path, names: tuple[str, ...], message: str):
    touch(tmp_path, *names)
    with pytest.raises(InputError, match=message):
        read_image_studies(tmp_path, modalities=["MR"])


def test_nothing_there(tmp_path: Path):
    with pytest.raises(InputError, match="no such file or folder"):
        read_image_studies(tmp_path / "nothing", modalities=["MR"])


def test_side_by_side_a_modality_alone_is_the_name_of_a_case(tmp_path: Path):
    touch(tmp_path, "MR.nii.gz", "0000.nii.gz", "0001.nii.gz", "0000_mask.nii.gz")
    studies = read_image_studies(tmp_path, modalities=["MR"])
    assert [study.name for study in studies] == ["0000", "0001", "MR"]
    assert files(studies[0]) == {"MR": "0000.nii.gz", "MR mask": "0000_mask.nii.gz"}
