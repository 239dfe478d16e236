"""`nnunet_liver convert pairs | images`: a user's own studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnunet_liver_ext.commands.convert.finish_conversion import write
from nnunet_liver_ext.commands.convert.shared_options import (
    Labelling,
    Normalisation,
    OutputWithTestSet,
    PairOptions,
    Sampling,
)
from nnunet_liver_ext.commands.option_groups import with_option_groups
from nnunet_liver_ext.commands.option_values import parse_label


@with_option_groups(name="Liver")
def pairs(
    source: Annotated[
        Path,
        typer.Argument(help="CSV (patient, study, t1, t2, t1_mask, t2_mask) or folder of studies."),
    ],
    output: OutputWithTestSet,
    sampling: Sampling,
    pair: PairOptions,
    labelling: Labelling,
    normalisation: Normalisation,
) -> None:
    """Your own T1/T2 studies: NIfTI, NRRD, MetaImage or DICOM folders, from a CSV or a folder."""
    from nnunet_liver_ext.studies.study_layouts import read_studies

    root = source if source.is_dir() else source.parent
    write(
        read_studies(source),
        output,
        sampling,
        pair,
        labelling,
        normalisation,
        also={},
        source_root=root,
    )


@with_option_groups(name="Liver")
def images(
    source: Annotated[
        Path,
        typer.Argument(
            help=(
                "CSV (patient, study, a column for each channel, mask, liver_mask) or folder of"
                " studies."
            )
        ),
    ],
    output: OutputWithTestSet,
    sampling: Sampling,
    labelling: Labelling,
    normalisation: Normalisation,
    modality: Annotated[
        list[str],
        typer.Option(
            "--modality", help="MR, CT or another name of the images; repeat for several channels."
        ),
    ],
    organ_values: Annotated[
        str | None,
        typer.Option(
            "--organ-values",
            metavar="1+2",
            help="Mask values that are the liver, a channel for the loader only.",
        ),
    ] = None,
) -> None:
    """Your own images with one mask each: MR, CT or several channels, from a CSV or a folder."""
    from nnunet_liver_ext.studies.study import LIVER
    from nnunet_liver_ext.studies.study_layouts import read_image_studies

    studies = read_image_studies(source, modalities=modality)
    organ = _values(organ_values) if organ_values else None
    if organ is None and any(LIVER in study.masks for study in studies):
        organ = ()
    also = {"pairs": False, "modalities": tuple(modality), "organ": organ}
    root = source if source.is_dir() else source.parent
    write(studies, output, sampling, labelling, normalisation, also=also, source_root=root)


def _values(entry: str) -> tuple[int, ...]:
    """ "1+2": mask values."""
    try:
        return parse_label(f"liver={entry}")[1]
    except typer.BadParameter:
        raise typer.BadParameter(
            f"--organ-values {entry}: write values joined by +, such as 1+2."
        ) from None
