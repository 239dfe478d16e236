"""`nnunet_liver plan`: plans files for nnU-Net."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def plan(
    dataset: Annotated[str, typer.Option("-d", "--dataset", help="Number or name of the converted dataset.")],
    gpu_memory: Annotated[
        float, typer.Option(help="GB that training may use; for pairs, both images of a pair are counted.")
    ] = 8.0,
    plans_name: Annotated[str, typer.Option("-p", "--plans-name", help="Name of the plans file.")] = "nnUNetPlans",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A recipe number, batch_size or patch_size; repeat as needed."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Put the numbers into a new configuration of this name that inherits from --base.")
    ] = None,
    base: Annotated[str, typer.Option(help="The configuration to change or to inherit from.")] = "3d_fullres",
    tiny: Annotated[bool, typer.Option("--tiny", help="Plans that train on a CPU in seconds: to try things.")] = False,
    processes: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 4,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Plan anew; named variants are kept.")] = False,
) -> None:
    """Write nnU-Net plans for a converted dataset, or add a variant of a configuration to them.

    nnU-Net's own fingerprint and planner do the work. Go on with
    nnUNetv2_preprocess -d 501 -plans_name nnUNetPlans -c 3d_fullres
    """
    from nnunet_liver_ext.planning.run import plan_dataset, plans_file

    numbers = dict(_parse(entry) for entry in set_ or [])
    kept = plans_file(dataset, plans_name).exists() and not overwrite
    path = plan_dataset(
        dataset,
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
        typer.echo("These plans were there and are kept (but for --set); plan anew with --overwrite.")


def _parse(entry: str) -> tuple[str, Any]:
    import json

    key, equals, text = entry.partition("=")
    if not equals:
        raise typer.BadParameter(f"{entry!r}: write KEY=VALUE, for example num_epochs=500.")
    try:
        return key.strip(), json.loads(text)
    except json.JSONDecodeError:
        return key.strip(), text


def _show(path: Any) -> None:
    import json

    from rich.console import Console
    from rich.table import Table

    from nnunet_liver_ext.planning.variants import inherited

    plans = json.loads(path.read_text())
    table = Table(title=f"{plans['dataset_name']}, {plans['plans_name']}")
    for column in ("configuration", "spacing (z, y, x) mm", "patch", "batch", "features", "recipe"):
        table.add_column(column)
    for configuration, entry in plans["configurations"].items():
        table.add_row(
            configuration,
            " x ".join(f"{value:.3g}" for value in inherited(plans, configuration, "spacing")),
            " x ".join(str(int(n)) for n in inherited(plans, configuration, "patch_size")),
            str(inherited(plans, configuration, "batch_size")),
            "-".join(map(str, inherited(plans, configuration, "architecture")["arch_kwargs"]["features_per_stage"])),
            ", ".join(f"{key}={value}" for key, value in entry.get("recipe", {}).items()),
        )
    console = Console()
    console.print(table)
    console.print(f"Plans: {path}")
