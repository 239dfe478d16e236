from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.training.loss.dice import get_tp_fp_fn_tn
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_liver_ext.pairing import decode_pair, join_logits
from nnunet_liver_ext.space.images import array, read_mask
from nnunet_liver_ext.trainers.scores import hard_counts
from tests.conftest import CASES, DATASET
from tests.training import make_trainer, quietly, run_epochs

NAMES = {"T1 liver": "(1, 3)", "T2 liver": "(2, 3)"}


@pytest.fixture(scope="module")
def validated(nnunet_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A barely trained single-input trainer after nnU-Net's final validation."""
    trainer = make_trainer(
        nnunet_root, tmp_path_factory.mktemp("validated"), "nnUNetTrainerSingleInput", num_epochs=1
    )
    run_epochs(trainer, 1, end=True)
    quietly(trainer.perform_actual_validation)
    return trainer


def read_summary(trainer: Any) -> dict[str, Any]:
    return json.loads((Path(trainer.output_folder) / "validation" / "summary.json").read_text())


def dice_by_hand(trainer: Any, nnunet_root: Path, modality: int) -> list[float]:
    """Dice of each validation case, from the label maps that were written."""
    values = []
    for case in CASES[3:]:
        files = (
            Path(trainer.output_folder) / "validation" / f"{case}.nii.gz",
            nnunet_root / "preprocessed" / DATASET / "gt_segmentations" / f"{case}.nii.gz",
        )
        predicted, reference = (
            decode_pair(array(read_mask(file)))[modality] == 1 for file in files
        )
        values.append(2 * (predicted & reference).sum() / (predicted.sum() + reference.sum()))
    return values


def test_the_summary_is_by_modality(validated, nnunet_root: Path):
    summary = read_summary(validated)
    assert set(summary["mean"]) == set(NAMES.values())
    for modality, (name, key) in enumerate(NAMES.items()):
        by_hand = dice_by_hand(validated, nnunet_root, modality)
        assert 0 < np.mean(by_hand) < 1
        assert summary["mean"][key]["Dice"] == pytest.approx(np.mean(by_hand))
        assert summary["mean_by_modality_and_class"][name] == summary["mean"][key]
        per_case = [case["metrics"][key]["Dice"] for case in summary["metric_per_case"]]
        assert sorted(per_case) == pytest.approx(sorted(by_hand))
    assert (
        f"Validation Dice by modality: T1 liver {summary['mean']['(1, 3)']['Dice']:.4f}"
        in Path(validated.log_file).read_text()
    )


def test_the_final_checkpoint_was_not_chosen_on_these_cases(validated):
    summary = read_summary(validated)
    assert summary["checkpoint"] == "checkpoint_final.pth"
    assert summary["checkpoint_was_chosen_on_these_cases"] is False
    assert "optimistic" not in Path(validated.log_file).read_text()


def test_nnunet_still_reads_the_summary(validated):
    from nnunetv2.evaluation.evaluate_predictions import load_summary_json

    summary = load_summary_json(str(Path(validated.output_folder) / "validation" / "summary.json"))
    assert set(summary["mean"]) == {(1, 3), (2, 3)}


@pytest.fixture
def named_again(validated, monkeypatch):
    """Names the summary anew, as if these weights had been validated after something else was
    loaded."""

    def run(prepare: Any) -> dict[str, Any]:
        monkeypatch.setattr(
            nnUNetTrainer, "perform_actual_validation", lambda self, save_probabilities=False: None
        )
        prepare(validated)
        quietly(validated.perform_actual_validation)
        return read_summary(validated)

    yield run
    validated.loaded_checkpoint = "checkpoint_final.pth"


def test_the_best_checkpoint_was_chosen_on_these_cases(validated, named_again):
    best = Path(validated.output_folder) / "checkpoint_best.pth"
    summary = named_again(lambda trainer: quietly(trainer.load_checkpoint, str(best)))
    assert summary["checkpoint"] == "checkpoint_best.pth"
    assert summary["checkpoint_was_chosen_on_these_cases"] is True
    assert (
        "optimistic: the checkpoint was chosen on these cases"
        in Path(validated.log_file).read_text()
    )


def test_a_training_that_was_continued_from_the_best_checkpoint_ends_with_the_final_one(
    nnunet_root: Path, tmp_path: Path
):
    """nnU-Net continues from `best` when there is no `latest` yet."""
    first = make_trainer(
        nnunet_root, tmp_path, "nnUNetTrainerSingleInput", num_epochs=2, save_every=50
    )
    run_epochs(first, 1)
    second = make_trainer(
        nnunet_root, tmp_path, "nnUNetTrainerSingleInput", num_epochs=2, save_every=50
    )
    quietly(second.load_checkpoint, str(Path(first.output_folder) / "checkpoint_best.pth"))
    assert second.loaded_checkpoint == "checkpoint_best.pth"
    run_epochs(second, 2, end=True)
    assert second.loaded_checkpoint == "checkpoint_final.pth"


def test_nnunets_label_manager_is_back_after_a_failure(validated, monkeypatch):
    before = validated.label_manager
    seen = []

    def fail(self, save_probabilities: bool = False) -> None:
        seen.append((self.label_manager.has_regions, self.label_manager.foreground_regions))
        raise RuntimeError("a worker died")

    monkeypatch.setattr(nnUNetTrainer, "perform_actual_validation", fail)
    with pytest.raises(RuntimeError, match="a worker died"):
        validated.perform_actual_validation()
    assert seen == [(True, [(1, 3), (2, 3)])]
    assert validated.label_manager is before


@pytest.mark.parametrize("num_classes", [2, 3])
def test_counts_equal_nnunets(num_classes: int):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((3, num_classes, 4, 5, 6), generator=generator)
    target = torch.randint(0, num_classes, (3, 1, 4, 5, 6), generator=generator).to(torch.int16)
    one_hot = torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1)
    expected = get_tp_fp_fn_tn(one_hot, target, axes=[0, 2, 3, 4])[:3]
    found = hard_counts(logits, target)
    assert found.shape == (3, num_classes - 1)
    np.testing.assert_array_equal(found, torch.stack(expected)[:, 1:].numpy())


