"""The final validation: by marginal class, and at once for networks that take whole volumes.

For those it is our predictor, then nnU-Net's export and metrics, because nnU-Net's own
`perform_actual_validation` makes its sliding-window predictor itself; all others go through it.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.inference.export_prediction import export_prediction_from_logits
from torch import distributed as dist

from nnunet_liver_ext.networks.strategies import unwrap
from nnunet_liver_ext.trainers.predictor import LiverPredictor
from nnunet_liver_ext.trainers.scores import name_the_summary, regions_by_name
from nnunet_liver_ext.workers import exit_with_parent

if TYPE_CHECKING:
    from nnunet_liver_ext.trainers.base import LiverTrainer

MOST_WAITING = 2
"""Predictions that wait in memory for each process that writes them."""


def validate_whole_volumes(trainer: LiverTrainer, save_probabilities: bool) -> None:
    """Writes `validation/CASE.nii.gz` for each validation case and `validation/summary.json`.

    Args:
        trainer: an initialised `LiverTrainer`; its label manager's classes are those of the
            metrics.
        save_probabilities: write CASE.npz, too.
    """
    trainer.set_deep_supervision_enabled(False)
    predictor = make_predictor(trainer, mirroring=True)
    folder = Path(trainer.output_folder) / "validation"
    folder.mkdir(parents=True, exist_ok=True)
    cases = trainer.do_split()[1][
        trainer.local_rank :: dist.get_world_size() if trainer.is_ddp else 1
    ]
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, cases)
    with multiprocessing.get_context("spawn").Pool(default_num_processes, exit_with_parent) as pool:
        writing: deque[Any] = deque()
        for case in dataset.identifiers:
            trainer.print_to_log_file(f"predicting {case}")
            data, _, _, properties = dataset.load_case(case)
            logits = predictor.predict_sliding_window_return_logits(
                torch.from_numpy(data[:].copy())
            ).cpu()
            job = (
                logits,
                properties,
                trainer.configuration_manager,
                trainer.plans_manager,
                trainer.dataset_json,
                str(folder / case),
                save_probabilities,
            )
            writing.append(pool.apply_async(export_prediction_from_logits, job))
            while len(writing) > MOST_WAITING * default_num_processes:
                writing.popleft().get()
        for result in writing:
            result.get()
    if trainer.is_ddp:
        dist.barrier()
    if trainer.local_rank == 0:
        _measure(trainer, folder)
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)


@contextmanager
def marginal_metrics(trainer: LiverTrainer) -> Iterator[None]:
    """Meanwhile nnU-Net measures the codes of each class of each image, not each code of a pair.

    It takes what it measures from the label manager's regions.
    """
    if trainer.pair is None:
        yield
        return
    manager = trainer.label_manager
    regions = list(trainer.pair.regions().values())
    trainer.label_manager = SimpleNamespace(
        has_regions=True, foreground_regions=regions, ignore_label=None
    )
    try:
        yield
    finally:
        trainer.label_manager = manager


def name_the_scores(trainer: LiverTrainer) -> str:
    """Names what `validation/summary.json` measured; returns the Dice of each class in a line."""
    unmeasurable = (
        {} if trainer.pair is None else trainer.incomplete.unmeasurable_classes(trainer.pair)
    )
    return name_the_summary(
        Path(trainer.output_folder) / "validation" / "summary.json",
        regions_by_name(trainer),
        trainer.loaded_checkpoint,
        unmeasurable,
        kept_best=trainer.kept_best,
    )


def make_predictor(trainer: LiverTrainer, *, mirroring: bool) -> LiverPredictor:
    """A predictor with the trainer's network as it is.

    Args:
        trainer: an initialised one.
        mirroring: average over mirrored images, along the axes that the trainer allows.
    """
    predictor = LiverPredictor(
        device=trainer.device,
        perform_everything_on_device=True,
        use_mirroring=mirroring,
        allow_tqdm=False,
    )
    predictor.manual_initialization(
        # torch.compile would unroll the network's own tiles, anew for each volume
        unwrap(trainer.network),
        trainer.plans_manager,
        trainer.configuration_manager,
        None,
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )
    return predictor


def _measure(trainer: LiverTrainer, folder: Path) -> None:
    manager = trainer.label_manager
    metrics = compute_metrics_on_folder(
        str(Path(trainer.preprocessed_dataset_folder_base) / "gt_segmentations"),
        str(folder),
        str(folder / "summary.json"),
        trainer.plans_manager.image_reader_writer_class(),
        trainer.dataset_json["file_ending"],
        manager.foreground_regions if manager.has_regions else manager.foreground_labels,
        manager.ignore_label,
        chill=True,
        num_processes=default_num_processes,
    )
    trainer.print_to_log_file(f"Mean Validation Dice: {metrics['foreground_mean']['Dice']}")
