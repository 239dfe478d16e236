"""`nnunet_liver plan`: plans files for nnU-Net."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from nnunet_liver_ext.commands.common_options import Workers
from nnunet_liver_ext.commands.option_groups import with_option_groups
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.planning.architectures import ARCHITECTURES


@dataclass(frozen=True)
class NetworkChoice:
    """The network, and the grid that it works on."""

    title: ClassVar[str] = "Network"

    architecture: Annotated[
        str | None,
        typer.Option(
            "--architecture",
            "-a",
            help=f"{', '.join(ARCHITECTURES)}; default: the protocol's, or nnunet.",
        ),
    ] = None
    architecture_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE", help="Further argument of it, such as neighbours=1; repeat."
        ),
    ] = None
    spacing: Annotated[
        str | None,
        typer.Option(
            metavar="Z,Y,X",
            help="Target spacing in mm; Y,X leaves the distance of slices as it is.",
        ),
    ] = None
    protocol: Annotated[
        str | None,
        typer.Option(
            help=(
                "A paper's network, spacing, patch, batch and recipe: couteaux2021, yang2017,"
                " antaros, hansch2022."
            )
        ),
    ] = None
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Plans that train on a CPU in seconds: to try things.")
    ] = False

    def arguments(self) -> dict[str, Any]:
        """As `plan_dataset` takes them."""
        entries = self.architecture_option or []
        return {
            "architecture": self.architecture,
            "options": dict(_parse(entry, "neighbours=1") for entry in entries),
            "spacing_mm": _parse_spacing(self.spacing),
            "protocol": self.protocol,
            "tiny": self.tiny,
        }


@dataclass(frozen=True)
class TrainingMemory:
    """The training that patch and batch are to fit."""

    title: ClassVar[str] = "Memory"

    gpu_memory: Annotated[
        float,
        typer.Option(
            help="GB that training may use, with all its networks and both images of a pair.",
            min=0.1,
        ),
    ] = 8.0
    strategy: Annotated[
        str | None,
        typer.Option(
            help=(
                "Input strategy that memory is planned for; default: single_input for pairs, else"
                " one_view."
            )
        ),
    ] = None
    objective: Annotated[
        str,
        typer.Option(
            help=(
                "Objective that memory is planned for: dice_ce, gan, gambling,"
                " similarity_elastic ..."
            )
        ),
    ] = "dice_ce"

    def arguments(self) -> dict[str, Any]:
        """As `plan_dataset` takes them."""
        return {
            "gpu_memory_gb": self.gpu_memory,
            "strategy": self.strategy,
            "objective": self.objective,
        }


@dataclass(frozen=True)
class Variant:
    """Numbers of a configuration."""

    title: ClassVar[str] = "Variants of a configuration"

    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A recipe number, batch_size or patch_size; repeat.",
        ),
    ] = None
    name: Annotated[
        str | None,
        typer.Option(
            help="Put the numbers into a new configuration of this name that inherits from --base."
        ),
    ] = None
    base: Annotated[str, typer.Option(help="The configuration to change or to inherit from.")] = (
        "3d_fullres"
    )

    def arguments(self) -> dict[str, Any]:
        """As `plan_dataset` takes them."""
        numbers = dict(_parse(entry, "num_epochs=500") for entry in self.set_ or [])
        return {"numbers": numbers, "name": self.name, "base": self.base}


@with_option_groups()
def plan(
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="Number or name of the converted dataset.")
    ],
    network: NetworkChoice,
    memory: TrainingMemory,
    variant: Variant,
    plans_name: Annotated[
        str | None,
        typer.Option(
            "--plans-name",
            "-p",
            help="Name of the plans file; default: nnUNetPlans and the architecture.",
        ),
    ] = None,
    processes: Workers = 4,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Plan anew; named variants are kept.")
    ] = False,
) -> None:
    """Write nnU-Net plans for a converted dataset, or add a variant of a configuration to them.

    nnU-Net's own fingerprint and planner do the work; patch and batch follow from the memory that
    this trainer needs.
    """
    from rich.console import Console

    from nnunet_liver_ext.commands.plans_table import plans_table
    from nnunet_liver_ext.planning.plan_dataset import default_plans_name, plan_dataset, plans_file

    options = {**network.arguments(), **memory.arguments(), **variant.arguments()}
    plans_name = plans_name or default_plans_name(network.architecture, network.protocol)
    kept = plans_file(dataset, plans_name).exists() and not overwrite
    path = plan_dataset(
        dataset, plans_name=plans_name, processes=processes, overwrite=overwrite, **options
    )
    console = Console()
    console.print(plans_table(path))
    console.print(f"Plans: {path}")
    if kept:
        typer.echo(
            "These plans were there and are kept (but for --set); plan anew with --overwrite."
        )
    _show_next(dataset, path, variant.name or variant.base)


def _parse(entry: str, example: str) -> tuple[str, Any]:
    import json

    key, equals, text = entry.partition("=")
    if not equals:
        raise typer.BadParameter(f"{entry!r}: write KEY=VALUE, for example {example}.")
    try:
        return key.strip(), json.loads(text)
    except json.JSONDecodeError:
        return key.strip(), text


def _parse_spacing(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(mm) for mm in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: write Z,Y,X in mm, for example 3,1.5,1.5, or Y,X."
        ) from None


def _show_next(dataset: str, path: Path, configuration: str) -> None:

    from nnunet_liver_ext.planning.next_steps import next_commands

    typer.echo("\n  ".join(["Go on with", *next_commands(dataset, read_json(path), configuration)]))
