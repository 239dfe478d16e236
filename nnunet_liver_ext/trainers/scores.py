"""Scores of pairs by image and class: in training on patches, and in the final validation on whole cases."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnunet_liver_ext.images import replaced


def hard_counts(logits: Tensor, target: Tensor) -> np.ndarray:
    """True positives, false positives and false negatives of each foreground class.

    Args:
        logits: (B, K, ...).
        target: labels (B, 1, ...).

    Returns:
        (3, K − 1).
    """
    num_classes = logits.shape[1]
    predicted, true = logits.argmax(1).flatten(), target[:, 0].long().flatten()
    confusion = torch.bincount(true * num_classes + predicted, minlength=num_classes**2)
    confusion_KK = confusion.view(num_classes, num_classes).cpu().numpy().astype(np.float64)
    hits = confusion_KK.diagonal()
    return np.stack([hits, confusion_KK.sum(0) - hits, confusion_KK.sum(1) - hits])[:, 1:]


def mean_of_figures(outputs: Sequence[Mapping[str, float]], leave_out: Set[str]) -> dict[str, float]:
    """Mean of each figure over batches, without those in which it is nan; nan if it is nan in all of them."""
    means = {}
    for name in sorted({name for output in outputs for name in output} - leave_out):
        values = [output[name] for output in outputs if not math.isnan(output.get(name, math.nan))]
        means[name] = sum(values) / len(values) if values else math.nan
    return means


def name_the_summary(path: Path, regions: Mapping[str, Any], checkpoint: str) -> str:
    """Adds to nnU-Net's summary.json what its keys (labels, or codes) stand for, and which checkpoint was validated.

    The file goes into model zips, so the folders of this machine are taken out of it.

    Args:
        path: summary.json.
        regions: nnU-Net's label or region behind each name.
        checkpoint: file name; a best checkpoint was chosen on the very cases that are scored here.

    Returns:
        The Dice of each class in a line for the log.
    """
    summary = json.loads(path.read_text())
    for case in summary["metric_per_case"]:
        case |= {key: Path(case[key]).name for key in ("reference_file", "prediction_file")}
    by_name = {name: summary["mean"][str(codes)] for name, codes in regions.items()}
    chosen = checkpoint == "checkpoint_best.pth"
    summary |= {"mean_by_modality_and_class": by_name, "checkpoint": checkpoint}
    summary["checkpoint_was_chosen_on_these_cases"] = chosen
    with replaced(path) as unfinished:
        unfinished.write_text(json.dumps(summary, indent=2))
    scores = ", ".join(f"{name} {metrics['Dice']:.4f}" for name, metrics in by_name.items())
    return scores + (" (optimistic: the checkpoint was chosen on these cases)" if chosen else "")
