"""`nnunet_liver postprocess`: only the largest piece of a class, where a cross-validation has shown that it helps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Keep only the largest piece of a class in an image, where it helps.")

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


@app.command("find")
def find(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a model with a complete cross-validation.")],
    references: Annotated[
        Path | None,
        typer.Option("--references", "-r", help="Label maps to measure against, if not those of the training."),
    ] = None,
    processes: Annotated[int | None, typer.Option(help="Cases at a time; by default as many as pay off.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Try it for each class of each image on the folds' predictions, and write what helps into the model's folder.

    A rule is kept if the mean Dice over the cases rises, and rises in at least as many patients as it falls.
    nnunet_liver predict then follows it; docs/crossval.md.
    """
    from rich.console import Console

    from nnunet_liver_ext.evaluation.postprocessing.search import find_rules, rules_file, rules_table, save_rules

    rules_file(model, overwrite=overwrite)  # before the work
    rules = find_rules(model, references=references, processes=processes)
    path = save_rules(rules, model, overwrite=overwrite)
    console = Console()
    console.print(rules_table(rules))
    console.print(f"Written to {path}", soft_wrap=True, highlight=False, markup=False)


@app.command("apply")
def apply(
    predictions: Annotated[
        Path, typer.Option("--input", "-i", help="Folder of CASE_T1 and CASE_T2 masks, or of joint label maps.")
    ],
    rules: Annotated[Path, typer.Option("--rules", help="postprocessing_pairs.json, or the folder of the model with it.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the masks.")] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Change the predictions themselves.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Apply the rules to masks that are there: of nnUNetv2_predict, of a model's zip, of predict --no-postprocessing."""
    if (out is None) != in_place:
        raise typer.BadParameter("give a folder for the masks (-o), or --in-place.")
    from nnunet_liver_ext.evaluation.postprocessing import FILE_NAME, Rules
    from nnunet_liver_ext.evaluation.postprocessing.folder import apply_to_folder

    file = rules / FILE_NAME if rules.is_dir() else rules
    loaded = Rules.load(file)
    target = out if out is not None else predictions
    changed = apply_to_folder(predictions, target, loaded, rules_file=file, overwrite=overwrite, in_place=in_place)
    kept = ", ".join(loaded.names()) or "nothing, no rule was kept"
    typer.echo(f"Largest piece of {kept}: {changed} label maps changed in {target}")
