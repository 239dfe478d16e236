"""The main job from beginning to end: studies in; three models, native masks and a report out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import Progress, TaskID

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.benchmark.workspace import Workspace
from nnunet_liver_ext.console import progress_bar
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.studies.study import Study
from nnunet_liver_ext.studies.study_layouts import read_studies

CONFIGURATION = "3d_fullres"
COOPERATING = "cooperating"
"""A variant of it that starts from the second model's segmentor: the registor first, then both."""
MODELS = {
    "nnUNetTrainerSingleInput": CONFIGURATION,
    "nnUNetTrainerDualOutputSpecialized": CONFIGURATION,
    "nnUNetTrainerSimilarity": COOPERATING,
}
"""Trainers and their configurations."""
LANES = (
    ("nnUNetTrainerDualOutputSpecialized", "nnUNetTrainerSimilarity"),
    ("nnUNetTrainerSingleInput",),
)
"""Each lane does its trainings one after the other; on a CPU the lanes run side by side.

Tiny networks would leave one of two cores idle.
"""
GOALS = {"T1": 0.90, "T2": 0.85}
"""Mean Dice of held-out phantom pairs that single input must reach with the default settings."""
SPACING = (6.0, 6.0, 8.0)
"""(x, y, z) mm: coarse enough for a tiny network to see a whole abdomen at once."""


@dataclass(frozen=True)
class DemoSettings:
    """What the demo does; the defaults take about seven minutes on two CPU cores."""

    out: Path
    source: Path | None = None
    """Studies with masks (folder or CSV); phantom pairs if None."""
    pairs: int = 16
    hold_out: int = 4
    """Patients that no model sees."""
    epochs: int = 10
    device: str = "cpu"
    spacing: tuple[float, float, float] = SPACING
    """(x, y, z) mm of the common grid."""
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {"liver": (1,)})
    """Values of each class in the source's masks."""
    seed: int = 1
    dataset: int = 501


def run_demo(settings: DemoSettings, console: Console) -> dict[str, pd.DataFrame]:
    """Runs every step that is not done yet.

    Args:
        settings: what to do and where.
        console: where the steps and their times are shown; what nnU-Net prints goes to `log.txt` in
            the folder.

    Returns:
        For each trainer the evaluation of the held-out pairs (tidy: case, modality, class, metric,
            value).

    Raises:
        InputError: a step failed (the message names the log), or the source is no set of studies
            with masks.
    """
    job = _Job(settings, console)
    folder = settings.source or job.run_step("making phantom pairs", job.make_phantom)
    studies = read_studies(folder)
    held_out = hold_out_last_patients(studies, settings.hold_out)
    job.run_step(
        "converting both images of each pair to one grid", lambda: job.convert(studies, held_out)
    )
    job.run_step("planning", job.plan)
    job.run_step("nnUNetv2_preprocess", job.preprocess)
    job.run_step("nnUNetv2_train", job.train_models)
    unseen = [study for study in studies if study.patient in held_out]
    results = {}
    for trainer in MODELS:
        job.run_step(
            "predicting held-out pairs on their native grids", partial(job.predict, trainer, unseen)
        )
        results[trainer] = job.run_step("evaluating", partial(job.evaluate, trainer, unseen))
    return results


def hold_out_last_patients(studies: Sequence[Study], count: int) -> list[str]:
    """The last patients by name; InputError if fewer than two would be left to train on."""
    patients = sorted({study.patient for study in studies})
    if len(patients) < count + 2:
        raise InputError(
            f"{len(patients)} patients are too few to hold out {count}: two or more must be left to"
            " train on."
        )
    return patients[-count:]


