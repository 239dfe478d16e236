"""Options that the converters share, in groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from nnunet_liver_ext.commands.option_values import parse_labels


@dataclass(frozen=True)
class Output:
    """The dataset that is written, and its folds."""

    title: ClassVar[str] = "Dataset"

    dataset: Annotated[
        int,
        typer.Option(
            "-d", "--dataset", help="Number of the new dataset, 1 to 999.", min=1, max=999
        ),
    ]
    name: Annotated[str, typer.Option("--name", help="Name of the new dataset.")] = "Liver"
    folds: Annotated[
        int, typer.Option("--folds", help="Folds of the cross-validation by patient.", min=2)
    ] = 5
    repeats: Annotated[
        int, typer.Option("--repeats", help="Repetitions of the cross-validation.", min=1)
    ] = 1
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of splits, and of whatever else is drawn.", min=0)
    ] = 0
    processes: Annotated[int, typer.Option("--processes", help="Worker processes.", min=1)] = 4
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the dataset that is there.")
    ] = False
    add: Annotated[
        bool,
        typer.Option(
            "--add", help="Take new and corrected studies into the dataset that is there."
        ),
    ] = False

    def arguments(self) -> dict[str, Any]:
        """As `write_dataset` takes them."""
        return {
            "dataset_id": self.dataset,
            "name": self.name,
            "folds": self.folds,
            "repeats": self.repeats,
            "seed": self.seed,
            "processes": self.processes,
            "overwrite": self.overwrite,
            "add": self.add,
        }


@dataclass(frozen=True)
class OutputWithTestSet(Output):
    """The same, with patients that are held out."""

    hold_out: Annotated[
        float,
        typer.Option(
            "--hold-out", help="Patients for the test set: a number, or a share below 1.", min=0
        ),
    ] = 0
    hold_out_patient: Annotated[
        list[str] | None,
        typer.Option("--hold-out-patient", help="A patient for the test set, by name; repeat."),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """As `write_dataset` takes them."""
        if self.hold_out_patient and self.hold_out:
            raise typer.BadParameter("give --hold-out or --hold-out-patient, not both.")
        return super().arguments() | {"hold_out": self.hold_out_patient or self.hold_out}


@dataclass(frozen=True)
class Sampling:
    """The grid, and how images get onto it."""

    title: ClassVar[str] = "Grid"

    spacing: Annotated[
        str | None,
        typer.Option(
            "--spacing",
            metavar="X,Y,Z",
            help=(
                "Spacing of the grid in mm, or native-t1 (pairs), or native (single images);"
                " default 1.5,1.5,3 for pairs, native for single images."
            ),
        ),
    ] = None
    interpolation: Annotated[
        str, typer.Option("--interpolation", help="How images are resampled: bspline or linear.")
    ] = "bspline"

    def arguments(self) -> dict[str, Any]:
        """As `ConversionSettings` takes them."""
        from nnunet_liver_ext.space.common_grid import parse_spacing

        if self.interpolation not in ("bspline", "linear"):
            raise typer.BadParameter(
                f"--interpolation is bspline or linear, not {self.interpolation}."
            )
        options: dict[str, Any] = {"interpolation": self.interpolation}
        if self.spacing is not None:
            named = self.spacing in ("native", "native-t1")
            options["spacing"] = parse_spacing(
                self.spacing if named else self.spacing.replace(",", " ").split()
            )
        return options


@dataclass(frozen=True)
class PairOptions:
    """What is asked of pairs only."""

    title: ClassVar[str] = "Pairs"

    preregister: Annotated[
        bool,
        typer.Option(
            "--preregister", help="Warp T1 onto T2 first: channels T2 and warped T1, labels of T2."
        ),
    ] = False
    incomplete: Annotated[
        bool,
        typer.Option(
            "--incomplete/--only-complete",
            help="Whether to take studies that lack an image or a mask.",
        ),
    ] = True

    def arguments(self) -> dict[str, Any]:
        """As `ConversionSettings` takes them."""
        return {"preregister": self.preregister, "incomplete": self.incomplete}


@dataclass(frozen=True)
class Normalisation:
    """Intensities."""

    title: ClassVar[str] = "Intensities"

    intensities: Annotated[
        str,
        typer.Option(
            "--intensities",
            help=(
                "nnunet (its z-score, for CT its clipping), zscore, none (as they are), slice,"
                " patient, dataset (0..1 after clipping), organ (by the liver)."
            ),
        ),
    ] = "nnunet"
    clip_percentiles: Annotated[
        str | None,
        typer.Option(
            "--clip-percentiles",
            metavar="LOW,HIGH",
            help="What becomes 0 and 1; default 1,99, of organ 2,98.",
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """As `ConversionSettings` takes them."""
        from nnunet_liver_ext.space.intensities import Intensities

        return {"intensities": Intensities.of_kind(self.intensities, self._percentiles())}

    def _percentiles(self) -> tuple[float, float] | None:
        if self.clip_percentiles is None:
            return None
        if self.intensities in ("nnunet", "zscore", "none"):
            raise typer.BadParameter(
                "--clip-percentiles goes with --intensities slice, patient, dataset or organ."
            )
        try:
            low, high = (float(value) for value in self.clip_percentiles.split(","))
        except ValueError:
            raise typer.BadParameter(
                f"--clip-percentiles {self.clip_percentiles}: write two numbers, such as 1,99."
            ) from None
        return low, high


@dataclass(frozen=True)
class EmptyMasks:
    """What to do with masks that hold nothing."""

    title: ClassVar[str] = "Masks"

    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Take studies with an empty mask too.")
    ] = False

    def arguments(self) -> dict[str, Any]:
        """As `ConversionSettings` takes them."""
        return {"allow_empty": self.allow_empty}


@dataclass(frozen=True)
class Labelling(EmptyMasks):
    """What the values in a user's own masks mean."""

    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="NAME=VALUE",
            help="A class in the masks (liver=1; liver=1+2 joins two); repeat.",
        ),
    ] = None
    ignore_label: Annotated[
        list[int] | None,
        typer.Option("--ignore-label", help="A mask value that is background here; repeat."),
    ] = None
    ignore_other_labels: Annotated[
        bool,
        typer.Option(
            "--ignore-other-labels",
            help="Every mask value that --label does not name is background.",
        ),
    ] = False

    def arguments(self) -> dict[str, Any]:
        """As `ConversionSettings` takes them."""
        options: dict[str, Any] = {"allow_empty": self.allow_empty}
        if self.label:
            options["labels"] = parse_labels(self.label)
        if self.ignore_other_labels or self.ignore_label:
            options["ignored_labels"] = (
                "all" if self.ignore_other_labels else tuple(self.ignore_label or ())
            )
        return options
