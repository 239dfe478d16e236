"""Files that belong together by number."""

import json
from pathlib import Path

import pytest

from nnunet_liver_ext.dataset_conversion.datasets.numbered_files import (
    NumberedFiles,
    check_label_names,
)
from nnunet_liver_ext.errors import InputError
from tests.dataset_conversion.datasets.conversion import junk
from tests.dataset_conversion.test_folder_search import touch

FILES = NumberedFiles(
    image="scans/a([0-9]+)",
    mask="masks/b([0-9]+)",
    test_image="test/scans/a([0-9]+)",
    expected="scans/aN with masks/bN",
)


def test_numbers_pair_files_across_folders_and_zeros_before_them(tmp_path: Path):
    touch(
        tmp_path,
        "one/scans/a002.nii.gz",
        "one/masks/b2.nii",
        "two/two/scans/A10.nii.gz",
        "two/two/masks/b010.nii.gz",
    )
    touch(tmp_path, "one/scans/notes.txt", "one/scans/extra_a3.nii.gz", "one/scans/a3_old.nii.gz")
    junk(tmp_path / "one" / "scans" / "._a002.nii.gz")
    junk(tmp_path / "__MACOSX" / "one" / "scans" / "a002.nii.gz")
    studies = FILES.studies(tmp_path, modality="CT")
    assert [(study.patient, study.name) for study in studies] == [("a002", "a002"), ("A10", "A10")]
    assert [study.masks["CT"].name for study in studies] == ["b2.nii", "b010.nii.gz"]


def test_images_of_the_test_set_are_taken_on_request_and_named_as_such(tmp_path: Path):
    touch(tmp_path, "scans/a1.nii", "masks/b1.nii", "test/scans/a1.nii")
    assert [study.patient for study in FILES.studies(tmp_path, modality="CT")] == ["a1"]
    both = FILES.studies(tmp_path, modality="CT", test_images=True)
    assert [(study.patient, bool(study.masks)) for study in both] == [
        ("a1", True),
        ("test-a1", False),
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["masks/b1.nii", "scans/a1.nii", "scans/a2.nii"],
            r"a2\.nii: has no mask of number 2 .*expected scans/aN",
        ),
        (["masks/b1.nii", "scans/a1.nii", "masks/b7.nii"], r"b7\.nii: has no image of number 7"),
        (
            ["masks/b1.nii", "scans/a1.nii", "x/scans/a01.nii.gz"],
            r"number 1 is there twice, also as .*scans/a1\.nii; keep one",
        ),
        (["other/a1.nii"], "holds no such data; expected scans/aN with masks/bN"),
        (["test/scans/a1.nii"], "holds no such data"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, names: list[str], message: str):
    touch(tmp_path, *names)
    with pytest.raises(InputError, match=message):
        FILES.studies(tmp_path, modality="CT")


@pytest.mark.parametrize(
    "labels", [{"0": "background", "3": "Liver"}, {"background": 0, "liver": 3}]
)
def test_labels_that_dataset_json_numbers_otherwise_are_refused(tmp_path: Path, labels: dict):
    image = tmp_path / "imagesTr" / "a1.nii"
    check_label_names([image], {"liver": 1})
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    check_label_names([image], {"liver": 3, "spleen": 1})
    with pytest.raises(
        InputError, match=r"dataset\.json: liver is 3 there, expected 1, .*--label liver=3"
    ):
        check_label_names([image], {"liver": 1})


@pytest.mark.parametrize(
    "content", ["{", '{"labels": ["liver"]}', '{"labels": {"liver": [1, 2]}}', "[]", "{}"]
)
def test_a_dataset_json_without_numbers_says_nothing(tmp_path: Path, content: str):
    (tmp_path / "dataset.json").write_text(content)
    check_label_names([tmp_path / "imagesTr" / "a1.nii"], {"liver": 1})
