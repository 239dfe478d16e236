"""`nnunet_liver convert lits | chaos-mr | ...`: a command for each public dataset."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from nnunet_liver_ext.commands.convert.finish_conversion import SettingsGroup, write
from nnunet_liver_ext.commands.convert.shared_options import (
    EmptyMasks,
    Normalisation,
    OutputWithTestSet,
    PairOptions,
    Sampling,
)
from nnunet_liver_ext.commands.option_groups import with_option_groups

if TYPE_CHECKING:
    from nnunet_liver_ext.dataset_conversion.public_dataset import DatasetOption, PublicDataset

PANEL = "Public datasets"


class ConvertGroup(TyperGroup):
    """The commands, and one for each dataset; what a dataset needs is imported when it is run."""

    def list_commands(self, ctx: Any) -> list[str]:
        from nnunet_liver_ext.dataset_conversion.datasets import DATASETS

        return [*super().list_commands(ctx), *DATASETS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from nnunet_liver_ext.dataset_conversion.datasets import DATASETS

        return (
            _Deferred(cmd_name)
            if cmd_name in list(DATASETS)
            else super().get_command(ctx, cmd_name)
        )


class _Deferred(TyperCommand):
    """A dataset's command by name and one line of help; its options are made when it is called."""

    def __init__(self, key: str) -> None:
        from nnunet_liver_ext.dataset_conversion.datasets import read_content

        super().__init__(name=key, help=read_content(key), rich_help_panel=PANEL)

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        from nnunet_liver_ext.dataset_conversion.datasets import DATASETS

        return _command(DATASETS[self.name or ""]).make_context(info_name, args, parent, **extra)


def _command(dataset: PublicDataset) -> Any:
    """The command line of a dataset, with the dataset's own options behind those that all have."""
    app = typer.Typer(rich_markup_mode="rich", add_completion=False, pretty_exceptions_enable=False)
    app.command(dataset.key)(make_command_function(dataset))
    return typer.main.get_command(app)


def make_command_function(entry: PublicDataset) -> Any:
    """The function behind a dataset's command."""
    extra = [_source(entry), _task(entry), *(_parameter(option) for option in entry.options)]

    @with_option_groups(extra, name=name_of(entry))
    def pairs(
        output: OutputWithTestSet,
        sampling: Sampling,
        pair: PairOptions,
        empty: EmptyMasks,
        normalisation: Normalisation,
        **options: Any,
    ) -> None:
        _convert(entry, output, (sampling, pair, empty, normalisation), **options)

    @with_option_groups(extra, name=name_of(entry))
    def images(
        output: OutputWithTestSet,
        sampling: Sampling,
        empty: EmptyMasks,
        normalisation: Normalisation,
        **options: Any,
    ) -> None:
        _convert(entry, output, (sampling, empty, normalisation), **options)

    command = pairs if entry.pairs else images
    source = (
        f" Licence: {entry.licence}. Cite: {entry.citation}. From {entry.url}"
        if entry.is_public
        else ""
    )
    command.__doc__ = escape(f"{entry.title}: {entry.content}.{source}")
    return command


def name_of(entry: PublicDataset) -> str:
    """The default of --name."""
    return entry.dataset_name or re.sub(r"[^A-Za-z0-9]", "", entry.title)


def _convert(
    entry: PublicDataset,
    output: OutputWithTestSet,
    groups: Sequence[SettingsGroup],
    *,
    source: Path,
    task: str | None,
    **options: Any,
) -> None:
    multiple = {option.argument for option in entry.options if option.multiple}
    options = {
        name: tuple(value or ()) if name in multiple else value for name, value in options.items()
    }
    entry = entry.adapt_to({"task": task, **options})
    also = entry.settings(task)
    studies = entry.find(source, options)
    write(
        studies,
        output,
        *groups,
        also=also,
        reader=entry.reader(),
        notes=entry.notes,
        source_root=source,
    )


def _source(entry: PublicDataset) -> Parameter:
    argument = typer.Argument(help=escape(f"Folder with {entry.expects}."))
    return Parameter("source", Parameter.KEYWORD_ONLY, annotation=Annotated[Path, argument])


def _task(entry: PublicDataset) -> Parameter:
    names = ", ".join(entry.tasks)
    option = typer.Option(
        "--task", help=f"What is segmented: {names}; default {next(iter(entry.tasks))}."
    )
    return Parameter(
        "task", Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


def _parameter(option: DatasetOption) -> Parameter:
    """An option of the catalogue as one of the command line."""
    choices = (
        f" One of {', '.join(option.choices)}."
        if option.choices and option.choices[-1] not in option.help
        else ""
    )
    kind: Any = option.type
    if option.multiple:
        kind = list[kind] | None
    elif option.default is None:
        kind = kind | None
    shown = escape(option.help + choices)
    declared = typer.Option(
        f"--{option.name}", help=shown, metavar=option.metavar, callback=_among(option)
    )
    default = None if option.multiple else option.default
    return Parameter(
        option.argument,
        Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, declared],
    )


def _among(option: DatasetOption) -> Callable[[Any], Any] | None:
    """A check of the option's choices."""
    if not option.choices:
        return None

    def check(value: Any) -> Any:
        values = value or () if option.multiple else () if value is None else (value,)
        for choice in values:
            if choice not in option.choices:
                raise typer.BadParameter(f"{choice} is none of {', '.join(option.choices)}.")
        return value

    return check
