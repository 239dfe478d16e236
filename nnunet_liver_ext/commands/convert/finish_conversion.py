"""The end of every converter: write the dataset, say what was written and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import typer

from nnunet_liver_ext.commands.convert.shared_options import Output

if TYPE_CHECKING:
    from nnunet_liver_ext.studies.study import Study


class SettingsGroup(Protocol):
    """A group of options that are `ConversionSettings`."""

    def arguments(self) -> dict[str, Any]: ...


def write(
    studies: Sequence[Study],
    output: Output,
    *groups: SettingsGroup,
    also: dict[str, Any],
    **options: Any,
) -> None:
    """Converts studies with the settings of some groups of options.

    Args:
        studies: what to convert.
        output: where to and how it is split.
        groups: of options, whose `arguments` make the settings.
        also: further settings.
        options: further arguments of `write_dataset`.
    """
    from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
    from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
    from nnunet_liver_ext.dataset_json.manifest import Manifest
    from nnunet_liver_ext.json_files import read_json

    given = {key: value for group in groups for key, value in group.arguments().items()}
    settings = ConversionSettings(**given | also)
    folder = write_dataset(studies, settings=settings, **output.arguments(), **options)
    typer.echo(f"{len(studies)} studies: {folder}")
    if settings.layout == "pairs":
        _say_what_is_incomplete(studies, settings.modalities)
    _say_what_has_no_mask(studies)
    if output.add and "own" in Manifest.load(folder).splitting:
        typer.echo(
            "splits_final.json is as nnunet_liver splits wrote it, new cases are in none of its"
            " folds: split again with nnunet_liver splits."
        )
    if read_json(folder / "dataset.json")["numTraining"]:
        typer.echo(f"Next: nnunet_liver plan -d {output.dataset}")
    else:
        typer.echo(
            "No study has a mask: it is an inference set (imagesTs), there is nothing to train on."
            " A trained model segments the same studies: nnunet_liver predict --help."
        )


def _say_what_has_no_mask(studies: Sequence[Study]) -> None:
    """A mask that was not found must not go unnoticed."""
    from nnunet_liver_ext.console import list_cases

    without = [study.name for study in studies if not study.is_labelled]
    if without and len(without) < len(studies):
        typer.echo(
            f"{len(without)} studies have no mask: {list_cases(without)}. They are in imagesTs."
        )


def _say_what_is_incomplete(studies: Sequence[Study], modalities: Sequence[str]) -> None:
    """A misspelt file name must not go unnoticed."""
    from nnunet_liver_ext.console import list_cases

    lone = [study for study in studies if len(study.images) < len(modalities)]
    half = [
        study
        for study in studies
        if study.is_labelled and not set(modalities) <= set(study.masks) and study not in lone
    ]
    for incomplete, what in (
        (lone, f"only one of {' and '.join(modalities)}"),
        (half, "both images, but one mask only"),
    ):
        if incomplete:
            names = list_cases([study.name for study in incomplete])
            typer.echo(
                f"{len(incomplete)} studies have {what}: {names}. dataset.json lists those to"
                " train on."
            )
