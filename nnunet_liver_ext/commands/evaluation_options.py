"""What is measured, and how: options of `evaluate`, `crossval` and `mismatch`, in groups."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer

from nnunet_liver_ext.commands.common_options import CasesAtATime, EmptyReferences, Overwrite
from nnunet_liver_ext.commands.option_values import parse_labels

if TYPE_CHECKING:
    from nnunet_liver_ext.evaluation.options import Options


@dataclass(frozen=True)
class Measures:
    """What is measured of every mask."""

    title: ClassVar[str] = "What is measured"

    tolerance: Annotated[float, typer.Option(help="Tolerance of the surface Dice in mm.")] = 2.0
    convention: Annotated[
        Literal["standard", "chaos"],
        typer.Option(help="What lies beyond the volume: background, or more of the mask."),
    ] = "standard"
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="KIND",
            help="Measure only overlap, surface, volume, plausibility or pairs; repeat.",
        ),
    ] = None
    empty: EmptyReferences = "exclude"
    resample: Annotated[
        Literal["none", "reference"],
        typer.Option(help="Put predictions on the reference's grid where theirs differ."),
    ] = "none"

    def arguments(self) -> dict[str, Any]:
        """As `evaluation.options.Options` takes them."""
        return {
            "tolerance_mm": self.tolerance,
            "convention": self.convention,
            "only": tuple(self.only or ()),
            "resample": self.resample == "reference",
            "empty": self.empty,
        }


@dataclass(frozen=True)
class PairSimilarity:
    """How alike the two masks of a pair are."""

    title: ClassVar[str] = Measures.title

    similarity: Annotated[
        Literal["translation", "rigid", "affine", "elastic", "none"],
        typer.Option(
            metavar="TRANSFORMS",
            help=(
                "Compare both masks of a pair after the best of these: translation, rigid, affine,"
                " elastic; or none."
            ),
        ),
    ] = "elastic"

    def arguments(self) -> dict[str, Any]:
        """As `evaluation.options.Options` takes them."""
        return {"similarity": None if self.similarity == "none" else self.similarity}


@dataclass(frozen=True)
class Lesions:
    """Measures of single lesions."""

    title: ClassVar[str] = "Lesions"

    lesions: Annotated[
        list[str] | None,
        typer.Option(
            "--lesions", metavar="CLASS", help="A class to measure lesion by lesion; repeat."
        ),
    ] = None
    min_lesion_dice: Annotated[
        float, typer.Option(help="A lesion is found if its Dice is higher.")
    ] = 0.2
    organ: Annotated[
        str,
        typer.Option(metavar="CLASS", help="What lesions are in: tumour burden is their share."),
    ] = "liver"

    def arguments(self) -> dict[str, Any]:
        """As `evaluation.options.Options` takes them."""
        return {
            "lesions": tuple(self.lesions or ()),
            "min_lesion_dice": self.min_lesion_dice,
            "organ": self.organ,
        }


@dataclass(frozen=True)
class FatFraction:
    """The fat fraction inside the masks."""

    title: ClassVar[str] = "Fat fraction"

    fat: Annotated[
        Path | None,
        typer.Option(
            help="Images of the fat fraction in percent, named like the masks: measure it."
        ),
    ] = None
    fat_margin: Annotated[
        float, typer.Option(help="What the fat fraction leaves out along the border, mm.")
    ] = 0.0

    def arguments(self) -> dict[str, Any]:
        """As `evaluation.options.Options` takes them; the images are given apart."""
        return {"fat_margin_mm": self.fat_margin}


def make_options(*groups: Measures | PairSimilarity | Lesions | FatFraction) -> Options:
    """The options of an evaluation that these groups make up.

    Raises:
        InputError: a value is out of its range.
    """
    from nnunet_liver_ext.evaluation.options import Options

    return Options(**{name: value for group in groups for name, value in group.arguments().items()})


@dataclass(frozen=True)
class ReferenceClasses:
    """What the values in the references mean."""

    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="NAME=VALUE",
            help="A class in the references, if numbered otherwise (liver=6); repeat.",
        ),
    ] = None

    def parse(self) -> dict[str, tuple[int, ...]] | None:
        """Values of each class, or None if the references have those of the predictions."""
        return parse_labels(self.label) if self.label else None


@dataclass(frozen=True)
class Results:
    """The files that are written, and how."""

    title: ClassVar[str] = "Results"

    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="csv|json|html|tex",
            help="Files to write; repeat. Default: csv, json, html.",
        ),
    ] = None
    processes: CasesAtATime = None
    overwrite: Overwrite = False
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what an earlier run has measured.")
    ] = False

    def arguments(self) -> dict[str, Any]:
        """As `evaluation.evaluate.run` takes them."""
        formats = {"formats": self.formats} if self.formats else {}
        return {
            "processes": self.processes,
            "overwrite": self.overwrite,
            "fresh": self.fresh,
            **formats,
        }
