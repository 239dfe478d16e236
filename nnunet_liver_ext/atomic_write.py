"""Writing files: complete or not at all, and over others only if that is asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_liver_ext.errors import InputError


@contextmanager
def atomic_write(path: Path, suffix: str | None = None) -> Iterator[Path]:
    """A temporary file beside `path` to write to, renamed to `path` when the block ends well.

    When the block raises, the temporary file is deleted and `path` stays as it was.

    Args:
        path: the file to write; its folder is made.
        suffix: ending of the temporary file, for writers that look at it; that of `path` by
            default.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=".unfinished_", suffix=path.suffix if suffix is None else suffix
    )
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o666 & ~_umask())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def refuse_existing(out: Path, names: Iterable[str], *, overwrite: bool) -> None:
    """Refuses to replace files unasked, before the work for them begins.

    Args:
        out: folder that is to be written into; it need not exist.
        names: of the files that are to be written.
        overwrite: they may be replaced.

    Raises:
        InputError: `out` is a file, or holds one of the files.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; the results need a folder.")
    there = [name for name in names if (out / name).exists()]
    if there and not overwrite:
        raise InputError(
            f"{out / there[0]} exists: choose another folder, or replace it with --overwrite."
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
