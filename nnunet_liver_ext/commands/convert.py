"""`nnunet_liver convert`: datasets as nnU-Net raw datasets."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Turn a dataset into an nnU-Net raw dataset.")
