"""Reading JSON that a user may have lost or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nnunet_liver_ext.errors import InputError


def read_json(path: Path, *, missing: str | None = None, remedy: str | None = None) -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.
        missing: the sentence for a file that is not there; by default that there is no such file.
        remedy: what to do about a damaged file, for the message.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(missing or f"{path}: no such file.") from None
    except ValueError as error:
        advice = f"; {remedy}" if remedy else ""
        raise InputError(f"{path}: is no valid JSON ({error}){advice}.") from None
