"""The network that weights are imported for: a configuration's, inside a trainer's strategy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

import nnunet_liver_ext.trainers as trainers
from nnunet_liver_ext.console import quiet
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.networks.plans_classes import check_plans_classes
from nnunet_liver_ext.networks.strategies import Strategy
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.planning.plan_dataset import plans_file
from nnunet_liver_ext.trainers.base import LiverTrainer
from nnunet_liver_ext.trainers.dataset_check import check_dataset
from nnunet_liver_ext.trainers.overrides import resolve
from nnunet_liver_ext.trainers.recipe import Recipe


@dataclass(frozen=True)
class TargetNetwork:
    """Where the weights go, and what is known of it."""

    network: Strategy
    """Initialised from `seed`."""
    recipe: Recipe
    trainer: str
    plans_name: str
    dataset_name: str
    configuration: str
    architecture: Mapping[str, Any]
    """`network_class_name` and `arch_kwargs` of the plans."""
    class_names: tuple[str, ...]
    """Of one image, background first."""
    seed: int

    @property
    def description(self) -> str:
        return f"{self.plans_name} of {self.dataset_name}, configuration {self.configuration}"

    @property
    def networks(self) -> list[nn.Module]:
        """The plans' networks that the strategy wraps: one, or one for each image."""
        return list(self.network.networks)


def build_target(
    plans: str,
    *,
    configuration: str,
    dataset: str | None = None,
    trainer: str | None = None,
    seed: int = 0,
    trust: bool = False,
) -> TargetNetwork:
    """Builds the network that a training would begin with.

    Args:
        plans: a plans file, or the name of a dataset's plans (nnUNetPlans).
        configuration: of the plans.
        dataset: number or name of a dataset, or a dataset.json; None: the dataset.json beside the
            plans file.
        trainer: name of one of this package's trainers; None: single input for pairs, one network
            for all else.
        seed: of the initial weights.
        trust: the plans may name classes of any package.

    Raises:
        InputError: no such plans, configuration, dataset or trainer, or they do not go together,
            or the plans name a class that is not known.
    """
    plans_path, content, dataset_json = _read_plans(plans, dataset)
    if not trust:
        check_plans_classes(content, plans_path)
    kind = find_trainer(trainer) if trainer is not None else default_trainer(dataset_json)
    recipe = resolve(kind.recipe, content, configuration)
    check_dataset(kind.__name__, recipe, content, configuration, dataset_json)
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        manager = PlansManager(content)
        entry = manager.get_configuration(configuration)
        network = kind.build_network_architecture(
            manager,
            entry,
            determine_num_input_channels(manager, entry, dataset_json),
            manager.get_label_manager(dataset_json).num_segmentation_heads,
            enable_deep_supervision=recipe.deep_supervision,
        )
    return TargetNetwork(
        network=cast(Strategy, network),
        recipe=recipe,
        trainer=kind.__name__,
        plans_name=str(content.get("plans_name", plans_path.stem)),
        dataset_name=str(content.get("dataset_name", plans_path.parent.name)),
        configuration=configuration,
        architecture={
            "network_class_name": entry.network_arch_class_name,
            "arch_kwargs": entry.network_arch_init_kwargs,
        },
        class_names=_class_names(dataset_json),
        seed=seed,
    )


def find_trainer(name: str) -> type[LiverTrainer]:
    """One of this package's trainers by its name; InputError lists the known ones."""
    if name not in trainers.__all__:
        raise InputError(
            f"{name} is none of this package's trainers: {', '.join(trainers.__all__)}."
        )
    return getattr(trainers, name)


def default_trainer(dataset_json: Mapping[str, Any]) -> type[LiverTrainer]:
    """The plainest trainer for such data: only its strategy matters for weights."""
    if PairLabels.from_dataset_json(dict(dataset_json)) is not None:
        return trainers.nnUNetTrainerSingleInput
    strategy = "image_alone" if "organ_mask" in dataset_json else "one_view"
    fitting = [
        kind for kind in map(find_trainer, trainers.__all__) if kind.recipe.strategy == strategy
    ]
    return next((kind for kind in fitting if kind.recipe.architecture is None), fitting[0])


def _read_plans(plans: str, dataset: str | None) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The plans file, what it holds, and what the dataset.json holds."""
    plans_path, dataset_path = _find_files(plans, dataset)
    content, dataset_json = _read_json(plans_path), _read_json(dataset_path)
    if not isinstance(content.get("configurations"), dict):
        raise InputError(
            f"{plans_path}: is no plans file, it has no configurations; write one with nnunet_liver"
            " plan."
        )
    if "labels" not in dataset_json:
        raise InputError(f"{dataset_path}: is no dataset.json, it has no labels.")
    return plans_path, content, dataset_json


def _find_files(plans: str, dataset: str | None) -> tuple[Path, Path]:
    """(plans file, dataset.json)."""
    is_file = dataset is not None and dataset.endswith(".json")
    path = Path(plans).expanduser()
    if path.suffix != ".json":
        if dataset is None or is_file:
            raise InputError(
                f"{plans}: say whose plans these are (-d 501), or give a plans file (.json)."
            )
        path = plans_file(dataset, plans)
    elif dataset is not None and not is_file:
        return path, plans_file(dataset, path.stem).parent / "dataset.json"
    return path, Path(str(dataset)).expanduser() if is_file else path.parent / "dataset.json"


def _class_names(dataset_json: dict[str, Any]) -> tuple[str, ...]:
    pair = PairLabels.from_dataset_json(dataset_json)
    return pair.classes if pair is not None else tuple(dataset_json["labels"])


def _read_json(path: Path) -> dict[str, Any]:
    content = read_json(
        path,
        missing=f"{path}: no such file; write it with nnunet_liver convert and nnunet_liver plan.",
    )
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: must hold names and values, but it is a {type(content).__name__}."
        )
    return content
