"""The file that an import writes, and its record of where the weights are from.

It has the form in which the trainers' own checkpoints hold a segmentor, so that the same code
starts from both:

    network_weights   all weights of the strategy's networks, by name; what the checkpoint lacks
                      is initialised
    trainer_name      a trainer of the strategy they are for
    init_args         {"fold": that of the same dataset that the weights were trained on, or None}
    nnunet_liver_ext  {"version", "recipe": {"strategy"}, "imported": the record}

Nothing in it needs more than torch's `weights_only` reader, and no folder of this machine is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nnunet_liver_ext import __version__
from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.trainers.recipe import PLANS_KEY
from nnunet_liver_ext.trainers.warm_start import IMPORTED
from nnunet_liver_ext.weights.checkpoint_kinds import CheckpointKind
from nnunet_liver_ext.weights.matching import WeightMatches
from nnunet_liver_ext.weights.safe_reading import ForeignCheckpoint
from nnunet_liver_ext.weights.target_network import TargetNetwork


def make_record(
    kind: CheckpointKind,
    checkpoint: ForeignCheckpoint,
    target: TargetNetwork,
    matches: WeightMatches,
    share: float,
) -> dict[str, Any]:
    """Where the weights are from, which network they are for, and what became of each.

    The names are those inside one of the strategy's networks, without `networks.0.`: all of them
    get the same weights.
    """
    return {
        "kind": kind.name,
        "file": checkpoint.path.name,
        "sha256": checkpoint.sha256,
        "licence": kind.licence,
        "origin": training_origin(checkpoint),
        "trainer": target.trainer,
        "dataset_name": target.dataset_name,
        "plans_name": target.plans_name,
        "configuration": target.configuration,
        "network": type(target.networks[0]).__name__,
        "networks": len(target.networks),
        "seed": target.seed,
        "share": {"of": kind.counted_part, "imported": share},
        "weights": [match.to_json() for match in matches.of_network],
        "unused": list(matches.unused),
    }


def training_origin(checkpoint: ForeignCheckpoint) -> dict[str, Any]:
    """What an nnU-Net checkpoint says of its training: trainer, dataset, fold, classes ..."""
    arguments = _mapping(checkpoint.content.get("init_args"))
    said = {
        "trainer": checkpoint.content.get("trainer_name"),
        "dataset_name": _mapping(arguments.get("plans")).get("dataset_name"),
        "configuration": arguments.get("configuration"),
        "fold": arguments.get("fold"),
    }
    classes = [
        str(name) for name in _mapping(_mapping(arguments.get("dataset_json")).get("labels"))
    ]
    known = {key: value for key, value in said.items() if isinstance(value, str | int)}
    return {**known, "classes": classes} if classes else known


def write_import(path: Path, target: TargetNetwork, record: dict[str, Any]) -> None:
    """Writes the file beside `path` and renames it."""
    trained_on = record["origin"]
    same_data = trained_on.get("dataset_name") == target.dataset_name
    content = {
        "network_weights": target.network.state_dict(),
        "trainer_name": target.trainer,
        "init_args": {"fold": trained_on.get("fold") if same_data else None},
        PLANS_KEY: {
            "version": __version__,
            "recipe": {"strategy": target.recipe.strategy},
            IMPORTED: record,
        },
    }
    with atomic_write(path) as unfinished:
        torch.save(content, unfinished)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
