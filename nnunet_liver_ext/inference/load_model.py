"""Loading a trained model: a folder of nnU-Net's results, or nnUNetv2_export_model_to_zip's zip."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nnunet_liver_ext.checkpoint_files import read_nnunet_checkpoint, restricted_loading
from nnunet_liver_ext.console import quiet
from nnunet_liver_ext.environment import enable_trainers
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.inference.model_zip import extract_model
from nnunet_liver_ext.inference.registors import load_registor
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.networks.plans_classes import check_plans_classes
from nnunet_liver_ext.networks.registor import Registor
from nnunet_liver_ext.postprocessing.largest_piece import NO_RULES, Rules
from nnunet_liver_ext.trainers.checkpoint import check_version
from nnunet_liver_ext.trainers.predictor import LiverPredictor
from nnunet_liver_ext.trainers.recipe import PLANS_KEY

READERS = ("SimpleITKIO", "NibabelIO")
"""Readers of nnU-Net that leave the axes of a file as they are."""
FINAL = "checkpoint_final.pth"


def load_model(
    path: Path | str,
    *,
    folds: Sequence[int | str] | None = None,
    checkpoint: str = FINAL,
    device: torch.device | str | None = None,
    mirroring: bool = True,
    tile_step: float = 0.5,
    deformation: bool = False,
    postprocessing: bool = True,
    trust: bool = False,
) -> Model:
    """Loads a model folder such as `nnUNetTrainerSingleInput__nnUNetPlans__3d_fullres`, or a zip.

    Args:
        path: the folder with plans.json, dataset.json and fold_0, fold_1, ..., or a zip that
            nnUNetv2_export_model_to_zip wrote.
        folds: which folds to average (logits); all that have the checkpoint if None.
        checkpoint: file name in each fold's folder.
        device: where to run, such as "cuda" or "cpu"; CUDA if there is a GPU, by default.
        mirroring: mirrored test-time augmentation, if the model was trained with mirroring.
        tile_step: step of the sliding window as a share of the patch.
        deformation: load the registors, too, so that predictions come with deformations.
        postprocessing: load the rules of `nnunet_liver postprocess`, if the folder has any, and
            restrict lesions to the organ mask.
        trust: the model's author may run what he wrote: its checkpoints may hold more than weights
            and numbers, its plans may name classes of any package.

    Raises:
        InputError: no model there, no checkpoint, a later version's model, one of regions instead
            of classes, one without a registor where deformations are wanted, rules of other
            classes, or a model that could run code although it is not trusted.

    Example:
        >>> import nnunet_liver_ext as nle
        >>> model = nle.load_model(model_folder, device="cpu")  # model_folder: that of a model
        >>> model.modalities, model.class_names
        (('T1', 'T2'), ('background', 'liver'))
    """
    with unpacked_model(Path(path)) as folder:
        plans, dataset_json = (_read_json(folder, name) for name in ("plans.json", "dataset.json"))
        _check_readable(folder, plans, dataset_json)
        names = tuple(map(str, folds)) if folds else find_folds(folder, checkpoint)
        checkpoints = [_checkpoint(folder, fold, checkpoint) for fold in names]
        if not trust:
            _check_harmless(folder, plans, checkpoints)
        predictor = _make_predictor(device, mirroring=mirroring, tile_step=tile_step)
        registors = _load_weights(
            predictor, folder, names, checkpoint, deformation=deformation, trust=trust
        )
        if predictor.configuration_manager.previous_stage_name is not None:
            raise InputError(
                f"{folder}: is the second stage of a cascade; use nnUNetv2_predict for it."
            )
        trainer, configuration = _names_in(folder)
        model = Model(
            predictor,
            dataset_json,
            trainer=predictor.trainer_name or trainer,
            configuration=configuration,
            checkpoint=checkpoint,
            folds=names,
            strategy=plans.get(PLANS_KEY, {}).get("recipe", {}).get("strategy", ""),
            weights=_sha256(checkpoints),
            tile_step=tile_step,
            mirroring=mirroring,
            registors=registors,
            postprocessing=postprocessing,
        )
        rules = Rules.of_model(folder, model.class_names) if postprocessing else NO_RULES
        return replace(model, rules=rules)


@contextlib.contextmanager
def unpacked_model(path: Path) -> Iterator[Path]:
    """The model folder itself, or a temporary folder with what a zip holds.

    Raises:
        InputError: neither a model folder nor a zip with one model in it.
    """
    if path.is_dir():
        yield path
        return
    if not zipfile.is_zipfile(path):
        raise InputError(
            f"{path}: is neither a model folder nor a zip written by nnUNetv2_export_model_to_zip."
        )
    with tempfile.TemporaryDirectory(prefix="nnunet_liver_model_") as folder:
        extract_model(path, Path(folder))
        models = sorted(plans.parent for plans in Path(folder).rglob("plans.json"))
        if len(models) != 1:
            names = ", ".join(model.name for model in models) or "none"
            raise InputError(
                f"{path}: must hold one model, it holds {len(models)} ({names}); unpack it and"
                " choose one."
            )
        yield models[0]


def find_folds(folder: Path, checkpoint: str) -> tuple[str, ...]:
    """Names of the folds that have the checkpoint: "0", "1", ..., or "all" if there is no other."""
    names = sorted(
        path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{checkpoint}")
    )
    if not names:
        raise InputError(
            f"{folder}: holds no fold_*/{checkpoint}; finish a training or name another checkpoint"
            " with --checkpoint."
        )
    return tuple(name for name in names if name != "all") or ("all",)


def _check_readable(folder: Path, plans: dict[str, Any], dataset_json: dict[str, Any]) -> None:
    if any(isinstance(label, list) for label in dataset_json["labels"].values()):
        raise InputError(
            f"{folder}: was trained on regions instead of classes; use nnUNetv2_predict for it."
        )
    if plans.get("image_reader_writer", READERS[0]) not in READERS:
        raise InputError(
            f"{folder}: its images were read by nnU-Net's {plans['image_reader_writer']}, which may"
            " turn axes; use nnUNetv2_predict for it."
        )
    check_version(plans.get(PLANS_KEY, {}).get("version", "0.0"), folder)


def _check_harmless(folder: Path, plans: dict[str, Any], checkpoints: Sequence[Path]) -> None:
    """InputError if loading the model could run what its author wrote."""
    check_plans_classes(plans, folder / "plans.json")
    for path in checkpoints:
        read_nnunet_checkpoint(path, trust=False)


def _checkpoint(folder: Path, fold: str, name: str) -> Path:
    path = folder / f"fold_{fold}" / name
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; train that fold, or choose others.")
    return path


def _make_predictor(
    device: torch.device | str | None, *, mirroring: bool, tile_step: float
) -> LiverPredictor:
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with quiet():
        return LiverPredictor(
            tile_step_size=tile_step,
            use_mirroring=mirroring,
            device=chosen,
            perform_everything_on_device=chosen.type == "cuda",
            allow_tqdm=False,
        )


def _load_weights(
    predictor: LiverPredictor,
    folder: Path,
    folds: Sequence[str],
    checkpoint: str,
    *,
    deformation: bool,
    trust: bool,
) -> tuple[Registor, ...]:
    """Fills the predictor with the folds' weights; the registor of each fold if it is wanted."""
    enable_trainers()
    try:
        with quiet(), restricted_loading(trust=trust):
            predictor.initialize_from_trained_model_folder(str(folder), list(folds), checkpoint)
            wanted = folds if deformation else ()
            return tuple(
                load_registor(folder, fold, checkpoint, predictor.device, trust=trust)
                for fold in wanted
            )
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{folder}: the model cannot be loaded, it is damaged or of another trainer ({reason})."
        ) from None


def _names_in(folder: Path) -> tuple[str, str]:
    """Trainer and configuration of a folder TRAINER__PLANS__CONFIGURATION, else empty names."""
    parts = folder.name.split("__")
    return (parts[0], parts[2]) if len(parts) == 3 else ("", "")


def _sha256(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    return read_json(folder / name, missing=f"{folder}: is no model folder, it has no {name}.")
