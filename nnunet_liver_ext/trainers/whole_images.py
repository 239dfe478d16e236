"""Scores of whole validation images while a training runs, by which its best state can be chosen.

Patches that are centred on a tumour cannot show what is found where there is none, so they order
the states of a training otherwise than whole images do (Hänsch et al. 2022 take the Jaccard of
those).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import distributed as dist

from nnunet_liver_ext.trainers.final_validation import make_predictor
from nnunet_liver_ext.trainers.progress import record
from nnunet_liver_ext.trainers.scores import mean_of_figures, regions_by_name

if TYPE_CHECKING:
    from nnunet_liver_ext.trainers.base import LiverTrainer

GROUP = "whole images"


def jaccard(overlap: int, predicted: int, true: int) -> float:
    """Voxels in both masks over those in one of them; nan if both are empty."""
    union = predicted + true - overlap
    return overlap / union if union else math.nan


def dice(overlap: int, predicted: int, true: int) -> float:
    """Twice the voxels in both masks over the sum of theirs; nan if both are empty."""
    return 2 * overlap / (predicted + true) if predicted + true else math.nan


MEASURES: dict[str, Callable[[int, int, int], float]] = {
    "image_jaccard": jaccard,
    "image_dice": dice,
}
"""What `best_by` of a recipe can be on whole images; from numbers of voxels."""


def score_epoch(trainer: LiverTrainer) -> float:
    """The mean over the classes of `score_images`, which are recorded and logged.

    Returns:
        nan where this epoch does not look at whole images: beside the last phase, and where
        `score_images_every` leaves it out. The last epoch always does.
    """
    end = trainer.current_epoch + 1
    due = end % trainer.recipe.score_images_every == 0 or end == trainer.num_epochs
    if trainer.phase is not trainer.phases[-1] or not due:
        return math.nan
    begun = monotonic()
    scores = score_images(trainer)
    measure = MEASURES[trainer.recipe.best_by].__name__
    for name, score in scores.items():
        record(trainer.history, f"{GROUP}, {measure}: {name}", score, trainer.current_epoch)
    trainer.print_to_log_file(
        f"Whole validation images took {monotonic() - begun:.1f} s; mean {measure} by class:"
        f" {', '.join(f'{name} {score:.4f}' for name, score in scores.items())}"
    )
    means = mean_of_figures([{"mean": score} for score in scores.values()], set())
    return means.get("mean", math.nan)


def score_images(trainer: LiverTrainer) -> dict[str, float]:
    """The mean over the validation images of each class of each image, by its name.

    An image without a class lowers its mean where the class is predicted in it, and does not count
    where it is not. On several GPUs every rank takes a part of the images, and all get the means.

    Args:
        trainer: an initialised `LiverTrainer`; its network is in evaluation mode afterwards.
    """
    trainer.set_deep_supervision_enabled(False)
    predictor = make_predictor(trainer, mirroring=False)
    ranks = dist.get_world_size() if trainer.is_ddp else 1
    cases = trainer.do_split()[1][trainer.local_rank :: ranks]
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, cases)
    without = {} if trainer.pair is None else trainer.incomplete.unmeasurable_classes(trainer.pair)
    figures = [
        _score_case(trainer, predictor, dataset, case, without.get(case, ())) for case in cases
    ]
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    if trainer.is_ddp:
        of_ranks: list[Any] = [None] * ranks
        dist.all_gather_object(of_ranks, figures)
        figures = [figure for of_rank in of_ranks for figure in of_rank]
    return mean_of_figures(figures, set())


def _score_case(
    trainer: LiverTrainer, predictor: Any, dataset: Any, case: str, without: Collection[str]
) -> dict[str, float]:
    data, reference, *_ = dataset.load_case(case)
    logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(data[:].copy()))
    manager = trainer.label_manager
    predicted = np.asarray(manager.convert_logits_to_segmentation(logits.float().cpu()))
    regions = {
        name: labels for name, labels in regions_by_name(trainer).items() if name not in without
    }
    return score_label_map(
        predicted,
        np.asarray(reference[0]),
        regions,
        MEASURES[trainer.recipe.best_by],
        manager.ignore_label,
    )


def score_label_map(
    predicted: np.ndarray,
    reference: np.ndarray,
    regions: Mapping[str, Any],
    measure: Callable[[int, int, int], float],
    ignored: int | None = None,
) -> dict[str, float]:
    """A measure of each class of a label map.

    Args:
        predicted: labels (Z, Y, X).
        reference: of the same size; a negative label is background, as in nnU-Net's training.
        regions: the label or the labels of each class.
        measure: of `MEASURES`.
        ignored: nnU-Net's ignore label, whose voxels do not count.
    """
    counts = np.ones(reference.shape, bool) if ignored is None else reference != ignored
    scores = {}
    for name, labels in regions.items():
        found, true = (np.isin(mask, labels) & counts for mask in (predicted, reference))
        scores[name] = measure(int((found & true).sum()), int(found.sum()), int(true.sum()))
    return scores
