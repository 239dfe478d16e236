"""A trained model on disk: a folder of nnU-Net's results, or the zip that
nnUNetv2_export_model_to_zip wrote."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nnunet_liver_ext import __version__
from nnunet_liver_ext.console import quiet
from nnunet_liver_ext.dataset_json.conversion import Conversion
from nnunet_liver_ext.environment import enable_trainers
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.inference.registors import load_registor
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.networks.registor import Registor
from nnunet_liver_ext.networks.strategies import STRATEGIES
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.postprocessing.largest_piece import NO_RULES, Rules
from nnunet_liver_ext.trainers.checkpoint import check_version
from nnunet_liver_ext.trainers.predictor import LiverPredictor
from nnunet_liver_ext.trainers.recipe import PLANS_KEY

READERS = ("SimpleITKIO", "NibabelIO")
"""Readers of nnU-Net that leave the axes of a file as they are."""
RESTRICTED = "lesions inside the organ mask, opened at its border"
"""In prediction.json, see `inference.lesion_postprocessing`."""


@dataclass(frozen=True)
class Model:
    """A loaded model and what its dataset.json says of its inputs."""

    predictor: LiverPredictor
    dataset_json: dict[str, Any]
    trainer: str
    configuration: str
    checkpoint: str
    folds: tuple[str, ...]
    strategy: str
    weights: str
    """SHA-256 of the checkpoints."""
    tile_step: float
    mirroring: bool
    registors: tuple[Registor, ...] = ()
    """One for each fold if they were asked for; predictions then come with deformations."""
    rules: Rules = NO_RULES
    """Of which classes only the largest piece is kept, see `evaluation.postprocessing`."""
    postprocessing: bool = True

    def describe(self) -> dict[str, Any]:
        """What predictions of this model can be told by; without folders of this machine."""
        return {
            "nnunet_liver_ext": __version__,
            "trainer": self.trainer,
            "configuration": self.configuration,
            "checkpoint": self.checkpoint,
            "folds": list(self.folds),
            "weights_sha256": self.weights,
            "tile_step": self.tile_step,
            "mirroring": self.mirroring,
            "postprocessing": [
                *self.rules.names(),
                *([RESTRICTED] if self.restricts_lesions else []),
            ],
            "note": "Research use only.",
        }

    @property
    def pair(self) -> PairLabels | None:
        return PairLabels.from_dataset_json(self.dataset_json)

    @cached_property
    def conversion(self) -> Conversion:
        """How images become the model's input."""
        return Conversion.from_dataset_json(self.dataset_json)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of image 1 and image 2 of a pair, or of the channels of an image."""
        return self.conversion.modalities

    @property
    def segmented(self) -> tuple[str, ...]:
        """Names of the images that get a mask; the channels of an image have one, by the name of
        the first."""
        return {
            "pairs": self.modalities,
            "preregistered": self.modalities[1:],
            "images": self.modalities[:1],
        }[self.conversion.layout]

    @property
    def restricts_lesions(self) -> bool:
        """Whether lesions outside the organ mask, and thin ones at its border, are removed (Hänsch
        et al. 2022)."""
        return self.conversion.organ is not None and self.postprocessing

    @property
    def takes_lone_images(self) -> bool:
        return self.strategy in STRATEGIES and STRATEGIES[self.strategy].takes_lone_images

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of one image, background first."""
        if self.pair is not None:
            return self.pair.classes
        labels = {
            name: label for name, label in self.dataset_json["labels"].items() if name != "ignore"
        }
        return tuple(sorted(labels, key=lambda name: labels[name]))


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
        raise InputError(
            f"{path}: is neither a model folder nor a zip written by nnUNetv2_export_model_to_zip."
        )
    with tempfile.TemporaryDirectory(prefix="nnunet_liver_model_") as folder:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        found = sorted(plans.parent for plans in Path(folder).rglob("plans.json"))
        if len(found) != 1:
            names = ", ".join(folder.name for folder in found) or "none"
            raise InputError(
                f"{path}: must hold one model, it holds {len(found)} ({names}); unpack it and"
                " choose one."
            )
        yield found[0]


def load_model(
    folder: Path,
    *,
    folds: Sequence[str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
    device: torch.device,
    mirroring: bool = True,
    tile_step: float = 0.5,
    deformation: bool = False,
    postprocessing: bool = True,
) -> Model:
    """Loads a model folder such as `nnUNetTrainerSingleInput__nnUNetPlans__3d_fullres`.

    Args:
        folder: the folder with plans.json, dataset.json and fold_0, fold_1, ...
        folds: which folds to average (logits); all that have the checkpoint if None.
        checkpoint: file name in each fold's folder.
        device: where to run.
        mirroring: mirrored test-time augmentation, if the model was trained with mirroring.
        tile_step: step of the sliding window as a share of the patch.
        deformation: load the registors, too, so that predictions come with deformations.
        postprocessing: load the rules of `nnunet_liver postprocess`, if the folder has any.

    Raises:
        InputError: no model there, no checkpoint, a later version's model, one of regions instead
            of classes, one without a registor where deformations are wanted, or rules of other
            classes.
    """
    plans, dataset_json = (_read_json(folder, name) for name in ("plans.json", "dataset.json"))
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
    names = tuple(folds) if folds else find_folds(folder, checkpoint)
    checkpoints = [folder / f"fold_{fold}" / checkpoint for fold in names]
    for path in checkpoints:
        if not path.is_file():
            raise InputError(f"{path}: no such checkpoint; train that fold, or choose others.")
    enable_trainers()
    with quiet():
        predictor = LiverPredictor(
            tile_step_size=tile_step,
            use_mirroring=mirroring,
            device=device,
            perform_everything_on_device=device.type == "cuda",
            allow_tqdm=False,
        )
        try:
            predictor.initialize_from_trained_model_folder(str(folder), list(names), checkpoint)
            registors = tuple(
                load_registor(folder, fold, checkpoint, device) for fold in names if deformation
            )
        except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"{folder}: the model cannot be loaded, it is damaged or of another trainer"
                f" ({reason})."
            ) from None
    trainer, _, configuration = (
        folder.name.split("__") if folder.name.count("__") == 2 else ("", "", "")
    )
    if predictor.configuration_manager.previous_stage_name is not None:
        raise InputError(
            f"{folder}: is the second stage of a cascade; use nnUNetv2_predict for it."
        )
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
    )
    if not postprocessing:
        return replace(model, postprocessing=False)
    return replace(model, rules=Rules.of_model(folder, model.class_names))


def find_folds(folder: Path, checkpoint: str) -> tuple[str, ...]:
    """Names of the folds ("0", "1", ..., or "all" if there are no others) that have the
    checkpoint."""
    found = sorted(
        path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{checkpoint}")
    )
    numbered = tuple(name for name in found if name != "all")
    if not found:
        raise InputError(
            f"{folder}: holds no fold_*/{checkpoint}; finish a training or name another checkpoint"
            " with --checkpoint."
        )
    return numbered or ("all",)


def _sha256(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**22):
                digest.update(block)
    return digest.hexdigest()


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    return read_json(folder / name, missing=f"{folder}: is no model folder, it has no {name}.")
