"""The best state by the scores of whole validation images."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import distance

from nnunet_liver_ext.pairing import encode_pair
from nnunet_liver_ext.trainers.predictor import LiverPredictor
from nnunet_liver_ext.trainers.whole_images import MEASURES, score_images, score_label_map
from tests.conftest import CASES
from tests.trainers.test_kept_state import checkpoint, train
from tests.training import make_trainer, quietly, run_epochs

SCIPYS = {"image_jaccard": distance.jaccard, "image_dice": distance.dice}


@pytest.mark.parametrize("measure", MEASURES)
def test_measures_are_scipys(measure: str):
    rng = np.random.default_rng(0)
    predicted, reference = rng.integers(0, 4, (2, 5, 6, 7))
    found = score_label_map(predicted, reference, {"a": 1, "b": (2, 3)}, MEASURES[measure])
    for name, labels in {"a": [1], "b": [2, 3]}.items():
        masks = (np.isin(mask, labels).ravel() for mask in (predicted, reference))
        assert found[name] == pytest.approx(1 - SCIPYS[measure](*masks))


def test_worked_values():
    """Two voxels of three right and one wrong: 2 of 4, and 4 of 6."""
    predicted, reference = np.zeros((2, 1, 2, 4), int)
    reference[0, 0, :3] = predicted[0, 0, 1:4] = 1
    for measure, value in {"image_jaccard": 2 / 4, "image_dice": 4 / 6}.items():
        score = MEASURES[measure]
        assert score_label_map(predicted, reference, {"x": 1}, score) == {"x": value}
        reference[0, 1, 0] = 9  # nnU-Net's ignore label
        predicted[0, 1, 0] = 1
        assert score_label_map(predicted, reference, {"x": 1}, score, ignored=9) == {"x": value}
        predicted[0, 1, 0] = reference[0, 1, 0] = 0


@pytest.mark.parametrize("measure", MEASURES)
def test_an_absent_class_costs_only_where_it_is_predicted(measure: str):
    empty, one = np.zeros((1, 2, 2), int), np.ones((1, 2, 2), int)
    assert math.isnan(score_label_map(empty, empty, {"x": 1}, MEASURES[measure])["x"])
    assert score_label_map(one, empty, {"x": 1}, MEASURES[measure]) == {"x": 0.0}
    assert score_label_map(one, -one, {"x": 1}, MEASURES[measure]) == {"x": 0.0}


def pairs_trainer(root: Path, results: Path, **numbers: Any) -> Any:
    numbers = {"num_iterations_per_epoch": 1, "mirroring": False, **numbers}
    return make_trainer(root, results, "nnUNetTrainerSingleInput", **numbers)


def test_they_are_those_of_the_final_validation(nnunet_root: Path, tmp_path: Path):
    """The images of these pairs are on the network's grid."""
    trainer = pairs_trainer(nnunet_root, tmp_path, num_epochs=1, best_by="image_dice")
    run_epochs(trainer, 1, end=True)
    quietly(trainer.perform_actual_validation)
    summary = json.loads((Path(trainer.output_folder) / "validation" / "summary.json").read_text())
    expected = {
        name: metrics["Dice"] for name, metrics in summary["mean_by_modality_and_class"].items()
    }
    assert score_images(trainer) == pytest.approx(expected)
    assert 0 < min(expected.values()) < 1
    for name, value in expected.items():
        assert trainer.history[f"whole images, dice: {name}"] == [pytest.approx(value)]
    mean = sum(expected.values()) / 2
    assert checkpoint(trainer, "checkpoint_best.pth")["_best_ema"] == pytest.approx(mean)


