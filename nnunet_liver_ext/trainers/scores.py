"""Scores by image and class: in training on patches, in the final validation on whole cases."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor
from torch import distributed as dist

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.trainers.objectives.views import View, finest_level

if TYPE_CHECKING:
    from nnunet_liver_ext.trainers.base import LiverTrainer


def hard_counts(logits: Tensor, target: Tensor, ignored: int | None = None) -> np.ndarray:
    """True positives, false positives and false negatives of each foreground class.

    Args:
        logits: (B, K, ...).
        target: labels (B, 1, ...); voxels with a negative one do not count.
        ignored: a label whose voxels do not count either (nnU-Net's ignore label).

    Returns:
        (3, K − 1).
    """
    num_classes = logits.shape[1]
    predicted, true = logits.argmax(1).flatten(), target[:, 0].long().flatten()
    counts = true >= 0 if ignored is None else (true >= 0) & (true != ignored)
    confusion = torch.bincount((true * num_classes + predicted)[counts], minlength=num_classes**2)
    confusion_KK = confusion.view(num_classes, num_classes).cpu().numpy().astype(np.float64)
    hits = confusion_KK.diagonal()
    return np.stack([hits, confusion_KK.sum(0) - hits, confusion_KK.sum(1) - hits])[:, 1:]


def region_counts(logits: Tensor, target: Tensor, *, ignored: bool = False) -> np.ndarray:
    """`hard_counts` for regions, which may overlap.

    Args:
        logits: (B, R, ...); a region is predicted where its logit is above 0.
        target: (B, R, ...) of zeros and ones; with `ignored` one channel more, of the voxels that
            do not count.
        ignored: whether nnU-Net has an ignore label.

    Returns:
        (3, R).
    """
    predicted, true = logits > 0, target[:, : logits.shape[1]] > 0
    counts = target[:, -1:] == 0 if ignored else torch.ones_like(true[:, :1])
    axes = (0, *range(2, logits.ndim))
    numbers = [predicted & true & counts, predicted & ~true & counts, ~predicted & true & counts]
    return torch.stack([number.sum(axes) for number in numbers]).cpu().numpy().astype(np.float64)


def mean_of_figures(
    outputs: Sequence[Mapping[str, float]], leave_out: Set[str]
) -> dict[str, float]:
    """Mean of each figure over the batches in which it is not nan; nan if it is in all of them."""
    means = {}
    for name in sorted({name for output in outputs for name in output} - leave_out):
        values = [output[name] for output in outputs if not math.isnan(output.get(name, math.nan))]
        means[name] = sum(values) / len(values) if values else math.nan
    return means


def mean_over_ranks(
    outputs: Sequence[Mapping[str, float]], leave_out: Set[str], *, distributed: bool
) -> dict[str, float]:
    """`mean_of_figures` of this rank's batches, or of the ranks' means."""
    means = mean_of_figures(outputs, leave_out)
    if not distributed:
        return means
    of_ranks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(of_ranks, means)
    return mean_of_figures(of_ranks, set())


def count_hits(views: Sequence[View], pair: PairLabels | None, manager: LabelManager) -> np.ndarray:
    """True positives, false positives, false negatives of each class of each image.

    Args:
        views: a batch may have no mask of an image, and then has no view of it.
        pair: None for an ordinary dataset.
        manager: nnU-Net's, of an ordinary dataset's labels or regions.

    Returns:
        (3, M · (K − 1)) in the order of the pair's images, (3, R) for regions.
    """
    if manager.has_regions:
        (view,) = views
        logits = finest_level(view.logits)
        return region_counts(logits, view.labels, ignored=manager.has_ignore_label)
    counts = {
        view.name: hard_counts(finest_level(view.logits), view.labels, manager.ignore_label)
        for view in views
    }
    if pair is None:
        return counts["image"]
    none = np.zeros_like(next(iter(counts.values())))
    return np.concatenate([counts.get(name, none) for name in pair.modalities], axis=1)


def regions_by_name(trainer: LiverTrainer) -> dict[str, Any]:
    """nnU-Net's label or region of each class that is scored, by its name."""
    if trainer.pair is not None:
        return dict(trainer.pair.regions())
    names = {str(value): name for name, value in trainer.dataset_json["labels"].items()}
    manager = trainer.label_manager
    labels: Any = manager.foreground_regions if manager.has_regions else manager.foreground_labels
    return {
        names.get(str(list(label) if isinstance(label, tuple) else label), str(label)): label
        for label in labels
    }


def correct_moving_average(moving_average: list[float], dice: float, *, restart: bool) -> None:
    """Changes the last value of nnU-Net's moving average, which knows the best epoch.

    It begins anew with the last phase and forgets what is nan.

    Args:
        moving_average: a value for each epoch.
        dice: of the last epoch, or another score of it.
        restart: the last epoch counts alone.
    """
    previous = moving_average[-2] if len(moving_average) > 1 else math.nan
    if restart or math.isnan(previous):
        moving_average[-1] = dice
    elif math.isnan(dice):
        moving_average[-1] = previous


def best_score(moving_average: Sequence[float], first: int, end: int) -> float | None:
    """The best score of the epochs from `first` to before `end`; None if none of them has one."""
    known = (value for value in moving_average[first:end] if not math.isnan(value))
    return max(known, default=None)


def name_the_summary(
    path: Path,
    regions: Mapping[str, Any],
    checkpoint: str,
    without: Mapping[str, Set[str]],
    *,
    kept_best: bool = False,
) -> str:
    """Adds to nnU-Net's summary.json what its keys stand for, and which checkpoint it is of.

    The file goes into model zips, so the folders of this machine are taken out of it.

    Args:
        path: summary.json.
        regions: nnU-Net's label or region behind each name.
        checkpoint: file name; a best checkpoint was chosen on the very cases that are scored here.
        without: names whose metrics a case cannot have, by case, because it has no such mask; they
            become null, and the means are taken without them.
        kept_best: the checkpoint is the best one by another name.

    Returns:
        The Dice of each class in a line for the log.
    """
    summary = read_json(path)
    for case in summary["metric_per_case"]:
        case |= {key: Path(case[key]).name for key in ("reference_file", "prediction_file")}
    if without:
        _leave_out(summary, regions, without)
    by_name = {name: summary["mean"][str(codes)] for name, codes in regions.items()}
    chosen = kept_best or checkpoint == "checkpoint_best.pth"
    summary |= {"mean_by_modality_and_class": by_name, "checkpoint": checkpoint}
    summary["checkpoint_was_chosen_on_these_cases"] = chosen
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(summary, indent=2))
    scores = ", ".join(f"{name} {metrics['Dice']:.4f}" for name, metrics in by_name.items())
    return scores + (" (optimistic: the checkpoint was chosen on these cases)" if chosen else "")


def _leave_out(
    summary: dict[str, Any], regions: Mapping[str, Any], without: Mapping[str, Set[str]]
) -> None:
    """Takes the metrics of masks that do not exist out of the cases and of the means."""
    for case in summary["metric_per_case"]:
        for name in without.get(case["reference_file"].split(".")[0], set()):
            case["metrics"][str(regions[name])] = dict.fromkeys(case["metrics"][str(regions[name])])
    for codes in map(str, regions.values()):
        for metric in summary["mean"][codes]:
            values = [case["metrics"][codes][metric] for case in summary["metric_per_case"]]
            known = [value for value in values if value is not None and not math.isnan(value)]
            summary["mean"][codes][metric] = sum(known) / len(known) if known else math.nan
    means = [summary["mean"][str(codes)] for codes in regions.values()]
    for metric in summary["foreground_mean"]:
        values = [mean[metric] for mean in means if not math.isnan(mean[metric])]
        summary["foreground_mean"][metric] = sum(values) / len(values) if values else math.nan
    summary["cases_without_a_mask"] = {
        case: sorted(names) for case, names in sorted(without.items())
    }
