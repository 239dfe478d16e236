"""`nnunet_liver env`: the export line that makes nnU-Net find our trainers."""

from __future__ import annotations

import shlex

import typer


def env() -> None:
    """Print the line that lets nnU-Net find the trainers: eval "$(nnunet_liver env)"."""
    from nnunet_liver_ext.environment import TRAINER_VARIABLE, trainer_search_path

    typer.echo(f"export {TRAINER_VARIABLE}={shlex.quote(trainer_search_path())}")
