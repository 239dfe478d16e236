"""A trained model on disk: a folder of nnU-Net's results, or the zip that nnUNetv2_export_model_to_zip wrote."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_liver_ext.environment import enable_trainers
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.trainers.checkpoint import check_version
from nnunet_liver_ext.trainers.recipe import PLANS_KEY

SEGMENTS_ALONE = ("single_input", "single_input_specialized")
"""Strategies whose models also take a lone image."""


@dataclass(frozen=True)
class Model:
    """A loaded model and what its dataset.json says of its inputs."""

    predictor: nnUNetPredictor
    dataset_json: dict[str, Any]
    trainer: str
    configuration: str
    checkpoint: str
    folds: tuple[str, ...]
    strategy: str

    @property
    def pair(self) -> PairLabels | None:
        return PairLabels.from_dataset_json(self.dataset_json)

    @property
    def modalities(self) -> tuple[str, str]:
        """Names of image 1 and image 2 of a study."""
        if self.pair is not None:
            return self.pair.modalities
        registered = self.dataset_json["preregistered"]
        return registered["moving"], registered["fixed"]

    @property
    def takes_lone_images(self) -> bool:
        return self.strategy in SEGMENTS_ALONE

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of one image, background first."""
        if self.pair is not None:
            return self.pair.classes
        return tuple(sorted(self.dataset_json["labels"], key=self.dataset_json["labels"].get))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The model folder itself, or a temporary folder with what a zip holds.

    Raises:
        InputError: neither a model folder nor a zip with one model in it.
    """
    if path.is_dir():
        yield path
        return
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: is neither a model folder nor a zip written by nnUNetv2_export_model_to_zip.")
    with tempfile.TemporaryDirectory(prefix="nnunet_liver_model_") as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        found = sorted(plans.parent for plans in Path(folder).rglob("plans.json"))
        if len(found) != 1:
            names = ", ".join(folder.name for folder in found) or "none"
            raise InputError(f"{path}: must hold one model, it holds {len(found)} ({names}); unpack it and choose one.")
        yield found[0]


def load_model(
    folder: Path,
    *,
    folds: Sequence[str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    device: torch.device,
    mirroring: bool = True,
    tile_step: float = 0.5,
) -> Model:
    """Loads a model folder such as `nnUNetTrainerSingleInput__nnUNetPlans__3d_fullres`.

    Args:
        folder: the folder with plans.json, dataset.json and fold_0, fold_1, ...
        folds: which folds to average (logits); all that have the checkpoint if None.
        checkpoint: file name in each fold's folder.
        device: where to run.
        mirroring: mirrored test-time augmentation, if the model was trained with mirroring.
        tile_step: step of the sliding window as a share of the patch.

    Raises:
        InputError: no model there, no checkpoint, a later version's model, or one that knows neither pairs nor
            pre-registered images.
    """
    plans, dataset_json = (_read_json(folder, name) for name in ("plans.json", "dataset.json"))
    if "pair" not in dataset_json and "preregistered" not in dataset_json:
        raise InputError(f"{folder}: was not trained on pairs; use nnUNetv2_predict for ordinary datasets.")
    check_version(plans.get(PLANS_KEY, {}).get("version", "0.0"), folder)
    names = tuple(folds) if folds else find_folds(folder, checkpoint)
    for fold in names:
        if not (folder / f"fold_{fold}" / checkpoint).is_file():
            raise InputError(
                f"{folder / f'fold_{fold}' / checkpoint}: no such checkpoint; train that fold, or choose others."
            )
    enable_trainers()
    with quiet():
        predictor = nnUNetPredictor(
            tile_step_size=tile_step,
            use_mirroring=mirroring,
            device=device,
            perform_everything_on_device=device.type == "cuda",
            allow_tqdm=False,
        )
        predictor.initialize_from_trained_model_folder(str(folder), list(names), checkpoint)
    trainer, _, configuration = folder.name.split("__") if folder.name.count("__") == 2 else ("", "", "")
    return Model(
        predictor,
        dataset_json,
        trainer=predictor.trainer_name or trainer,
        configuration=configuration,
        checkpoint=checkpoint,
        folds=names,
        strategy=plans.get(PLANS_KEY, {}).get("recipe", {}).get("strategy", ""),
    )


def find_folds(folder: Path, checkpoint: str) -> tuple[str, ...]:
    """Names of the folds ("0", "1", ..., or "all" if there are no others) that have the checkpoint."""
    found = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{checkpoint}"))
    numbered = tuple(name for name in found if name != "all")
    if not found:
        raise InputError(
            f"{folder}: holds no fold_*/{checkpoint}; finish a training or name another checkpoint with --checkpoint."
        )
    return numbered or ("all",)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """nnU-Net prints a few lines for every case; our progress bar says the same."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        return json.loads((folder / name).read_text())
    except FileNotFoundError:
        raise InputError(f"{folder}: is no model folder, it has no {name}.") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{folder / name}: is no valid JSON ({error}).") from None