@pytest.fixture
def made_up(monkeypatch):
    """Predictions of whole images: at first half of each mask; then all of it, and as much again
    elsewhere, which no patch around a mask shows."""

    def install(trainer: Any) -> list[int]:
        seen: list[int] = []

        def predict(self: Any, image: torch.Tensor) -> torch.Tensor:
            dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, CASES[3:])
            stored = {case: dataset.load_case(case)[:2] for case in CASES[3:]}
            seen.append(trainer.current_epoch)
            assert not trainer.network.training or trainer.network.decoder.deep_supervision is False
            reference = next(
                seg[0]
                for data, seg in stored.values()
                if data.shape == image.shape and np.array_equal(data[:], image.numpy())
            )
            masks = [np.isin(reference, codes) for codes in ((1, 3), (2, 3))]
            codes = torch.from_numpy(
                encode_pair(*[guess(mask, seen[-1]) for mask in masks]).astype(int)
            )
            return torch.nn.functional.one_hot(codes, 4).movedim(-1, 0).float()

        monkeypatch.setattr(LiverPredictor, "predict_sliding_window_return_logits", predict)
        return seen

    return install


def guess(mask: np.ndarray, epoch: int) -> np.ndarray:
    inside, outside = np.flatnonzero(mask), np.flatnonzero(~mask)
    found = np.zeros(mask.size, bool)
    if epoch == 0:
        found[inside[: 3 * len(inside) // 4]] = True
    else:
        found[inside] = True
        found[outside[: len(inside)]] = True
    return found.reshape(mask.shape)


@pytest.mark.parametrize(
    ("best_by", "best", "score"),
    [("epoch", 1, 0.9), ("image_jaccard", 0, 0.75), ("image_dice", 0, 6 / 7)],
)
def test_false_lesions_outside_the_patches_reverse_the_order(
    nnunet_root: Path, tmp_path: Path, made_up: Any, best_by: str, best: int, score: float
):
    trainer = pairs_trainer(nnunet_root, tmp_path, num_epochs=2, best_by=best_by, keep="best")
    seen = made_up(trainer)
    after = train(trainer, [0.6, 0.9])
    assert seen == ([] if best_by == "epoch" else [0, 0, 1, 1])
    kept = checkpoint(trainer, "checkpoint_best.pth")
    assert kept["current_epoch"] == best + 1
    assert kept["_best_ema"] == pytest.approx(score, abs=0.002)
    final = checkpoint(trainer, "checkpoint_final.pth")["network_weights"]
    assert all(torch.equal(value, after[best][name]) for name, value in final.items())


def test_they_are_predicted_every_so_many_epochs_and_in_the_last(
    nnunet_root: Path, tmp_path: Path, made_up: Any
):
    trainer = pairs_trainer(
        nnunet_root, tmp_path, num_epochs=5, best_by="image_jaccard", score_images_every=2
    )
    seen = made_up(trainer)
    train(trainer, [0.1, 0.2, 0.3, 0.4, 0.5])
    assert sorted(set(seen)) == [1, 3, 4]
    curve = trainer.history["whole images, jaccard: T1 liver"]
    assert [math.isnan(value) for value in curve] == [True, False, True, False, False]
    assert trainer.kept_best is False
    assert checkpoint(trainer, "checkpoint_best.pth")["current_epoch"] == 2
    assert "mean jaccard by class: T1 liver 0.5000" in Path(trainer.log_file).read_text()


def test_only_the_last_phase_is_scored(nnunet_root: Path, tmp_path: Path):
    """Warm-up, the registor alone, both."""
    numbers = {"num_epochs": 3, "num_iterations_per_epoch": 1, "best_by": "image_dice"}
    trainer = make_trainer(nnunet_root, tmp_path, "nnUNetTrainerSimilarityTranslation", **numbers)
    run_epochs(trainer, 3)
    curve = trainer.history["whole images, dice: T2 liver"]
    assert [math.isnan(value) for value in curve] == [True, True, False]


def test_an_interrupted_training_knows_the_best_state(
    nnunet_root: Path, tmp_path: Path, made_up: Any
):
    numbers = {"num_epochs": 2, "best_by": "image_jaccard"}
    first = pairs_trainer(nnunet_root, tmp_path, **numbers)
    made_up(first)
    run_epochs(first, 1)
    second = pairs_trainer(nnunet_root, tmp_path, **numbers)
    made_up(second)
    quietly(second.load_checkpoint, str(Path(first.output_folder) / "checkpoint_latest.pth"))
    assert second._best_ema == pytest.approx(0.75, abs=0.002)
    run_epochs(second, 2)
    assert checkpoint(second, "checkpoint_best.pth")["current_epoch"] == 1
