"""Files are either complete or absent."""

from pathlib import Path

import pytest

from nnunet_liver_ext.atomic_write import atomic_write


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "result.csv"
    path.write_text("old")
    with pytest.raises(OSError, match="disk"), atomic_write(path) as unfinished:
        unfinished.write_text("half")
        raise OSError("no space left on disk")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.csv"]
