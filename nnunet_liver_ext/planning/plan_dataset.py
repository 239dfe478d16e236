"""Fingerprint, plans and splits of a dataset, through nnU-Net's own extractor and planner."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.console import quiet
from nnunet_liver_ext.environment import dataset_folder, nnunet_folder
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.folder_lock import locked_folder
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.planning import configurations
from nnunet_liver_ext.planning.architectures import find_architecture
from nnunet_liver_ext.planning.configurations import Plans
from nnunet_liver_ext.planning.plan_request import PlanRequest, resolve_request
from nnunet_liver_ext.planning.tiny_plans import make_tiny
from nnunet_liver_ext.trainers.protocols import find_protocol


def plan_dataset(
    dataset: int | str,
    *,
    architecture: str | None = None,
    options: Mapping[str, Any] | None = None,
    strategy: str | None = None,
    objective: str = "dice_ce",
    protocol: str | None = None,
    spacing_mm: Sequence[float] | None = None,
    gpu_memory_gb: float = 8.0,
    plans_name: str | None = None,
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
        architecture: key of `architectures.ARCHITECTURES`; None: the protocol's, or nnunet.
        options: further arguments of one of our networks.
        strategy: key of `networks.strategies.STRATEGIES` that memory is planned for; None:
            single_input for pairs, one_view (or, with an organ mask, image_alone) for others.
        objective: key of `trainers.objectives.OBJECTIVES` that memory is planned for.
        protocol: key of `trainers.protocols.PROTOCOLS`.
        spacing_mm: target spacing (z, y, x), or (y, x) to leave the distance of the slices as it
            is; None: the protocol's, the architecture's, or nnU-Net's choice.
        gpu_memory_gb: what training may use.
        plans_name: name of the plans file; None: `default_plans_name`.
        tiny: plans so small that they train on a CPU in seconds.
        numbers: recipe numbers, `batch_size` or `patch_size` to set, in `base` or, with `name`, in
            a new variant of it.
        name: name of the new configuration.
        base: configuration to change or to inherit from.
        processes: worker processes of the fingerprint extraction.
        overwrite: plan anew although there are plans; variants in them are kept, other splits are
            replaced.

    Returns:
        The plans file.

    Raises:
        InputError: no such dataset, outdated plans, plans of something else or other splits without
            `overwrite`, too little memory, or anything that does not fit the dataset.
    """
    if numbers:
        _check_recipe_numbers(numbers)
    raw = dataset_folder(dataset, "raw")
    dataset_json = _read_json(raw / "dataset.json")
    if dataset_json.get("numTraining") == 0:
        raise InputError(
            f"{raw}: is an inference set, without a case to train on: none has a mask."
        )
    path = plans_file(dataset, plans_name or default_plans_name(architecture, protocol))
    request = resolve_request(
        dataset_json,
        architecture=architecture,
        options=options,
        strategy=strategy,
        objective=objective,
        protocol=protocol,
        spacing_mm=spacing_mm,
        numbers={} if name is not None else _recipe_numbers(numbers or {}),
        gpu_memory_gb=gpu_memory_gb,
        tiny=tiny,
    )
    with locked_folder(path.parent):
        if path.exists() and not overwrite:
            asked_for_network = architecture is not None or protocol is not None
            _check_existing(path, raw / "dataset.json", request if asked_for_network else None)
        else:
            _copy_splits(raw, path.parent, overwrite=overwrite)
            with _restore_on_failure(path):
                _run_nnunet_planner(raw, request, path, processes, overwrite)
                _save(_adapt(_read_json(path), dataset_json, request), path)
        plans = _read_json(path)
        if name is not None:
            _save(configurations.add_variant(plans, name, base, numbers or {}), path)
        elif numbers:
            _save(configurations.set_numbers(plans, base, numbers), path)
    return path


def default_plans_name(architecture: str | None, protocol: str | None) -> str:
    """nnUNetPlans for nnU-Net's own network; other architectures have plans files of their own."""
    if architecture is None:
        architecture = "nnunet" if protocol is None else find_protocol(protocol).architecture
    return find_architecture(architecture).plans_name


