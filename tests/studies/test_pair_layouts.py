from pathlib import Path

import pytest

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.study import Study
from nnunet_liver_ext.studies.study_layouts import read_studies


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_csv_gives_studies_with_paths_relative_to_it(tmp_path: Path):
    touch(tmp_path / "a" / "t1.nii.gz", tmp_path / "a" / "t2.nrrd", tmp_path / "a" / "m1.nii.gz")
    (tmp_path / "b" / "T1_dicom").mkdir(parents=True)
    csv = tmp_path / "studies.csv"
    csv.write_text(
        "Patient, study ,T1,t2,t1_mask,t2_mask\nben, 2022,b/T1_dicom,,,\nanna,2021,"
        " a/t1.nii.gz,a/t2.nrrd,a/m1.nii.gz,\n"
    )
    anna, ben = read_studies(csv)
    a = tmp_path / "a"
    assert anna == Study(
        "anna", "2021", {"T1": a / "t1.nii.gz", "T2": a / "t2.nrrd"}, {"T1": a / "m1.nii.gz"}
    )
    assert ben == Study("ben", "2022", {"T1": tmp_path / "b" / "T1_dicom"}, {})
    assert (anna.name, ben.name) == ("anna_2021", "ben_2022")


def test_what_files_a_study_has():
    paths = {name: Path(f"{name}.nii") for name in ("T1", "mask", "liver", "second")}
    study = Study(
        "a", "1", {"T1": paths["T1"]}, {"liver": paths["liver"]}, {"bea": {"T1": paths["second"]}}
    )
    assert study.files() == {
        "T1": paths["T1"],
        "liver mask": paths["liver"],
        "rater bea of T1": paths["second"],
    }
    assert not study.is_labelled
    assert Study("a", "1", {"T1": paths["T1"]}, {"T1": paths["mask"]}).is_labelled


def test_names_are_safe_and_not_doubled():
    assert Study("a/b c", "1:2", {}, {}).name == "a-b-c_1-2"
    assert Study("anna", "anna", {}, {}).name == "anna"


@pytest.mark.parametrize("column", ["patient", "study"])
def test_patient_or_study_alone_names_both(tmp_path: Path, column: str):
    touch(tmp_path / "t1.nii.gz")
    (tmp_path / "s.csv").write_text(f"{column},t1\n007,t1.nii.gz\n")
    (study,) = read_studies(tmp_path / "s.csv")
    assert (study.patient, study.study, study.name) == ("007", "007", "007")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("t1,t2\na.nii.gz,b.nii.gz\n", "neither a column patient nor study"),
        ("patient,image\nanna,a.nii.gz\n", "no image column"),
        (
            "patient,t1\nanna,a.nii.gz\nben,nothing.nii.gz\n",
            r"row 3: nothing\.nii\.gz does not exist",
        ),
        ("patient,t1\nanna,\n", "row 2: study anna has no image"),
        ("patient,t1\n,a.nii.gz\n", "row 2: neither patient nor study"),
        (
            "patient,study,t1\nanna,1,a.nii.gz\nanna,1,a.nii.gz\n",
            "two studies have the same name 'anna_1'",
        ),
        (
            "patient,study,t1\na b,1,a.nii.gz\na-b,1,a.nii.gz\n",
            "two studies have the same name 'a-b_1'",
        ),
        (
            "patient,t1,t1 mask\nanna,a.nii.gz,b.nii.gz\n",
            "column 't1 mask' is probably t1_mask; rename it",
        ),
        ("patient,t1\n", "holds no studies"),
        ("", "no readable CSV"),
        ('patient,t1\n"anna,a.nii.gz\n', "no readable CSV"),
    ],
)
def test_what_is_wrong_in_a_csv_is_said(tmp_path: Path, content: str, message: str):
    touch(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_studies(tmp_path / "s.csv")


def test_files_side_by_side(tmp_path: Path):
    files = [tmp_path / f"p_1_{part}.nii.gz" for part in ("T1", "T2", "T1_mask", "T2_mask")]
    lone = tmp_path / "q_t2.mha"
    touch(*files, lone, tmp_path / "notes_T1.txt", tmp_path / "._p_1_T1.nii.gz")
    p, q = read_studies(tmp_path)
    assert p == Study(
        "p_1", "p_1", {"T1": files[0], "T2": files[1]}, {"T1": files[2], "T2": files[3]}
    )
    assert q == Study("q", "q", {"T2": lone}, {})


def test_nnunet_names(tmp_path: Path):
    touch(tmp_path / "case_0000.nii.gz", tmp_path / "case_0001.nii.gz")
    (study,) = read_studies(tmp_path)
    assert study.name == "case"
    assert {modality: path.name for modality, path in study.images.items()} == {
        "T1": "case_0000.nii.gz",
        "T2": "case_0001.nii.gz",
    }


def test_a_folder_for_each_study(tmp_path: Path):
    touch(
        tmp_path / "anna" / "T1" / "IM1.dcm",
        tmp_path / "anna" / "T2.nii.gz",
        tmp_path / "anna" / "t1_mask.nrrd",
    )
    (tmp_path / "empty").mkdir()
    (study,) = read_studies(tmp_path)
    folder = tmp_path / "anna"
    assert study == Study(
        "anna",
        "anna",
        {"T1": folder / "T1", "T2": folder / "T2.nii.gz"},
        {"T1": folder / "t1_mask.nrrd"},
    )


def test_one_name_in_two_places_of_a_folder_is_refused(tmp_path: Path):
    touch(tmp_path / "anna_T1.nii.gz", tmp_path / "anna" / "T1.nii.gz")
    with pytest.raises(InputError, match="two studies have the same name 'anna'"):
        read_studies(tmp_path)


def test_two_files_for_one_image_are_refused(tmp_path: Path):
    touch(tmp_path / "anna_T1.nii.gz", tmp_path / "anna_T1.nrrd")
    with pytest.raises(InputError, match=r"anna_T1\.nrrd: is a second T1 image"):
        read_studies(tmp_path)


def test_a_mask_without_image_is_refused(tmp_path: Path):
    touch(tmp_path / "anna_T1.nii.gz", tmp_path / "bea_T1_mask.nii.gz")
    with pytest.raises(
        InputError, match=r"bea_T1_mask\.nii\.gz: is a mask, but there is no image of bea"
    ):
        read_studies(tmp_path)


def test_nothing_there(tmp_path: Path):
    with pytest.raises(InputError, match="no such file or folder"):
        read_studies(tmp_path / "nothing.csv")
    with pytest.raises(InputError, match="holds no studies"):
        read_studies(tmp_path)


def test_predictions_in_a_sub_folder_are_no_study(tmp_path: Path):
    for name in ("a_T1", "a_T2", "masks/a_T1", "masks/a_T2"):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "masks" / "prediction.json").write_text("{}")
    assert [study.name for study in read_studies(tmp_path)] == ["a"]
