"""`nnunet_liver convert phantom | toy`: synthetic datasets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from nnunet_liver_ext.commands.convert.finish_conversion import write
from nnunet_liver_ext.commands.convert.shared_options import (
    EmptyMasks,
    Normalisation,
    Output,
    OutputWithTestSet,
    PairOptions,
    Sampling,
)
from nnunet_liver_ext.commands.option_groups import with_option_groups


@dataclass(frozen=True)
class PhantomStudies:
    """The abdomens that are made."""

    title: ClassVar[str] = "Phantom"

    pairs: Annotated[
        int, typer.Option(help="Number of studies: of T1/T2 pairs, or of single images.", min=1)
    ] = 20
    patients: Annotated[
        int | None, typer.Option(help="Number of patients; as many as pairs by default.", min=1)
    ] = None
    difficulty: Annotated[
        str, typer.Option(help="demo (small, little noise) or study (realistic size).")
    ] = "study"
    layout: Annotated[
        str, typer.Option(help="pairs (T1 and T2) or images (one image of each study).")
    ] = "pairs"
    modality: Annotated[
        str, typer.Option(help="Modality of single images: MR (the T1 of a pair) or CT.")
    ] = "MR"
    lesions: Annotated[
        bool,
        typer.Option(
            "--lesions",
            help="Every liver has lesions, which are the class tumour; the liver is another.",
        ),
    ] = False


@with_option_groups(name="Phantom")
def phantom(
    output: OutputWithTestSet,
    sampling: Sampling,
    pair: PairOptions,
    normalisation: Normalisation,
    abdomens: PhantomStudies,
    folder: Annotated[
        Path,
        typer.Option(
            "--studies",
            help="Folder for the native phantom images; kept, and continued if run again.",
        ),
    ],
) -> None:
    """Synthetic abdomens with known masks and deformations, for trying things."""
    from nnunet_liver_ext.dataset_conversion.phantom import write_image_studies, write_studies
    from nnunet_liver_ext.studies.study_layouts import read_image_studies, read_studies

    if abdomens.layout not in ("pairs", "images"):
        raise typer.BadParameter(f"--layout is pairs or images, not {abdomens.layout}.")
    chosen: dict[str, Any] = {
        "seed": output.seed,
        "difficulty": abdomens.difficulty,
        "patients": abdomens.patients,
        "progress": True,
    }
    lesions = abdomens.lesions
    if abdomens.layout == "images":
        modality: Any = abdomens.modality
        csv = write_image_studies(
            folder, images=abdomens.pairs, modality=modality, lesions=lesions, **chosen
        )
        written = read_image_studies(csv, modalities=[modality])
        classes: dict[str, Any] = {"labels": {"tumour": (2,)}, "organ": (1, 2), "task": "tumour"}
        also = {"pairs": False, "modalities": (modality,)} | (classes if lesions else {})
    else:
        csv = write_studies(folder, pairs=abdomens.pairs, with_lesion_labels=lesions, **chosen)
        written = read_studies(csv)
        also = {"labels": {"liver": (1,), "tumour": (2,)}} if lesions else {}
    write(written, output, sampling, pair, normalisation, EmptyMasks(), also=also)


@dataclass(frozen=True)
class ToyPairs:
    """The pairs that are made."""

    title: ClassVar[str] = "Toy pairs"

    pairs: Annotated[int, typer.Option(help="Pairs to train and validate on.")] = 300
    test_pairs: Annotated[int, typer.Option(help="More pairs, as a test set.")] = 0
    size: Annotated[int, typer.Option(help="Pixels of an image along each axis, at least 64.")] = (
        240
    )
    max_shift: Annotated[
        int | None,
        typer.Option(
            help="Largest shift along each axis, pixels; default 32 of 240, less in smaller images."
        ),
    ] = None
    difference: Annotated[
        float,
        typer.Option(
            help=(
                "How unlike the masks of a pair are, apart from their shift: about 1 - Dice; 0 to"
                " 0.3."
            )
        ),
    ] = 0.1
    annotation_noise: Annotated[
        float, typer.Option(help="How unlike mask 2 is what image 2 shows, in the same way.")
    ] = 0.0
    noise: Annotated[float, typer.Option(help="Noise of the images; their amplitude is 1.")] = 0.2


@with_option_groups(name="Toy")
def toy(output: Output, images: ToyPairs) -> None:
    """2D pairs of blobs, told by angle and frequency of sine patterns (Couteaux et al. 2021)."""
    from nnunet_liver_ext.dataset_conversion.toy import write_toy_dataset

    folder = write_toy_dataset(**vars(images), **output.arguments())
    typer.echo(f"{images.pairs + images.test_pairs} pairs: {folder}")
    typer.echo(f"Next: nnunet_liver plan -d {output.dataset}")
