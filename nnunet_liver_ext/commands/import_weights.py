"""`nnunet_liver import-weights`: trainings that start from foreign weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import typer

from nnunet_liver_ext.commands.common_options import Overwrite, Trust
from nnunet_liver_ext.commands.option_groups import with_option_groups


@dataclass(frozen=True)
class TargetOptions:
    """The network that is to have the weights."""

    title: ClassVar[str] = "The network that is to have the weights"

    plans: Annotated[
        str,
        typer.Option(
            "-p",
            "--plans",
            help="Whose network is to have the weights: a plans file, or a name with -d.",
        ),
    ]
    configuration: Annotated[
        str, typer.Option("-c", "--configuration", help="Configuration of the plans.")
    ] = "3d_fullres"
    dataset: Annotated[
        str | None,
        typer.Option(
            "-d",
            "--dataset",
            help="Number or name of the dataset, or a dataset.json; by default beside the plans.",
        ),
    ] = None
    trainer: Annotated[
        str | None,
        typer.Option(
            help=(
                "The trainer that will start from it, or one of its strategy; by default single"
                " input for pairs."
            )
        ),
    ] = None
    seed: Annotated[
        int, typer.Option(help="Seed of the weights that FILE does not have.", min=0)
    ] = 0


@with_option_groups()
def import_weights(
    kind: Annotated[
        Literal["models-genesis", "vgg11", "nnunet"], typer.Argument(help="Whose weights they are.")
    ],
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The checkpoint: .pt, .pth or .safetensors.")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="File to write; trainings start from it.")
    ],
    target: TargetOptions,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Take what fits, however little, and from networks of, say, other strides.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    trust: Trust = False,
) -> None:
    """Turn a foreign checkpoint into a start for trainings (recipe: segmentor_checkpoint).

    Nothing in FILE is run: only tensors, numbers and containers are read. A first convolution for
    another number of channels is inflated. Which weights there are, and under which licences:
    docs/weights.md.
    """
    from rich.console import Console

    from nnunet_liver_ext.weights.import_table import import_table, next_steps
    from nnunet_liver_ext.weights.import_weights import import_weights as run_import

    options = {**vars(target), "force": force, "overwrite": overwrite, "trust": trust}
    imported = run_import(kind, file, out, **options)
    console = Console()
    console.print(import_table(imported))
    for note in imported.notes:
        console.print(f"Note: {note}", style="yellow", markup=False)
    for line in next_steps(imported):
        console.print(line, markup=False, soft_wrap=True)
