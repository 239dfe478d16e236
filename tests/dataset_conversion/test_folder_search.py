"""Files and folders below a dataset's folder, among folders that are doubled, linked or junk."""

from pathlib import Path

import pytest

from nnunet_liver_ext.dataset_conversion.csv_columns import read_csv_columns
from nnunet_liver_ext.dataset_conversion.folder_search import (
    files_below,
    folders_below,
    natural_order,
)
from nnunet_liver_ext.errors import InputError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def below(root: Path, paths) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_files_are_sorted_folder_by_folder_without_junk(tmp_path: Path):
    touch(tmp_path, "b", "B/2", "a/10", "a/9", "__MACOSX/x", "a/._9", ".DS_Store", ".hidden/x")
    assert below(tmp_path, files_below(tmp_path)) == ["b", "B/2", "a/10", "a/9"]


def test_links_are_followed_once(tmp_path: Path):
    touch(tmp_path / "elsewhere", "scans/a1.nii", "masks/b1.nii")
    root = tmp_path / "root"
    root.mkdir()
    (root / "data").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    assert [path.name for path in files_below(root)] == ["b1.nii", "a1.nii"]
    assert below(root, folders_below(root, "scans")) == ["data/scans"]


def test_folders_of_a_name(tmp_path: Path):
    touch(
        tmp_path,
        "b/Ground/x",
        "a/Ground/Ground/x",
        "__MACOSX/Ground/x",
        ".c/Ground/x",
        "d/Ground.txt",
        "e/Ground",
    )
    assert below(tmp_path, folders_below(tmp_path, "Ground")) == [
        "a/Ground",
        "a/Ground/Ground",
        "b/Ground",
    ]
    assert folders_below(tmp_path / "b" / "Ground", "Ground") == [tmp_path / "b" / "Ground"]


def test_names_are_ordered_by_their_numbers():
    assert sorted(["i10", "I9", "i0011b", "a2"], key=natural_order) == ["a2", "I9", "i10", "i0011b"]


def test_cells_of_some_columns_of_a_csv(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("\ufeffname, patient,more\nx, anna ,1\ny\n", encoding="utf-8")
    assert read_csv_columns(path, ("patient", "name")) == [("anna", "x"), ("", "y")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,who\nx,anna\n", r"a\.csv: needs the columns name, patient, found name, who"),
        (b"", r"a\.csv: needs the columns name, patient, found none"),
        (b"name,patient\n\xff\xfe\xfa,a\n", r"a\.csv: is no readable CSV \('utf-8' codec"),
    ],
)
def test_a_csv_that_is_no_such_table_is_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_csv_columns(tmp_path / "a.csv", ("name", "patient"))
    with pytest.raises(InputError, match=r"b\.csv: is no readable CSV"):
        read_csv_columns(tmp_path / "b.csv", ("name", "patient"))
