"""`nnunet_liver convert`: datasets as nnU-Net raw datasets."""

from __future__ import annotations

from typing import Annotated

import typer

from nnunet_liver_ext.commands.convert import join, synthetic, user_studies
from nnunet_liver_ext.commands.convert.list_datasets import list_datasets
from nnunet_liver_ext.commands.convert.public_datasets import ConvertGroup

app = typer.Typer(cls=ConvertGroup, no_args_is_help=True)
app.command("pairs")(user_studies.pairs)
app.command("images")(user_studies.images)
app.command("phantom")(synthetic.phantom)
app.command("toy")(synthetic.toy)
app.command("join")(join.join)


@app.callback()
def convert(
    listed: Annotated[
        bool,
        typer.Option(
            "--list",
            callback=list_datasets,
            is_eager=True,
            help="Show what is known of the public datasets.",
        ),
    ] = False,
) -> None:
    """Turn T1/T2 pairs or single images into an nnU-Net dataset: your own, synthetic or public."""
