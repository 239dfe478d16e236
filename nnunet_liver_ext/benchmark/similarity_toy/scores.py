"""What the toy experiment measures of one model on the test pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nnunet_liver_ext.console import quiet
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.metrics import dice
from nnunet_liver_ext.evaluation.similarity.relative import RelativeSimilarity, relative_similarity
from nnunet_liver_ext.pairing import decode_pair, split_probabilities
from nnunet_liver_ext.space.images import array, read_image, read_mask

SPACING_MM = (1.0, 1.0)


@dataclass(frozen=True)
class TestPair:
    """One pair of the toy dataset, (y, x)."""

    __test__ = False  # no test, whatever pytest thinks of its name

    case: str
    channels: np.ndarray
    """(2, y, x) float32."""
    masks: tuple[np.ndarray, np.ndarray]
    """bool."""


def read_test_pairs(raw: Path, dataset: int) -> list[TestPair]:
    """The held-out pairs of a converted toy dataset (imagesTs, labelsTs)."""
    (folder,) = raw.glob(f"Dataset{dataset:03d}_*")
    pairs = []
    for path in sorted((folder / "labelsTs").glob("*.nii.gz")):
        case = path.name.removesuffix(".nii.gz")
        images = [
            array(read_image(folder / "imagesTs" / f"{case}_{channel:04d}.nii.gz"))[0]
            for channel in range(2)
        ]
        first, second = decode_pair(array(read_mask(path))[0])
        pairs.append(TestPair(case, np.stack(images).astype(np.float32), (first > 0, second > 0)))
    if not pairs:
        raise InputError(f"{folder}: holds no test pairs.")
    return pairs


def score_model(
    folder: Path, pairs: Sequence[TestPair], device: torch.device, *, max_shift: float
) -> pd.DataFrame:
    """Scores of every test pair.

    Args:
        folder: trained model.
        pairs: with reference masks.
        device: where the model runs.
        max_shift: bound of the translations of D_S, pixels.

    Returns:
        Tidy: case, metric, value. Metrics: dice_t1, dice_t2; similarity and similarity_reference
        (D_S of predicted and annotated masks), gain (their difference; nan if a predicted mask is
        empty or full); registor_error_px, the distance between the registor's shift, given the
        predictions, and the best shift between the annotations.
    """
    from nnunet_liver_ext.inference.load_model import load_model
    from nnunet_liver_ext.inference.registors import load_registor

    model = load_model(folder, device=device)
    registor = load_registor(folder, "0", "checkpoint_final.pth", device)
    rows = []
    for pair in pairs:
        with quiet():
            _, joint = model.predictor.predict_single_npy_array(
                pair.channels[:, None], {"spacing": [999.0, *SPACING_MM]}, None, None, True
            )
        probabilities = [marginal[1, 0] for marginal in split_probabilities(joint)]
        shift = _registor_shift(registor, probabilities, device)
        rows += [
            {"case": pair.case, "metric": metric, "value": value}
            for metric, value in score_pair(
                pair.masks, [liver > 0.5 for liver in probabilities], shift, max_shift
            ).items()
        ]
    return pd.DataFrame(rows)


def score_pair(
    reference: Sequence[np.ndarray],
    predicted: Sequence[np.ndarray],
    shift: np.ndarray,
    max_shift: float,
) -> dict[str, float]:
    """The scores of one pair by metric; see `score_model`."""
    of_prediction, of_reference = (
        _similarity(first, second, max_shift) for first, second in (predicted, reference)
    )
    return {
        "dice_t1": dice(predicted[0], reference[0]),
        "dice_t2": dice(predicted[1], reference[1]),
        "similarity": of_prediction.dice,
        "similarity_reference": of_reference.dice,
        "gain": of_prediction.dice - of_reference.dice,
        "registor_error_px": float(np.linalg.norm(shift - of_reference.displacement[:, 0, 0])),
    }


def _similarity(first: np.ndarray, second: np.ndarray, max_shift: float) -> RelativeSimilarity:
    return relative_similarity(
        first, second, SPACING_MM, transforms="translation", max_shift_mm=max_shift
    )


@torch.no_grad()
def _registor_shift(
    registor: torch.nn.Module, probabilities: Sequence[np.ndarray], device: torch.device
) -> np.ndarray:
    """The registor's displacement of the whole image, (2,) pixels."""
    first, second = (
        torch.from_numpy(liver.astype(np.float32))[None, None].to(device) for liver in probabilities
    )
    return registor(first, second)[0, :, 0, 0].cpu().numpy()
