"""Keeping the largest piece only: when it is kept as a rule, and where the rules are applied."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.inference.load_model import load_model
from nnunet_liver_ext.inference.predict import predict_studies
from nnunet_liver_ext.pairing import decode_pair
from nnunet_liver_ext.postprocessing.largest_piece import (
    FILE_NAME,
    Rule,
    Rules,
    keep_largest,
)
from nnunet_liver_ext.postprocessing.largest_piece_folder import apply_to_folder
from nnunet_liver_ext.postprocessing.largest_piece_search import (
    decide,
    find_rules,
    rules_table,
    save_rules,
)
from nnunet_liver_ext.space.images import array, image_like, read_mask, write_image
from nnunet_liver_ext.studies.study_layouts import read_studies
from tests.crossvalidations import CASES, GRID, PAIR, Root, block, block_and_speck, shifted
from tests.trained_models import write_study

SPECK = 16
WITH_SPECK = 512 / (512 + SPECK)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    return Root(tmp_path, monkeypatch)


def specks_in_t1(case: str) -> tuple[np.ndarray, np.ndarray]:
    return block_and_speck(SPECK), block()


def rules_of(*kept: str, modalities: tuple[str, ...] = ("T1", "T2")) -> Rules:
    return Rules(
        tuple(Rule(name, "liver", 1, name in kept, 0.8, 0.9, 5, 4, 0) for name in modalities)
    )


# ---------------------------------------------------------------- pieces


def test_only_the_named_labels_lose_pieces():
    labels = np.array([[[1, 1, 0, 1, 0, 2, 0, 2, 2]]], np.uint8)
    np.testing.assert_array_equal(keep_largest(labels, [1])[0, 0], [1, 1, 0, 0, 0, 2, 0, 2, 2])
    np.testing.assert_array_equal(keep_largest(labels, [1, 2])[0, 0], [1, 1, 0, 0, 0, 0, 0, 2, 2])
    np.testing.assert_array_equal(keep_largest(labels, []), labels)


# ---------------------------------------------------------------- finding rules


@pytest.mark.parametrize(
    ("gains", "kept"),
    [
        ({"a": 0.1, "b": 0.0, "c": 0.0}, True),
        ({"a": 0.0, "b": 0.0, "c": 0.0}, False),
        ({"a": 0.1, "b": -0.01, "c": 0.0}, True),
        ({"a": 0.1, "b": -0.01, "c": -0.01}, False),  # the mean rises, because of one patient
        ({"a": 0.01, "b": 0.01, "c": -0.1}, False),  # more rise, but the mean falls
    ],
)
def test_a_rule_is_kept_where_mean_and_patients_gain(gains: dict[str, float], kept: bool):
    rows = pd.DataFrame(
        {"patient": list(gains), "before": 0.5, "after": [0.5 + gain for gain in gains.values()]}
    )
    rule = decide(rows, "T1", "liver", 1)
    assert rule.keep_largest is kept
    assert rule.dice_after == pytest.approx(0.5 + sum(gains.values()) / 3)
    assert (rule.patients_better, rule.patients_worse) == (
        sum(gain > 0 for gain in gains.values()),
        sum(gain < 0 for gain in gains.values()),
    )


def test_two_cases_of_one_patient_count_once():
    rows = pd.DataFrame(
        {"patient": ["a", "a", "b", "b"], "before": 0.5, "after": [0.7, 0.7, 0.49, 0.49]}
    )
    assert decide(rows, "T1", "liver", 1).patients_worse == 1
    assert decide(rows, "T1", "liver", 1).keep_largest


def test_rules_are_found_for_each_image_of_the_pair(root):
    folder = root.model("A", specks_in_t1)
    rules = find_rules(folder, processes=1)
    assert [(rule.name, rule.keep_largest) for rule in rules.rules] == [
        ("T1 liver", True),
        ("T2 liver", False),
    ]
    first = rules.rules[0]
    assert first.dice_before == pytest.approx(WITH_SPECK)
    assert first.dice_after == 1
    assert (first.cases, first.patients_better, first.patients_worse) == (5, 4, 0)
    path = save_rules(rules, folder)
    assert path == folder / FILE_NAME
    assert Rules.load(path) == rules
    content = json.loads(path.read_text())
    assert content["found_on"]["folds"] == [0, 1, 2]
    assert content["found_on"]["checkpoint_chosen_on_these_cases"] is False
    assert "optimistic" in content["note"]
    assert find_rules(folder, processes=2) == rules
    with pytest.raises(InputError, match="exists: replace it with --overwrite"):
        save_rules(rules, folder)
    save_rules(rules, folder, overwrite=True)


def test_a_reference_without_the_class_is_in_no_mean(root):
    """Two empty masks (Dice 1) would lift the Dice of T1; the decision stays."""

    def nothing_in_p004(case: str) -> tuple[np.ndarray, np.ndarray]:
        first, second = specks_in_t1(case)
        return (np.zeros_like(first), second) if case == "P004_S1" else (first, second)

    references = root.preprocessed / "gt_segmentations"
    root.put(references, "P004_S1", (np.zeros_like(block()), block()))
    folder = root.model("A", nothing_in_p004)
    first, second = find_rules(folder, processes=1).rules
    assert (first.cases, second.cases) == (4, 5)
    assert first.dice_before == pytest.approx(WITH_SPECK)
    over_all = find_rules(folder, processes=1, empty="one").rules[0]
    assert over_all.cases == 5
    assert over_all.dice_before == pytest.approx((4 * WITH_SPECK + 1) / 5)
    assert (over_all.keep_largest, first.keep_largest) == (True, True)


def test_a_class_without_any_reference_has_no_rule():
    rows = pd.DataFrame({"patient": ["a", "b"], "before": np.nan, "after": np.nan})
    rule = decide(rows, "T1", "tumour", 2)
    assert (rule.keep_largest, rule.cases, rule.dice_before) == (False, 0, None)
    assert json.loads(json.dumps(rule.to_json(), allow_nan=False))["dice_after"] is None
    assert Rule.from_json(rule.to_json()) == rule
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(rules_table(Rules((rule,))))
    assert "–" in console.export_text()


def test_an_organ_in_two_pieces_keeps_both(root):
    def halves(case: str) -> tuple[np.ndarray, np.ndarray]:
        split = block()
        split[:, :, 8] = 0
        return split, block()

    rule = find_rules(root.model("A", halves), processes=1).rules[0]
    assert not rule.keep_largest
    assert rule.patients_worse == 4
    assert rule.dice_after < rule.dice_before


def test_a_rule_needs_every_case(root):
    folder = root.model("A", shifted())
    damaged = folder / "fold_0" / "validation" / "P001_S1.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(SomeCasesFailed, match="2 of 10"):
        find_rules(folder, processes=1)
    damaged.unlink()
    with pytest.raises(InputError, match="has no prediction of P001_S1"):
        find_rules(folder)


def test_a_preregistered_model_has_rules_for_its_fixed_image(root):
    root.dataset_json = {
        "labels": {"background": 0, "liver": 1},
        "file_ending": ".nii.gz",
        "preregistered": {"fixed": "T2", "moving": "T1"},
    }
    root.put = lambda folder, case, masks: write_image(
        image_like(masks[1], GRID), folder / f"{case}.nii.gz"
    )
    (root.preprocessed / "dataset.json").write_text(json.dumps(root.dataset_json))
    for case in CASES:
        root.put(root.preprocessed / "gt_segmentations", case, (block(), block()))
    rules = find_rules(root.model("A", lambda case: (block(), block_and_speck(16))), processes=1)
    assert [(rule.name, rule.keep_largest) for rule in rules.rules] == [("T2 liver", True)]
    folder = root.results / "A__nnUNetPlans__3d_fullres" / "fold_0" / "validation"
    out = root.results / "out"
    assert apply_to_folder(folder, out, rules, rules_file=Path("rules")) == 2
    np.testing.assert_array_equal(array(read_mask(out / "P001_S1.nii.gz")), block())


def test_damaged_and_later_rules(tmp_path: Path):
    path = tmp_path / FILE_NAME
    with pytest.raises(InputError, match="find the rules with nnunet_liver postprocess find"):
        Rules.load(path)
    path.write_text("{")
    with pytest.raises(InputError, match=r"is no valid JSON .*; find the rules again\.$"):
        Rules.load(path)
    rules_of("T1").save(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(InputError, match="later version"):
        Rules.load(path)
    del content["rules"][0]["label"]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="is damaged"):
        Rules.load(path)


# ---------------------------------------------------------------- applying rules


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Native masks of one case with a speck in each, what a deformation adds, and the
    descriptions."""
    folder = tmp_path / "masks"
    for name in ("T1", "T2", "T1_on_T2"):
        write_image(image_like(block_and_speck(9), GRID), folder / f"case_{name}.nii.gz")
    (folder / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"})
    )
    (folder / "prediction.json").write_text(json.dumps({"trainer": "A", "postprocessing": []}))
    return folder


