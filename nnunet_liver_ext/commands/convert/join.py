"""`nnunet_liver convert join`: two converted datasets as one."""

from __future__ import annotations

from typing import Annotated

import typer

from nnunet_liver_ext.commands.common_options import Overwrite


def join(
    first: Annotated[str, typer.Argument(help="Number or name of the first dataset.")],
    second: Annotated[str, typer.Argument(help="Number or name of the second dataset.")],
    dataset: Annotated[
        int,
        typer.Option(
            "-d", "--dataset", help="Number of the new dataset, 1 to 999.", min=1, max=999
        ),
    ],
    move: Annotated[
        float | None,
        typer.Option(
            "--move",
            help="Patients of the second that train: a number, or a share below 1.",
            min=0,
        ),
    ] = None,
    move_patient: Annotated[
        list[str] | None,
        typer.Option(
            "--move-patient", help="A patient of the second that trains, by name; repeat."
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the new dataset.")] = "Joined",
    folds: Annotated[
        int, typer.Option("--folds", help="Folds of the cross-validation by patient.", min=2)
    ] = 5,
    repeats: Annotated[
        int, typer.Option("--repeats", help="Repetitions of the cross-validation.", min=1)
    ] = 1,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the splits, and of who is moved.", min=0)
    ] = 0,
    distinct_patients: Annotated[
        bool,
        typer.Option(
            "--distinct-patients", help="Patients of both with one name are different people."
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Two converted datasets as one: the first, and patients of the second moved into training.

    The second's other training patients become the test set (imagesTs, labelsTs), so a model of one
    place is tested at another, with as many patients of it in training as --move says. Both must
    have been converted alike.
    """
    if (move is None) == (not move_patient):
        raise typer.BadParameter("give --move (0 moves nobody) or --move-patient.")
    from nnunet_liver_ext.dataset_conversion.join_datasets import join_datasets

    joined = join_datasets(
        first,
        second,
        dataset_id=dataset,
        name=name,
        move=move_patient or move or 0,
        folds=folds,
        repeats=repeats,
        seed=seed,
        distinct_patients=distinct_patients,
        overwrite=overwrite,
    )
    typer.echo(f"{joined.num_training} cases to train, {joined.num_test} to test: {joined.folder}")
    if joined.moved:
        typer.echo(f"Patients of the second that train: {', '.join(joined.moved)}")
    typer.echo(f"Next: nnunet_liver plan -d {dataset}")