class _Job:
    def __init__(self, settings: DemoSettings, console: Console) -> None:
        self.settings = settings
        self.workspace = Workspace(
            settings.out, console, {**vars(settings), "out": "", "source": str(settings.source)}
        )
        self.out = self.workspace.out
        self.run_step = self.workspace.run_step

    def make_phantom(self) -> Path:
        from nnunet_liver_ext.dataset_conversion.phantom import write_studies

        return write_studies(
            self.out / "studies",
            pairs=self.settings.pairs,
            seed=self.settings.seed,
            difficulty="demo",
        )

    def convert(self, studies: Sequence[Study], held_out: Sequence[str]) -> Path:
        from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
        from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset

        return write_dataset(
            studies,
            dataset_id=self.settings.dataset,
            name="Demo",
            settings=ConversionSettings(spacing=self.settings.spacing, labels=self.settings.labels),
            hold_out=held_out,
            folds=2,
            seed=self.settings.seed,
            processes=2,
        )

    def plan(self) -> Path:
        from nnunet_liver_ext.planning.plan_dataset import plan_dataset

        dataset, epochs = self.settings.dataset, self.settings.epochs
        path = plan_dataset(
            dataset,
            tiny=True,
            numbers={"num_epochs": epochs, "seed": self.settings.seed},
            base=CONFIGURATION,
            processes=2,
        )
        if COOPERATING not in read_json(path)["configurations"]:
            model = self.workspace.model_folder(
                dataset, "nnUNetTrainerDualOutputSpecialized", CONFIGURATION
            )
            numbers = {
                "segmentor_checkpoint": (
                    f"{model.relative_to(self.workspace.results)}/fold_{{fold}}/checkpoint_final.pth"
                ),
                "companion_epochs": self.registor_epochs,
                "num_epochs": self.epochs["nnUNetTrainerSimilarity"],
                "joint_lr": 1e-3,
            }
            plan_dataset(dataset, numbers=numbers, name=COOPERATING, base=CONFIGURATION)
        return path

    def preprocess(self) -> Path:
        return self.workspace.preprocess(self.settings.dataset, CONFIGURATION)

    def train_models(self) -> None:
        """Trains the models that are not trained yet, and shows the epochs and the time left."""
        side_by_side = len(LANES) if self.settings.device == "cpu" else 1
        cores = max(1, (os.cpu_count() or 1) // side_by_side)
        self.workspace.environment["OMP_NUM_THREADS"] = str(cores)  # else they wait for each other
        with progress_bar() as bar, ThreadPoolExecutor(side_by_side) as pool:
            tasks = {
                trainer: bar.add_task(trainer.removeprefix("nnUNetTrainer"), total=epochs)
                for trainer, epochs in self.epochs.items()
            }

            def train_lane(lane: Sequence[str]) -> None:
                for trainer in lane:
                    self.train(trainer, partial(_tell_epoch, bar, tasks[trainer]))
                    _tell_epoch(bar, tasks[trainer], self.epochs[trainer])

            try:
                for done in as_completed([pool.submit(train_lane, lane) for lane in LANES]):
                    done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.workspace.stop()
                raise

    @property
    def epochs(self) -> dict[str, int]:
        """Length of each training; the similarity trainer's registor learns first, then both."""
        epochs = self.settings.epochs
        cooperating = self.registor_epochs + max(1, 3 * epochs // 10)
        return {
            trainer: cooperating if configuration == COOPERATING else epochs
            for trainer, configuration in MODELS.items()
        }

    @property
    def registor_epochs(self) -> int:
        """How long the registor learns alone before it teaches."""
        return 3 * self.settings.epochs // 2

    def train(self, trainer: str, tell_epoch: Callable[[int], None]) -> Path:
        return self.workspace.train(
            self.settings.dataset,
            trainer,
            MODELS[trainer],
            self.settings.device,
            log=f"logs/{trainer}.txt",
            tell_epoch=tell_epoch,
        )

    def predict(self, trainer: str, studies: Sequence[Study]) -> Path:
        import torch

        from nnunet_liver_ext.inference.load_model import load_model
        from nnunet_liver_ext.inference.predict import predict_studies

        out = self.out / trainer / "predictions"
        folder = self.workspace.model_folder(self.settings.dataset, trainer, MODELS[trainer])
        model = load_model(folder, device=torch.device(self.settings.device))
        predict_studies(model, studies, out)
        return out

    def evaluate(self, trainer: str, studies: Sequence[Study]) -> pd.DataFrame:
        from nnunet_liver_ext.evaluation.evaluate import evaluate
        from nnunet_liver_ext.evaluation.options import Options

        csv = self.out / "held_out.csv"
        write_csv(studies, csv)
        folder = self.out / trainer
        return evaluate(
            folder / "predictions",
            csv,
            folder / "evaluation",
            Options(similarity="elastic"),
            images=csv,
            processes=2,
            overwrite=True,
            reference_classes=self.settings.labels,
        )


def _tell_epoch(bar: Progress, task: TaskID, epochs_done: int) -> None:
    bar.advance(task, epochs_done - bar.tasks[task].completed)


def write_csv(studies: Sequence[Study], path: Path) -> None:
    """Studies as the CSV that `read_studies` reads, with paths relative to it."""
    rows = [
        {"patient": study.patient, "study": study.study}
        | {
            name.lower(): os.path.relpath(image, path.parent)
            for name, image in study.images.items()
        }
        | {
            f"{name.lower()}_mask": os.path.relpath(mask, path.parent)
            for name, mask in study.masks.items()
        }
        for study in studies
    ]
    with atomic_write(path) as unfinished:
        pd.DataFrame(rows).to_csv(unfinished, index=False)
