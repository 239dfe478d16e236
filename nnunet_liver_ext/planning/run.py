"""Fingerprint, plans and splits of a dataset, through nnU-Net's own extractor and planner."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_liver_ext.console import quiet
from nnunet_liver_ext.environment import dataset_folder, nnunet_folder
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.images import replaced
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.planning import variants
from nnunet_liver_ext.planning.variants import Plans


def plan_dataset(
    dataset: int | str,
    *,
    gpu_memory_gb: float = 8.0,
    plans_name: str = "nnUNetPlans",
    tiny: bool = False,
    numbers: Mapping[str, Any] | None = None,
    name: str | None = None,
    base: str = "3d_fullres",
    processes: int = 4,
    overwrite: bool = False,
) -> Path:
    """Writes a plans file, or adds a variant to the one that is there.

    Args:
        dataset: number or name of a converted dataset.
        gpu_memory_gb: what training may use; for pairs both images of a pair are counted.
        plans_name: name of the plans file.
        tiny: plans so small that they train on a CPU in seconds.
        numbers: recipe numbers, `batch_size` or `patch_size` to set, in `base` or, with `name`, in a new variant of it.
        name: name of the new configuration.
        base: configuration to change or to inherit from.
        processes: worker processes of the fingerprint extraction.
        overwrite: plan anew although there are plans; variants in them are kept, other splits are replaced.

    Returns:
        The plans file.

    Raises:
        InputError: no such dataset, outdated plans or other splits without `overwrite`, or numbers that do not fit.
    """
    if numbers:
        _check_recipe_numbers(numbers)
    raw = dataset_folder(dataset, "raw")
    path = plans_file(dataset, plans_name)
    preprocessed = path.parent
    dataset_json = _read_json(raw / "dataset.json")
    if path.exists() and not overwrite and path.stat().st_mtime < (raw / "dataset.json").stat().st_mtime:
        raise InputError(f"{path}: older than the dataset; plan anew with --overwrite.")
    if not path.exists() or overwrite:
        _copy_splits(raw, preprocessed, overwrite=overwrite)
        _run_nnunet_planner(raw.name, dataset_json, gpu_memory_gb, plans_name, processes)
        _save(_adapted(_read_json(path), dataset_json, tiny=tiny), path)
    plans = _read_json(path)
    if name is not None:
        _save(variants.with_variant(plans, name, base, numbers or {}), path)
    elif numbers:
        _save(variants.with_numbers(plans, base, numbers), path)
    return path


def plans_file(dataset: int | str, plans_name: str) -> Path:
    """Where the plans of a converted dataset are, or will be."""
    raw = dataset_folder(dataset, "raw")
    return nnunet_folder("preprocessed") / raw.name / f"{plans_name}.json"


def _adapted(plans: Plans, dataset_json: Mapping[str, Any], *, tiny: bool) -> Plans:
    if PairLabels.from_dataset_json(dataset_json) is not None:
        plans = variants.without_cascade(plans)
    return variants.tiny(plans) if tiny else plans


def _run_nnunet_planner(
    dataset_name: str, dataset_json: Mapping[str, Any], gpu_memory_gb: float, plans_name: str, processes: int
) -> None:
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset, plan_experiment_dataset

    from nnunet_liver_ext.planning.planner import PairPlanner

    planner = ExperimentPlanner if PairLabels.from_dataset_json(dataset_json) is None else PairPlanner
    number = int(dataset_name[len("Dataset") : len("Dataset") + 3])
    with quiet():
        extract_fingerprint_dataset(number, num_processes=processes, verbose=False)
        plan_experiment_dataset(number, planner, gpu_memory_target_in_gb=gpu_memory_gb, overwrite_plans_name=plans_name)


def _copy_splits(raw: Path, preprocessed: Path, *, overwrite: bool) -> None:
    """The converter's splits by patient; nnU-Net's own would put two studies of a patient on both sides."""
    source, target = raw / "splits_final.json", preprocessed / "splits_final.json"
    if not source.exists():
        return
    if target.exists() and _read_json(source) != _read_json(target):
        if not overwrite:
            raise InputError(
                f"{target}: differs from the dataset's splits; --overwrite replaces it (a copy is kept beside it)."
            )
        target.replace(target.with_suffix(".previous.json"))
    preprocessed.mkdir(parents=True, exist_ok=True)
    with replaced(target) as unfinished:
        shutil.copyfile(source, unfinished)


def _check_recipe_numbers(numbers: Mapping[str, Any]) -> None:
    from nnunet_liver_ext.trainers.recipe import Recipe, override

    recipe = {key: value for key, value in numbers.items() if key not in variants.CONFIGURATION_KEYS}
    override(Recipe(strategy="single_input"), recipe, "--set")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; convert the dataset first.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: is no valid JSON ({error}).") from None


def _save(plans: Plans, path: Path) -> None:
    with replaced(path) as unfinished:
        unfinished.write_text(json.dumps(plans, indent=4))