def plans_file(dataset: int | str, plans_name: str) -> Path:
    """Where the plans of a converted dataset are, or will be."""
    raw = dataset_folder(dataset, "raw")
    return nnunet_folder("preprocessed") / raw.name / f"{plans_name}.json"


def _check_existing(path: Path, dataset_json: Path, request: PlanRequest | None) -> None:
    """InputError if the plans are older than the dataset, or not those that are asked for."""
    if not _is_newer(path, dataset_json):
        raise InputError(f"{path}: older than the dataset; plan anew with --overwrite.")
    if request is None:
        return
    entries = list(_read_json(path)["configurations"].values())
    networks = {
        entry["architecture"]["network_class_name"] for entry in entries if "architecture" in entry
    }
    protocols = {
        _name_edition(entry["protocol"], entry.get("protocol_edition", 1))
        for entry in entries
        if "protocol" in entry
    }
    preset = request.protocol
    asked = set() if preset is None else {_name_edition(preset.name, preset.edition)}
    if request.architecture.network not in networks or protocols != asked:
        raise InputError(
            f"{path}: was planned for {', '.join(sorted(networks | protocols))}; give other plans"
            " another name (-p), or plan anew with --overwrite."
        )


def _name_edition(protocol: str, edition: int) -> str:
    return protocol if edition == 1 else f"{protocol} (edition {edition})"


@contextmanager
def _restore_on_failure(path: Path) -> Iterator[None]:
    """nnU-Net's planner writes its plans before they are ours; half of them must not stay."""
    before = path.read_bytes() if path.exists() else None
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        if before is not None:
            path.write_bytes(before)
        raise


def _adapt(plans: Plans, dataset_json: Mapping[str, Any], request: PlanRequest) -> Plans:
    from nnunet_liver_ext.planning.configuration_memory import add_memory

    if PairLabels.from_dataset_json(dataset_json) is not None:
        plans = configurations.remove_cascade(plans)
    if request.tiny:
        plans = make_tiny(plans, request.architecture)
    return add_memory(plans, dataset_json, request)


def _run_nnunet_planner(
    raw: Path, request: PlanRequest, path: Path, processes: int, overwrite: bool
) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset

    number = int(raw.name[len("Dataset") : len("Dataset") + 3])
    planner = resolve_name(request.architecture.planner)
    with quiet():
        if overwrite or not _is_newer(
            path.parent / "dataset_fingerprint.json", raw / "dataset.json"
        ):
            extract_fingerprint_dataset(number, num_processes=processes, verbose=False)
        memory = {"gpu_memory_target_in_gb": request.gpu_memory_gb}
        planner(number, plans_name=path.stem, request=request, **memory).plan_experiment()


def _is_newer(path: Path, than: Path) -> bool:
    return path.exists() and path.stat().st_mtime >= than.stat().st_mtime


def _copy_splits(raw: Path, preprocessed: Path, *, overwrite: bool) -> None:
    """Copies the converter's splits by patient.

    nnU-Net's own would put two studies of a patient on both sides.
    """
    source, target = raw / "splits_final.json", preprocessed / "splits_final.json"
    if not source.exists():
        return
    if target.exists() and _read_json(source) != _read_json(target):
        if not overwrite:
            raise InputError(
                f"{target}: differs from the dataset's splits; --overwrite replaces it (a copy is"
                " kept beside it)."
            )
        target.replace(target.with_suffix(".previous.json"))
    preprocessed.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as unfinished:
        shutil.copyfile(source, unfinished)


def _check_recipe_numbers(numbers: Mapping[str, Any]) -> None:
    from nnunet_liver_ext.trainers.overrides import override_known
    from nnunet_liver_ext.trainers.recipe import Recipe

    override_known(Recipe(strategy="single_input"), _recipe_numbers(numbers), "--set")


def _recipe_numbers(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in numbers.items() if key not in configurations.CONFIGURATION_KEYS
    }


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path, missing=f"{path}: no such file; convert the dataset first.")


def _save(plans: Plans, path: Path) -> None:
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(plans, indent=4))
