"""`nnunet_liver postprocess`: largest pieces, where they help; no thin lesions at the border."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnunet_liver_ext.commands.common_options import CasesAtATime, EmptyReferences, Overwrite
from nnunet_liver_ext.commands.option_values import parse_labels

app = typer.Typer(
    no_args_is_help=True,
    help="Keep only the largest piece of a class, or no thin lesions at the liver's border.",
)

BorderKernel = Annotated[
    int, typer.Option(help="Side of the square that the liver is eroded with, mm.")
]
OpeningKernel = Annotated[int, typer.Option(help="Side of the square that opens lesions, mm.")]


@app.command("find")
def find(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Folder of a model with a complete cross-validation."),
    ],
    references: Annotated[
        Path | None,
        typer.Option(
            "--references",
            "-r",
            help="Label maps to measure against, if not those of the training.",
        ),
    ] = None,
    empty: EmptyReferences = "exclude",
    processes: CasesAtATime = None,
    overwrite: Overwrite = False,
) -> None:
    """Try it for each class of each image on the folds' predictions; write what helps to the model.

    A rule is kept if the mean Dice over the cases rises, and rises in at least as many patients as
    it falls. nnunet_liver predict then follows it; docs/crossval.md.
    """
    from rich.console import Console

    from nnunet_liver_ext.postprocessing.largest_piece_search import (
        find_rules,
        rules_file,
        rules_table,
        save_rules,
    )

    rules_file(model, overwrite=overwrite)  # before the work
    rules = find_rules(model, references=references, processes=processes, empty=empty)
    path = save_rules(rules, model, overwrite=overwrite)
    console = Console()
    console.print(rules_table(rules))
    console.print(f"Written to {path}", soft_wrap=True, highlight=False, markup=False)


@app.command("apply")
def apply(
    predictions: Annotated[
        Path,
        typer.Option(
            "--input", "-i", help="Folder of CASE_T1 and CASE_T2 masks, or of joint label maps."
        ),
    ],
    rules: Annotated[
        Path,
        typer.Option(
            "--rules", help="postprocessing_pairs.json, or the folder of the model with it."
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the masks.")] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Change the predictions themselves.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Apply the rules to masks that are there.

    They may be those of nnUNetv2_predict, of a model's zip, or of predict --no-postprocessing.
    """
    if (out is None) != in_place:
        raise typer.BadParameter("give a folder for the masks (-o), or --in-place.")
    from nnunet_liver_ext.postprocessing.largest_piece import FILE_NAME, Rules
    from nnunet_liver_ext.postprocessing.largest_piece_folder import apply_to_folder

    file = rules / FILE_NAME if rules.is_dir() else rules
    loaded = Rules.load(file)
    target = out if out is not None else predictions
    changed = apply_to_folder(
        predictions, target, loaded, rules_file=file, overwrite=overwrite, in_place=in_place
    )
    kept = ", ".join(loaded.names()) or "nothing, no rule was kept"
    typer.echo(f"Largest piece of {kept}: {changed} label maps changed in {target}")


@app.command("lesions")
def lesions(
    predictions: Annotated[
        Path, typer.Argument(metavar="PREDICTIONS", help="Folder of label maps, CASE.nii.gz.")
    ],
    liver: Annotated[
        str,
        typer.Option(
            metavar="FOLDER|VALUES",
            help=(
                "Liver masks: a folder of CASE.nii.gz (imagesTs of a dataset with a liver mask will"
                " do), or the values of the liver and its lesions in the predictions, such as 1+2."
            ),
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the label maps.")],
    label: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Lesions, NAME=VALUE; by default all classes of the predictions' dataset.json but"
                " the liver."
            )
        ),
    ] = None,
    border_kernel: BorderKernel = 7,
    opening_kernel: OpeningKernel = 3,
    overwrite: Overwrite = False,
) -> None:
    """Keep lesions inside the liver only, at its border only what is not thin (Hänsch et al. 2022).

    The border is the liver without its erosion in the slices, by 3 mm with the paper's 7 x 7
    kernel. Lesions are opened there with a 3 x 3 kernel. The paper's voxels are 1 mm wide;
    elsewhere the nearest odd numbers of voxels are taken, 3 at least. prediction.json has those of
    each case, in voxels and in mm.
    """
    from nnunet_liver_ext.postprocessing.border_lesions import Kernels
    from nnunet_liver_ext.postprocessing.border_lesions_folder import postprocess_folder

    changed = postprocess_folder(
        predictions,
        out,
        _folder_or_values(liver),
        classes=parse_labels(label) if label else None,
        kernels=Kernels(border_kernel, opening_kernel),
        overwrite=overwrite,
    )
    typer.echo(f"Lesions at the liver's border: {changed} label maps changed in {out}")


def _folder_or_values(entry: str) -> Path | tuple[int, ...]:
    try:
        values = tuple(int(value) for value in entry.split("+"))
    except ValueError:
        return Path(entry)
    return Path(entry) if Path(entry).exists() else values
