from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from nnunet_liver_ext.environment import (
    PLUGIN_FOLDER,
    TRAINER_VARIABLE,
    dataset_folder,
    enable_trainers,
    nnunet_folder,
    trainer_search_path,
)
from nnunet_liver_ext.errors import InputError


def test_the_plugin_folder_holds_one_file():
    assert [path.name for path in PLUGIN_FOLDER.iterdir() if path.suffix == ".py"] == [
        "nnunet_liver_trainers.py"
    ]


@pytest.mark.parametrize("before", [None, "", " "])
def test_alone_where_nothing_is_set(before: str | None, monkeypatch):
    if before is None:
        monkeypatch.delenv(TRAINER_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(TRAINER_VARIABLE, before)
    assert trainer_search_path() == str(PLUGIN_FOLDER)


def test_appended_to_what_is_set_and_only_once(monkeypatch):
    monkeypatch.setenv(TRAINER_VARIABLE, os.pathsep.join(["/mine", "/yours"]))
    enable_trainers()
    enable_trainers()
    assert os.environ[TRAINER_VARIABLE] == os.pathsep.join(["/mine", "/yours", str(PLUGIN_FOLDER)])


def test_the_printed_line_survives_a_shell(monkeypatch, capsys):
    from nnunet_liver_ext.commands.env import env

    folder = "/a folder/with $HOME and 'quotes'"
    monkeypatch.setenv(TRAINER_VARIABLE, folder)
    env()
    line = capsys.readouterr().out
    assert line.startswith(f"export {TRAINER_VARIABLE}=")
    assert line.count("\n") == 1
    shell = subprocess.run(
        ["sh", "-c", f'{line}printf %s "${TRAINER_VARIABLE}"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout == os.pathsep.join([folder, str(PLUGIN_FOLDER)])


@pytest.mark.parametrize("kind", ["raw", "preprocessed", "results"])
def test_an_unset_folder(kind, monkeypatch):
    monkeypatch.delenv(f"nnUNet_{kind}", raising=False)
    with pytest.raises(InputError, match=f"nnUNet_{kind} is not set"):
        nnunet_folder(kind)
    with pytest.raises(InputError, match=f"nnUNet_{kind} is not set"):
        dataset_folder(501, kind)


@pytest.fixture
def raw(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    for name in ("Dataset007_Small", "Dataset501_Liver", "Dataset502_A", "Dataset502_B"):
        (tmp_path / name).mkdir()
    (tmp_path / "Dataset503_File").write_text("no folder")
    return tmp_path


@pytest.mark.parametrize("dataset", [501, "501", "Dataset501_Liver"])
def test_a_dataset_by_number_and_name(dataset, raw: Path):
    assert dataset_folder(dataset, "raw") == raw / "Dataset501_Liver"


@pytest.mark.parametrize("dataset", [7, "7", "007"])
def test_a_small_number_needs_no_zeros(dataset, raw: Path):
    assert dataset_folder(dataset, "raw") == raw / "Dataset007_Small"


@pytest.mark.parametrize("dataset", [500, "503", "Dataset501", "Dataset999_Liver"])
def test_no_such_dataset(dataset, raw: Path):
    with pytest.raises(InputError, match=f"holds no dataset {dataset}"):
        dataset_folder(dataset, "raw")


def test_two_datasets_of_one_number(raw: Path):
    with pytest.raises(InputError, match=r"2 datasets 502 \(Dataset502_A, Dataset502_B\)"):
        dataset_folder(502, "raw")


def test_what_is_neither_number_nor_name(raw: Path):
    with pytest.raises(InputError, match="'liver' is no dataset"):
        dataset_folder("liver", "raw")
