"""Files are either complete or absent."""

from pathlib import Path

import pytest

from nnunet_liver_ext.atomic_write import atomic_write, refuse_existing
from nnunet_liver_ext.errors import InputError


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "result.csv"
    path.write_text("old")
    with pytest.raises(OSError, match="disk"), atomic_write(path) as unfinished:
        unfinished.write_text("half")
        raise OSError("no space left on disk")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.csv"]


def test_what_is_there_is_not_replaced_unasked(tmp_path: Path):
    names = ["a.csv", "b.csv"]
    refuse_existing(tmp_path / "new", names, overwrite=False)
    refuse_existing(tmp_path, names, overwrite=False)
    (tmp_path / "b.csv").touch()
    refuse_existing(tmp_path, names, overwrite=True)
    with pytest.raises(InputError, match=r"b\.csv exists: choose another folder"):
        refuse_existing(tmp_path, names, overwrite=False)
    with pytest.raises(InputError, match=r"b\.csv: is a file; the results need a folder\."):
        refuse_existing(tmp_path / "b.csv", names, overwrite=True)