def test_counts_by_hand():
    logits = torch.tensor([[[0.0, 0, 1, 1, 1], [1, 1, 0, 0, 0]]])  # predicted 1 1 0 0 0
    target = torch.tensor([[[1, 0, 1, 1, 0]]])
    assert hard_counts(logits, target).tolist() == [[1], [1], [2]]


def test_pseudo_dice_is_that_of_each_modality(validated):
    """The validation step splits joint logits and codes: its counts are those of the decoded label
    maps."""
    generator = torch.Generator().manual_seed(1)
    u, v = (torch.randn((2, 2, 16, 32, 32), generator=generator) for _ in range(2))
    codes = torch.randint(0, 4, (2, 1, 16, 32, 32), generator=generator).to(torch.int16)
    predicted = decode_pair(join_logits(u, v).argmax(1))
    expected = []
    for labels, true in zip(predicted, decode_pair(codes[:, 0]), strict=True):
        hits = int(((labels == 1) & (true == 1)).sum())
        expected.append((hits, int((labels == 1).sum()) - hits, int((true == 1).sum()) - hits))
    network, validated.network = validated.network, Canned([join_logits(u, v)] * 3)
    try:
        result = validated.validation_step(
            {"data": torch.zeros(2, 2, 16, 32, 32), "target": [codes] * 3}
        )
    finally:
        validated.network = network
    found = list(
        zip(*(result[key].tolist() for key in ("tp_hard", "fp_hard", "fn_hard")), strict=True)
    )
    assert found == expected


class Canned(torch.nn.Module):
    """A network in evaluation that always answers the same."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer
        self.eval()

    def forward(self, x: torch.Tensor) -> Any:
        return self.answer

    def as_in_training(self) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()