def apply(masks: Path, out: Path, rules: Rules, **more) -> int:
    return apply_to_folder(masks, out, rules, rules_file=Path("rules.json"), **more)


def test_masks_lose_specks_where_a_rule_says_so(masks, tmp_path: Path):
    out = tmp_path / "out"
    assert apply(masks, out, rules_of("T1")) == 1
    np.testing.assert_array_equal(array(read_mask(out / "case_T1.nii.gz")), block())
    np.testing.assert_array_equal(array(read_mask(out / "case_T2.nii.gz")), block_and_speck(9))
    assert sorted(path.name for path in out.iterdir()) == [
        "case_T1.nii.gz",
        "case_T2.nii.gz",
        "dataset.json",
        "prediction.json",
    ]
    assert json.loads((out / "prediction.json").read_text())["postprocessing"] == ["T1 liver"]
    assert (
        array(read_mask(out / "case_T1.nii.gz")).dtype
        == array(read_mask(masks / "case_T1.nii.gz")).dtype
    )


def test_joint_maps_lose_specks_of_one_image(root, tmp_path: Path):
    folder = tmp_path / "joint"
    root.put(folder, "P001_S1", (block_and_speck(9), block_and_speck(5)))
    (folder / "dataset.json").write_text(json.dumps(root.dataset_json))
    assert apply(folder, tmp_path / "out", rules_of("T2")) == 1
    first, second = decode_pair(
        array(read_mask(tmp_path / "out" / "P001_S1.nii.gz")), PAIR.num_classes
    )
    np.testing.assert_array_equal(first, block_and_speck(9))
    np.testing.assert_array_equal(second, block())


