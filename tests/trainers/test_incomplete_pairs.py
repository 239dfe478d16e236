"""Training on pairs of which some lack a mask: single-input trainers use what there is, the others
leave them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nnunet_liver_ext.errors import InputError
from tests.conftest import CASES, DATASET
from tests.training import find_trainer, quietly, read_inputs, run_epochs


def make(root: Path, results: Path, name: str, incomplete: dict[str, Any], **numbers: Any) -> Any:
    plans, dataset_json = read_inputs(root, name, num_epochs=1, **numbers)
    dataset_json["incomplete"] = incomplete
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_results", str(results))
        return quietly(
            find_trainer(name), plans, "3d_fullres", 0, dataset_json, torch.device("cpu")
        )


ONLY_T1 = {"images": ["T1", "T2"], "masks": ["T1"]}
ONLY_T2 = {"images": ["T1", "T2"], "masks": ["T2"]}
SOME = {CASES[0]: ONLY_T1, CASES[3]: ONLY_T2}


@pytest.mark.parametrize(
    "name", ["nnUNetTrainerSingleInput", "nnUNetTrainerSingleInputSpecialized"]
)
def test_a_missing_mask_teaches_nothing(nnunet_root: Path, tmp_path: Path, name: str):
    """Whatever stands in the label map for a mask that does not exist, the losses are the same."""
    trainer = make(nnunet_root, tmp_path, name, SOME)
    quietly(trainer.initialize)
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(2, 2, 16, 32, 32, generator=generator)
    scales = [(16, 32, 32), (16, 16, 16), (8, 8, 8)]
    target = [torch.randint(0, 4, (2, 1, *size), generator=generator) for size in scales]
    other = [level.clone() for level in target]
    for level in other:
        level[0] %= 2  # case 0 gets another T2 mask: none
    losses = []
    for labels in (target, other):
        views = trainer.game.views({"data": data, "target": labels, "keys": [CASES[0], CASES[1]]})
        losses.append(trainer.objective.segmentor_loss(views, "segmentor").total)
        assert [view.image.shape[0] for view in views] == [2, 1]
    assert losses[0] == losses[1]
    complete = trainer.game.views({"data": data, "target": other, "keys": [CASES[1], CASES[1]]})
    assert trainer.objective.segmentor_loss(complete, "segmentor").total != losses[0]


def test_single_input_trains_and_validates_on_every_mask_there_is(
    nnunet_root: Path, tmp_path: Path
):
    trainer = make(
        nnunet_root, tmp_path, "nnUNetTrainerSingleInput", dict.fromkeys(CASES[:3], ONLY_T1) | SOME
    )
    run_epochs(trainer, 1, end=True)
    assert trainer.do_split() == (CASES[:3], CASES[3:])
    names = [name for name in trainer.history if name.startswith("training loss")]
    assert names == [
        "training loss: CE T1",
        "training loss: Dice T1",
    ]  # no training case has a T2 mask
    quietly(trainer.perform_actual_validation)
    summary = json.loads((Path(trainer.output_folder) / "validation" / "summary.json").read_text())
    by_case = {case["reference_file"]: case["metrics"] for case in summary["metric_per_case"]}
    lacking = by_case[f"{CASES[3]}.nii.gz"]
    assert set(lacking["(1, 3)"].values()) == {None}
    assert lacking["(2, 3)"]["Dice"] >= 0
    assert summary["mean"]["(1, 3)"]["Dice"] == by_case[f"{CASES[4]}.nii.gz"]["(1, 3)"]["Dice"]
    dice = [metrics["(2, 3)"]["Dice"] for metrics in by_case.values()]
    assert summary["mean"]["(2, 3)"]["Dice"] == pytest.approx(sum(dice) / 2)
    assert summary["cases_without_a_mask"][CASES[3]] == ["T1 liver"]


def test_dual_input_leaves_them_out_and_says_so(nnunet_root: Path, tmp_path: Path):
    trainer = make(nnunet_root, tmp_path, "nnUNetTrainerDualInput", SOME)
    assert quietly(trainer.do_split) == (CASES[1:3], CASES[4:])
    quietly(trainer.do_split)
    log = Path(trainer.log_file).read_text()
    assert (
        log.count("Incomplete pairs are left out, because nnUNetTrainerDualInput needs both") == 1
    )
    assert "1 of 3 training cases, 1 of 2 validation cases" in log


def test_nothing_left_to_train_on(nnunet_root: Path, tmp_path: Path):
    trainer = make(
        nnunet_root, tmp_path, "nnUNetTrainerDualOutput", dict.fromkeys(CASES[:3], ONLY_T1)
    )
    with pytest.raises(
        InputError, match="needs both images and both masks, which no training case of fold 0 has"
    ):
        quietly(trainer.do_split)


def test_the_dataset_of_the_tests_is_complete(nnunet_root: Path):
    assert "incomplete" not in json.loads(
        (nnunet_root / "raw" / DATASET / "dataset.json").read_text()
    )
