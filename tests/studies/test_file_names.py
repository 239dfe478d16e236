"""The one rule for names, and what a folder lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_liver_ext.studies.file_names import ListedFolder, name_files, split_name

MODALITIES = ("T1", "T2")


@pytest.mark.parametrize(
    ("name", "numbered", "expected"),
    [
        ("P001_T1", False, ("P001", "T1")),
        ("P001_t2", False, ("P001", "T2")),
        ("P_1_0001", True, ("P_1", "T2")),
        ("liver_0001", False, ("liver_0001", None)),
        ("P001_0002", True, ("P001_0002", None)),
        ("T1", True, ("", "T1")),
        ("0001", True, ("", "T2")),
        ("_T1", False, ("", "T1")),
    ],
)
def test_names(name: str, numbered: bool, expected: tuple[str, str | None]):
    assert split_name(name, MODALITIES, numbered=numbered) == expected


def test_what_a_folder_lists(tmp_path: Path):
    for name in ("b.nii.gz", "a_T1_mask.NRRD", ".c.nii.gz", "notes.txt", "series/1.dcm", "d/e.nii"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    folder = ListedFolder(tmp_path)
    named = name_files(folder.files, MODALITIES, numbered=False)
    assert [(file.name, file.bare_name, file.is_mask) for file in named] == [
        ("a_T1_mask", "a_T1", True),
        ("b", "b", False),
    ]
    assert [file.name for file in folder.files_and_series] == ["a_T1_mask", "b", "series"]
    assert [file.name for file in folder.files_and_folders] == ["a_T1_mask", "b", "d", "series"]
