"""The configurations of a plans file, for a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from nnunet_liver_ext.environment import dataset_folder
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.planning.configuration_memory import current_memory
from nnunet_liver_ext.planning.configurations import inherited_value


def plans_table(path: Path) -> Table:
    """A row for each configuration of a plans file: network, grid, patch, batch, memory, recipe."""
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
        architecture = inherited_value(plans, configuration, "architecture")
        spacing = [f"{value:.3g}" for value in inherited_value(plans, configuration, "spacing")]
        patch = inherited_value(plans, configuration, "patch_size")
        table.add_row(
            configuration,
            architecture["network_class_name"].rpartition(".")[2],
            " x ".join(["as it is"] * (len(patch) - len(spacing)) + spacing),
            " x ".join(str(int(n)) for n in patch),
            str(inherited_value(plans, configuration, "batch_size")),
            "-".join(map(str, architecture["arch_kwargs"].get("features_per_stage", []))),
            _memory(current_memory(plans, configuration, dataset_json)),
            ", ".join(f"{key}={value}" for key, value in _recipe(entry).items()),
        )
    return table


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
