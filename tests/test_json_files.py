from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.json_files import read_json


def test_content(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"Hänsch": [1, null]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"Hänsch": [1, None]}


def test_missing_and_damaged_files_are_one_sentence(tmp_path: Path):
    with pytest.raises(InputError, match=r"a\.json: no such file\.$"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"^convert first$"):
        read_json(tmp_path / "a.json", missing="convert first")
    (tmp_path / "a.json").write_bytes(b"\xff{")
    with pytest.raises(InputError, match=r"a\.json: is no valid JSON \(.*\)\.$"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match=r"is no valid JSON \(.*\); write it again\.$"):
        read_json(tmp_path / "a.json", remedy="write it again")
