"""Writing files that are either complete or absent."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
