"""`nnunet_liver plan`: plans files for nnU-Net."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.planning.architectures import ARCHITECTURES


def plan(
    dataset: Annotated[
        str, typer.Option("-d", "--dataset", help="Number or name of the converted dataset.")
    ],
    architecture: Annotated[
        str | None,
        typer.Option(
            "-a",
            "--architecture",
            help=f"{', '.join(ARCHITECTURES)}; default: the protocol's, or nnunet.",
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help=(
                "Input strategy that memory is planned for; default: single_input for pairs, else"
                " one_view."
            )
        ),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            help=(
                "Objective that memory is planned for: dice_ce, gan, gambling,"
                " similarity_elastic ..."
            )
        ),
    ] = "dice_ce",
    gpu_memory: Annotated[
        float,
        typer.Option(
            help="GB that training may use, with all its networks and both images of a pair.",
            min=0.1,
        ),
    ] = 8.0,
    protocol: Annotated[
        str | None,
        typer.Option(
            help=(
                "A paper's network, spacing, patch, batch and recipe: couteaux2021, yang2017,"
                " antaros, hansch2022."
            )
        ),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            metavar="Z,Y,X",
            help="Target spacing in mm; Y,X leaves the distance of slices as it is.",
        ),
    ] = None,
    architecture_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Further argument of the network, such as neighbours=1; repeat as needed.",
        ),
    ] = None,
    plans_name: Annotated[
        str | None,
        typer.Option(
            "-p",
            "--plans-name",
            help="Name of the plans file; default: nnUNetPlans and the architecture.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A recipe number, batch_size or patch_size; repeat as needed.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Put the numbers into a new configuration of this name that inherits from --base."
        ),
    ] = None,
    base: Annotated[
        str, typer.Option(help="The configuration to change or to inherit from.")
    ] = "3d_fullres",
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Plans that train on a CPU in seconds: to try things.")
    ] = False,
    processes: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 4,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Plan anew; named variants are kept.")
    ] = False,
) -> None:
    """Write nnU-Net plans for a converted dataset, or add a variant of a configuration to them.

    nnU-Net's own fingerprint and planner do the work; patch and batch follow from the memory that
    this trainer needs.
    """
    from nnunet_liver_ext.planning.plan_dataset import default_plans_name, plan_dataset, plans_file

    numbers = dict(_parse(entry, "num_epochs=500") for entry in set_ or [])
    plans_name = plans_name or default_plans_name(architecture, protocol)
    kept = plans_file(dataset, plans_name).exists() and not overwrite
    path = plan_dataset(
        dataset,
        architecture=architecture,
        options=dict(_parse(entry, "neighbours=1") for entry in architecture_option or []),
        strategy=strategy,
        objective=objective,
        protocol=protocol,
        spacing_mm=_spacing(spacing),
        gpu_memory_gb=gpu_memory,
        plans_name=plans_name,
        tiny=tiny,
        numbers=numbers,
        name=name,
        base=base,
        processes=processes,
        overwrite=overwrite,
    )
    _show(path)
    if kept:
        typer.echo(
            "These plans were there and are kept (but for --set); plan anew with --overwrite."
        )
    _show_next(dataset, path, name or base)


def _parse(entry: str, example: str) -> tuple[str, Any]:
    import json

    key, equals, text = entry.partition("=")
    if not equals:
        raise typer.BadParameter(f"{entry!r}: write KEY=VALUE, for example {example}.")
    try:
        return key.strip(), json.loads(text)
    except json.JSONDecodeError:
        return key.strip(), text


def _spacing(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(mm) for mm in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: write Z,Y,X in mm, for example 3,1.5,1.5, or Y,X."
        ) from None


def _show(path: Path) -> None:

    from rich.console import Console
    from rich.table import Table

    from nnunet_liver_ext.environment import dataset_folder
    from nnunet_liver_ext.planning.estimates import memory_to_show
    from nnunet_liver_ext.planning.variants import inherited

    plans = read_json(path)
    dataset_json = read_json(dataset_folder(plans["dataset_name"], "raw") / "dataset.json")
    table = Table(title=f"{plans['dataset_name']}, {plans['plans_name']}")
    for column in (
        "configuration",
        "network",
        "spacing (z, y, x) mm",
        "patch",
        "batch",
        "features",
        "memory",
        "recipe",
    ):
        table.add_column(column)
    for configuration, entry in plans["configurations"].items():
        architecture = inherited(plans, configuration, "architecture")
        spacing = [f"{value:.3g}" for value in inherited(plans, configuration, "spacing")]
        patch = inherited(plans, configuration, "patch_size")
        table.add_row(
            configuration,
            architecture["network_class_name"].rpartition(".")[2],
            " x ".join(["as it is"] * (len(patch) - len(spacing)) + spacing),
            " x ".join(str(int(n)) for n in patch),
            str(inherited(plans, configuration, "batch_size")),
            "-".join(map(str, architecture["arch_kwargs"].get("features_per_stage", []))),
            _memory(memory_to_show(plans, configuration, dataset_json)),
            ", ".join(f"{key}={value}" for key, value in _recipe(entry).items()),
        )
    console = Console()
    console.print(table)
    console.print(f"Plans: {path}")


def _recipe(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in ("protocol",) if key in entry} | entry.get("recipe", {})


def _memory(memory: dict[str, Any] | None) -> str:
    """The estimate in GB and what it is made of."""
    if memory is None:
        return ""
    parts = {
        "activations": "activations_gb",
        "weights and optimizers": "weights_gb",
        "CUDA": "reserved_gb",
    }
    made_of = " + ".join(f"{memory[key]:.2f} {name}" for name, key in parts.items())
    planned_for = f"{memory['strategy']}, {memory['objective']}"
    return f"{memory['estimated_gb']:.2f} GB of {memory['target_gb']:g} ({planned_for}): {made_of}"


def _show_next(dataset: str, path: Path, configuration: str) -> None:

    from nnunet_liver_ext.planning.next_steps import next_commands

    typer.echo("\n  ".join(["Go on with", *next_commands(dataset, read_json(path), configuration)]))
