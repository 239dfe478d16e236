"""`nnunet_liver plan`."""

from __future__ import annotations


def plan() -> None:
    """Not written yet."""
