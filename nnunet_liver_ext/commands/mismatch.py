"""`nnunet_liver mismatch`: how much a model relies on the other image of a pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnunet_liver_ext.commands.common_options import NamedModels
from nnunet_liver_ext.commands.evaluation_options import (
    Lesions,
    Measures,
    ReferenceClasses,
    Results,
    make_options,
)
from nnunet_liver_ext.commands.model_options import Networks
from nnunet_liver_ext.commands.option_groups import with_option_groups
from nnunet_liver_ext.commands.option_values import parse_models

if TYPE_CHECKING:
    from nnunet_liver_ext.inference.model import Model


@with_option_groups()
def mismatch(
    models: NamedModels,
    studies: Annotated[
        Path,
        typer.Option(
            "--images",
            "-i",
            help="Studies with masks that no model has seen: a folder or a CSV.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for mismatch.csv, mismatch.json and masks.")
    ],
    classes: ReferenceClasses,
    networks: Networks,
    measures: Measures,
    lesions: Lesions,
    results: Results,
    seed: Annotated[int, typer.Option(help="Who gets whose image.", min=0)] = 0,
) -> None:
    """Measure how much models rely on the other image: their Dice beside another patient's image.

    Each image is segmented beside its own auxiliary image and beside another patient's (Couteaux et
    al. 2021, "Comparing deep learning strategies", table 3), and measured against the studies'
    masks. An interrupted run continues when it is repeated. docs/crossval.md.
    """
    from rich.console import Console

    from nnunet_liver_ext.atomic_write import refuse_existing
    from nnunet_liver_ext.benchmark.mismatch.drop_tables import drop_table
    from nnunet_liver_ext.benchmark.mismatch.mismatch_test import WRITTEN, mismatch_test
    from nnunet_liver_ext.benchmark.mismatch.partners import Partners
    from nnunet_liver_ext.studies.study_layouts import read_studies

    options = make_options(measures, lesions)
    refuse_existing(out, WRITTEN, overwrite=results.overwrite)
    loaded = {
        name: networks.load(path, postprocessing=False)
        for name, path in parse_models(models).items()
    }
    modalities = _common_modalities(list(loaded.values()))
    partners = Partners.draw(read_studies(studies, modalities=modalities), modalities, seed=seed)
    result = mismatch_test(
        loaded, partners, out, options, reference_classes=classes.parse(), **results.arguments()
    )
    console = Console()
    console.print(drop_table(result.summary))
    for note in [*result.notes, *([EACH_A_PATIENT] if studies.is_dir() else [])]:
        console.print(f"Note: {note}", style="yellow", markup=False, highlight=False)
    console.print(f"Written to {out}: mismatch.csv, mismatch.json", soft_wrap=True, highlight=False)
    result.raise_for_failures()


EACH_A_PATIENT = (
    "each study of a folder counts as a patient of its own; if patients have several, give a CSV."
)


def _common_modalities(models: Sequence[Model]) -> tuple[str, ...]:
    """The images that all models take; InputError if they take different ones."""
    from nnunet_liver_ext.errors import InputError

    images = {model.modalities for model in models}
    if len(images) > 1:
        listed = " and ".join(", ".join(names) for names in sorted(images))
        raise InputError(f"the models are of different images ({listed}): test them apart.")
    return images.pop()
