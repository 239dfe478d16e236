"""`nnunet_liver splits`: other splits of a dataset that is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from nnunet_liver_ext.commands.common_options import Overwrite
from nnunet_liver_ext.commands.option_groups import with_option_groups

if TYPE_CHECKING:
    from nnunet_liver_ext.dataset_conversion.resplit import SplitRequest, WrittenSplits


@dataclass(frozen=True)
class Sides:
    """Who trains and who validates."""

    title: ClassVar[str] = "Sides"

    folds: Annotated[
        int | None,
        typer.Option("--folds", help="Folds of the cross-validation; default 5.", min=2),
    ] = None
    repeats: Annotated[
        int, typer.Option("--repeats", help="Repetitions of the cross-validation.", min=1)
    ] = 1
    validation: Annotated[
        str | None,
        typer.Option(
            "--validation",
            metavar="P001,P002",
            help="Patients of one fixed validation set, instead of folds; all others train.",
        ),
    ] = None
    train_cases: Annotated[
        int | None,
        typer.Option(
            "--train-cases",
            help="At most so many training cases in each fold, drawn by patient.",
            min=1,
        ),
    ] = None
    hold_out: Annotated[
        float,
        typer.Option(
            "--hold-out", help="Patients in no fold: a number, or a share below 1.", min=0
        ),
    ] = 0
    hold_out_patient: Annotated[
        list[str] | None,
        typer.Option("--hold-out-patient", help="A patient in no fold, by name; repeat."),
    ] = None
    seed: Annotated[int, typer.Option("--seed", help="Seed of whatever is drawn.", min=0)] = 0

    def request(self) -> SplitRequest:
        """The splits that are wanted."""
        from nnunet_liver_ext.dataset_conversion.resplit import SplitRequest

        if self.validation is not None and (self.folds is not None or self.repeats > 1):
            raise typer.BadParameter(
                "--validation is one fixed validation set: give no --folds or --repeats with it."
            )
        if self.hold_out_patient and self.hold_out:
            raise typer.BadParameter("give --hold-out or --hold-out-patient, not both.")
        names = [name.strip() for name in (self.validation or "").split(",")]
        if self.validation is not None and not all(names):
            raise typer.BadParameter(
                f"--validation {self.validation}: write names with commas between them, such as"
                " P001,P002."
            )
        return SplitRequest(
            5 if self.folds is None else self.folds,
            self.repeats,
            self.seed,
            self.hold_out_patient or self.hold_out,
            [name for name in names if name],
            self.train_cases,
        )


@with_option_groups()
def splits(
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Number or name of the dataset.")],
    sides: Sides,
    patients: Annotated[
        Path | None,
        typer.Option(
            "--patients",
            metavar="CSV",
            help="Columns case and patient, for a dataset that nnunet_liver did not convert.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Split a dataset that is there anew: folds, a test set, a fixed validation set, subsets.

    All cases of a patient are on one side of every split. Patients have the pseudonyms of the cases
    (P001) or their own names. Writes splits_final.json of the raw dataset, and of the preprocessed
    one that nnUNetv2_train reads; those that are replaced become splits_final.previous.json.
    """
    from nnunet_liver_ext.dataset_conversion.resplit import resplit_dataset

    written = resplit_dataset(dataset, sides.request(), patients=patients, overwrite=overwrite)
    _say_what_is_written(written, sides.train_cases)


def _say_what_is_written(written: WrittenSplits, train_cases: int | None) -> None:
    for number, fold in enumerate(written.splits):
        typer.echo(f"fold {number}: {len(fold['train'])} to train, {len(fold['val'])} to validate")
    if any(train_cases not in (None, len(fold["train"])) for fold in written.splits):
        typer.echo("Fewer training cases than asked for: all cases of a patient stay together.")
    if written.held_out:
        typer.echo(f"In no fold: {', '.join(written.held_out)}")
    for file in written.files:
        typer.echo(f"Written: {file}")
    typer.echo("Models of other splits may have trained on cases that validate now: train anew.")