def test_predictions_are_changed_in_place_only_if_asked(masks):
    before = (masks / "case_T1.nii.gz").read_bytes()
    with pytest.raises(InputError, match="is the folder of the predictions itself"):
        apply(masks, masks, rules_of("T1"), overwrite=True)
    assert (masks / "case_T1.nii.gz").read_bytes() == before
    assert apply(masks, masks, rules_of("T1"), in_place=True) == 1
    assert apply(masks, masks, rules_of("T1"), in_place=True) == 0
    np.testing.assert_array_equal(array(read_mask(masks / "case_T1.nii.gz")), block())
    np.testing.assert_array_equal(
        array(read_mask(masks / "case_T1_on_T2.nii.gz")), block_and_speck(9)
    )


def test_masks_that_are_there_stay(masks, tmp_path: Path):
    out = tmp_path / "out"
    apply(masks, out, rules_of())
    with pytest.raises(InputError, match=r"case_T1.nii.gz exists"):
        apply(masks, out, rules_of("T1"))
    assert apply(masks, out, rules_of("T1"), overwrite=True) == 1


def test_rules_of_other_images_or_classes_are_refused(masks, tmp_path: Path):
    with pytest.raises(InputError, match="has no rules for T1, only for T2"):
        apply(masks, tmp_path / "out", rules_of(modalities=("T2",)))
    (masks / "dataset.json").write_text(
        json.dumps({"labels": {"background": 0, "spleen": 1, "liver": 2}})
    )
    with pytest.raises(InputError, match="is for the class liver with label 1"):
        apply(masks, tmp_path / "out", rules_of("T1"))
    plain = tmp_path / "plain"
    write_image(image_like(block(), GRID), plain / "case.nii.gz")
    with pytest.raises(
        InputError, match=r"name no image .* no dataset.json says that they are joint"
    ):
        apply(plain, tmp_path / "out", rules_of("T1"))
    assert not (tmp_path / "out").exists()


def test_a_damaged_mask_is_listed_and_the_others_written(masks, tmp_path: Path):
    (masks / "case_T1.nii.gz").write_bytes(b"nothing")
    with pytest.raises(SomeCasesFailed, match="1 of 2"):
        apply(masks, tmp_path / "out", rules_of("T2"))
    np.testing.assert_array_equal(array(read_mask(tmp_path / "out" / "case_T2.nii.gz")), block())


def test_the_commands(root, masks, tmp_path: Path):
    folder = root.model("A", specks_in_t1)
    result = CliRunner().invoke(
        app, ["postprocess", "find", str(folder), "--processes", "1"], env={"COLUMNS": "150"}
    )
    assert result.exit_code == 0, result.output
    assert "T1 liver" in result.output
    again = CliRunner().invoke(app, ["postprocess", "find", str(folder)])
    assert isinstance(again.exception, InputError)
    command = ["postprocess", "apply", "-i", str(masks), "--rules", str(folder)]
    result = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "out")])
    assert "Largest piece of T1 liver: 1 label maps changed" in result.output
    for wrong in ([], ["-o", str(tmp_path / "x"), "--in-place"]):
        assert CliRunner().invoke(app, [*command, *wrong]).exit_code == 2
    assert CliRunner().invoke(app, [*command, "--in-place"]).exit_code == 0
    np.testing.assert_array_equal(array(read_mask(masks / "case_T1.nii.gz")), block())


# ---------------------------------------------------------------- prediction


def test_prediction_follows_the_rules_of_the_model(model_folders, tmp_path: Path):
    folder = tmp_path / "nnUNetTrainerDualInput__nnUNetPlans__3d_fullres"
    shutil.copytree(model_folders["nnUNetTrainerDualInput"], folder)
    rules_of("T1").save(folder / FILE_NAME)
    write_study(tmp_path / "studies", "case")
    studies, files = read_studies(tmp_path / "studies"), {}
    for name, follow in (("with", True), ("without", False)):
        model = load_model(
            folder,
            device=torch.device("cpu"),
            mirroring=False,
            tile_step=1.0,
            postprocessing=follow,
        )
        predict_studies(model, studies, tmp_path / name, probabilities=True)
        description = json.loads((tmp_path / name / "prediction.json").read_text())
        assert description["postprocessing"] == (["T1 liver"] if follow else [])
        files[name] = {
            modality: array(read_mask(tmp_path / name / f"case_{modality}.nii.gz"))
            for modality in ("T1", "T2")
        }
    assert not np.array_equal(
        files["with"]["T1"], files["without"]["T1"]
    )  # the test would show nothing without specks
    np.testing.assert_array_equal(files["with"]["T1"], keep_largest(files["without"]["T1"], [1]))
    np.testing.assert_array_equal(files["with"]["T2"], files["without"]["T2"])
    for modality in ("T1", "T2"):
        found = [
            np.load(tmp_path / name / f"case_{modality}.npz")["probabilities"]
            for name in ("with", "without")
        ]
        np.testing.assert_array_equal(*found)
    with pytest.raises(InputError, match="another model, of other studies or with other options"):
        predict_studies(model, studies, tmp_path / "with")
    description = json.loads((tmp_path / "without" / "prediction.json").read_text())
    del description["postprocessing"]  # of a version that knew no rules
    (tmp_path / "without" / "prediction.json").write_text(json.dumps(description))
    predict_studies(model, studies, tmp_path / "without")


def test_the_rules_of_another_model_are_refused(model_folders, tmp_path: Path):
    folder = tmp_path / "nnUNetTrainerDualInput__nnUNetPlans__3d_fullres"
    shutil.copytree(model_folders["nnUNetTrainerDualInput"], folder)
    Rules((Rule("T1", "spleen", 1, True, 0, 1, 1, 1, 0),)).save(folder / FILE_NAME)
    with pytest.raises(
        InputError,
        match="is for the class spleen with label 1, but there are background 0, liver 1",
    ):
        load_model(folder, device=torch.device("cpu"))
