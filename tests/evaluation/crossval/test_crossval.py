"""Pooled folds: what is measured, what is refused, and which model is the best."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.evaluation.comparison.results_folders import read_all_results
from nnunet_liver_ext.evaluation.crossval.best_model import find_best
from nnunet_liver_ext.evaluation.crossval.cross_validation import evaluate_crossvals
from nnunet_liver_ext.evaluation.crossval.folds import find_crossval, repetitions_of
from nnunet_liver_ext.evaluation.results.results_table import read_results
from nnunet_liver_ext.space.images import image_like, write_image
from tests.conftest import DATASET as BLOBS
from tests.crossvalidations import CASES, DATASET, GRID, Root, block, shifted
from tests.training import make_trainer, quietly, run_epochs

CHOSEN = {"checkpoint_was_chosen_on_these_cases": True}
TWICE = (
    ("P001_S1", "P001_S2"),
    ("P002_S1", "P003_S1", "P004_S1"),
    ("P001_S1", "P001_S2", "P002_S1"),
    ("P003_S1", "P004_S1"),
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    return Root(tmp_path, monkeypatch)


def evaluate(models: dict[str, Path], out: Path, **more):
    return evaluate_crossvals(models, out, processes=1, formats=("csv", "json"), **more)


def test_every_case_of_every_fold_is_measured_once(root, tmp_path: Path):
    results = evaluate({"a": root.model("A", shifted(1, 2))}, tmp_path / "out")
    table = read_results(tmp_path / "out" / "a" / "results.csv")
    dice = table[table.metric == "dice"]
    assert list(zip(dice.case, dice.modality, strict=True)) == [
        (case, name) for case in CASES for name in ("T1", "T2")
    ]
    assert list(dice.value) == pytest.approx([7 / 8, 6 / 8] * 5)
    assert list(dice.patient.unique()) == ["P001", "P002", "P003", "P004"]
    assert results.best is None
    assert not (tmp_path / "out" / "best.json").exists()
    content = json.loads((tmp_path / "out" / "a" / "results.json").read_text())
    assert content["checkpoint_chosen_on_these_cases"] is False
    assert content["crossval"]["folds"] == {
        str(number): list(fold) for number, fold in enumerate(root.folds)
    }
    assert str(tmp_path) not in json.dumps(content)


def test_a_checkpoint_that_was_chosen_on_these_cases_is_said_everywhere(root, tmp_path: Path):
    models = {"a": root.model("A", shifted(1)), "b": root.model("B", shifted(2), summary=CHOSEN)}
    results = evaluate(models, tmp_path / "out")
    assert [note for note in results.notes if "optimistic" in note] == [
        "b: optimistic, a checkpoint was chosen on the cases that it predicts."
    ]
    assert "Optimistic for b" in results.best.sentences()[1]
    read = read_all_results(
        [tmp_path / "out" / "a", tmp_path / "out" / "b"]
    )  # as nnunet_liver compare does
    assert [one.chosen_on_these_cases for one in read] == [False, True]


def test_the_labels_of_the_raw_dataset_do_where_nothing_was_preprocessed(root, tmp_path: Path):
    (root.preprocessed / "gt_segmentations").rename(root.raw / "labelsTr")
    (root.raw / "dataset.json").write_text(json.dumps(root.dataset_json))
    evaluate({"a": root.model("A", shifted())}, tmp_path / "out")
    assert (
        read_results(tmp_path / "out" / "a" / "results.csv").query("metric == 'dice'").value == 1
    ).all()


def test_other_references_and_their_further_cases(root, tmp_path: Path):
    for case in (*CASES, "P009_S1"):
        root.put(tmp_path / "corrected", case, (block(2), block(2)))
    evaluate(
        {"a": root.model("A", shifted(2, 3))}, tmp_path / "out", references=tmp_path / "corrected"
    )
    dice = read_results(tmp_path / "out" / "a" / "results.csv").query("metric == 'dice'")
    assert list(dice.value) == pytest.approx([1, 7 / 8] * 5)
    (tmp_path / "corrected" / "P002_S1.nii.gz").unlink()
    with pytest.raises(InputError, match="has no reference of P002_S1"):
        evaluate(
            {"b": root.model("B", shifted())}, tmp_path / "b", references=tmp_path / "corrected"
        )


def test_without_patients_each_case_is_one(root, tmp_path: Path):
    (root.raw / "pairs.json").unlink()
    results = evaluate({"a": root.model("A", shifted())}, tmp_path / "out")
    assert list(results.evaluated[0].evaluation.table.patient.unique()) == list(CASES)
    assert "each counts as a patient of its own" in results.notes[0]


def test_pictures_come_from_the_training_images(root, tmp_path: Path):
    for case in CASES:
        for channel in range(2):
            image = image_like(block().astype("float32") * 100, GRID)
            write_image(image, root.raw / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
    results = evaluate({"a": root.model("A", shifted())}, tmp_path / "out")
    assert not [note for note in results.evaluated[0].evaluation.notes if "no image" in note.reason]


def test_folds_that_have_not_predicted_name_their_commands(root, tmp_path: Path):
    folder = root.model("A", shifted(), folds=[0])
    (folder / "fold_1").mkdir()
    (folder / "fold_1" / "checkpoint_final.pth").touch()
    with pytest.raises(InputError, match="folds 1, 2 of the cross-validation") as error:
        evaluate({"a": folder}, tmp_path / "out")
    assert str(error.value).splitlines()[1:] == [
        f"  nnUNetv2_train {DATASET} 3d_fullres 1 -tr A --val",
        f"  nnUNetv2_train {DATASET} 3d_fullres 2 -tr A",
    ]
    assert not (tmp_path / "out").exists()


def test_a_validation_that_was_interrupted(root, tmp_path: Path):
    folder = root.model("A", shifted())
    (folder / "fold_1" / "checkpoint_latest.pth").touch()
    summary = folder / "fold_1" / "validation" / "summary.json"
    content = summary.read_text()
    summary.unlink()
    with pytest.raises(
        InputError, match=r"summary.json: is missing.*nnUNetv2_train .* 1 -tr A --c$"
    ):
        find_crossval(folder)
    summary.write_text(content)
    (folder / "fold_1" / "validation" / "P003_S1.nii.gz").unlink()
    with pytest.raises(InputError, match=r"fold_1/validation: has no prediction of P003_S1"):
        find_crossval(folder)


def test_predictions_of_other_splits_are_refused(root):
    folder = root.model("A", shifted())
    root.put(folder / "fold_0" / "validation", "P004_S1", (block(), block()))
    with pytest.raises(InputError, match=r"fold_0/validation: holds P004_S1, which is in fold 2"):
        find_crossval(folder)
    root.split(root.folds[:2])
    with pytest.raises(InputError, match="which is in no fold"):
        find_crossval(folder)
    (folder / "fold_0" / "validation" / "P004_S1.nii.gz").unlink()
    with pytest.raises(InputError, match="has more folds than the 2"):
        find_crossval(folder)


def test_models_of_different_datasets_are_refused(root, tmp_path: Path, monkeypatch):
    other = Root(tmp_path / "elsewhere", monkeypatch)
    first = root.model("A", shifted())
    second = other.model("B", shifted())
    renamed = second.parent.with_name("Dataset502_Others")
    second.parent.rename(renamed)
    (other.preprocessed).rename(other.preprocessed.with_name("Dataset502_Others"))
    (tmp_path / "elsewhere" / "preprocessed" / DATASET).symlink_to(root.preprocessed)
    with pytest.raises(
        InputError, match=r"different datasets .a: Dataset501_Blocks, b: Dataset502_Others"
    ):
        evaluate({"a": first, "b": renamed / second.name}, tmp_path / "out")


def test_folders_that_are_no_models(root, tmp_path: Path):
    with pytest.raises(InputError, match="is no folder of a trained model"):
        find_crossval(tmp_path)
    folder = root.model("A", shifted())
    (root.preprocessed / "splits_final.json").write_text("{}")
    with pytest.raises(InputError, match=r"is no splits_final.json"):
        find_crossval(folder)
    (root.preprocessed / "splits_final.json").unlink()
    with pytest.raises(InputError, match="which fold predicts which case"):
        find_crossval(folder)


def test_each_repetition_is_measured_on_its_own(root, tmp_path: Path):
    root.split(TWICE)
    results = evaluate({"a": root.model("A", shifted(1))}, tmp_path / "out")
    assert [one.title for one in results.evaluated] == ["a, repetition 0", "a, repetition 1"]
    for number in range(2):
        assert (
            len(
                read_results(tmp_path / f"out/a/repetition_{number}/results.csv").query(
                    "metric == 'dice'"
                )
            )
            == 10
        )
    assert "is repeated 2 times" in results.notes[0]


def test_a_repetition_that_was_not_trained_is_left_out(root, tmp_path: Path):
    root.split(TWICE)
    results = evaluate(
        {"a": root.model("A", shifted(1), folds=[2, 3]), "b": root.model("B", shifted(2))},
        tmp_path / "out",
    )
    assert [(one.model, one.repetition.number) for one in results.evaluated] == [
        ("a", 1),
        ("b", 0),
        ("b", 1),
    ]
    assert "a: no fold of repetition 0 was trained; left out." in results.notes
    assert results.best.repetitions == (1,)
    with pytest.raises(InputError, match="no repetition of the cross-validation in common"):
        evaluate(
            {
                "a": root.results / "A__nnUNetPlans__3d_fullres",
                "c": root.model("C", shifted(), folds=[0, 1]),
            },
            tmp_path / "x",
        )
    with pytest.raises(InputError, match="fold 1 of the cross-validation"):
        find_crossval(root.model("D", shifted(), folds=[0, 2, 3]))


def test_folds_that_overlap_are_no_repetitions(tmp_path: Path):
    folds = [{"val": ["a", "b"]}, {"val": ["b", "c"]}]
    with pytest.raises(InputError, match=r"overlap \(case b\)"):
        repetitions_of(folds, tmp_path)
    assert repetitions_of([{"val": ["a"]}, {"val": ["b"]}] * 3, tmp_path) == [
        [0, 1],
        [2, 3],
        [4, 5],
    ]


def test_results_are_not_overwritten_unasked(root, tmp_path: Path):
    models = {"b": root.model("B", shifted(2)), "a": root.model("A", shifted(1))}
    evaluate({"a": models["a"]}, tmp_path / "out")
    with pytest.raises(InputError, match=r"a/results.csv exists"):
        evaluate(models, tmp_path / "out")
    assert not (tmp_path / "out" / "b").exists()
    evaluate(models, tmp_path / "out", overwrite=True)
    assert json.loads((tmp_path / "out" / "best.json").read_text())["best"] == "a"


def test_a_damaged_prediction_is_listed_and_the_others_measured(root, tmp_path: Path):
    folder = root.model("A", shifted(1))
    damaged = folder / "fold_1" / "validation" / "P002_S1.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:60])
    results = evaluate({"a": folder}, tmp_path / "out")
    with pytest.raises(SomeCasesFailed, match=r"2 of 10 cases.*\n  a: P002_S1 T1: P002_S1.nii.gz"):
        results.raise_for_failures()


def dice_table(values: dict[str, tuple[float, float]]) -> pd.DataFrame:
    rows = [
        {
            "case": case,
            "patient": case,
            "modality": name,
            "class": "liver",
            "metric": "dice",
            "value": value,
            "unit": "1",
        }
        for case, both in values.items()
        for name, value in zip(("T1", "T2"), both, strict=True)
    ]
    return pd.DataFrame(rows)


def test_the_best_model_has_the_highest_mean_over_images_and_cases():
    a = dice_table({f"c{n}": (0.90, 0.80) for n in range(8)})
    b = dice_table({f"c{n}": (0.88, 0.86 + n / 1000) for n in range(8)})
    best = find_best({"a": {0: a}, "b": {0: b}})
    assert list(best.scores) == ["b", "a"]
    assert best.scores["a"] == pytest.approx(0.85)
    assert best.scores["b"] == pytest.approx((0.88 + 0.8635) / 2)
    assert best.of_each_object["a"] == pytest.approx({"T1 liver": 0.9, "T2 liver": 0.8})
    assert best.is_clear
    assert best.first == 1
    assert (
        "b, mean Dice 0.8718 (clearly the best). It comes first in 100% of the draws"
        in best.sentences()[0]
    )
    assert "Dice of all masks: a is 0.022 lower than b on average" in best.sentences()[1]


def test_a_small_lead_is_no_clear_one():
    a = dice_table({f"c{n}": (0.9, 0.9) for n in range(8)})
    b = dice_table({f"c{n}": (0.9, 0.902) for n in range(8)})
    best = find_best({"a": {0: a}, "b": {0: b}})
    assert best.name == "b"
    assert not best.is_clear
    assert "not clearly better" in best.sentences()[0]
    few = find_best(
        {name: {0: table[table.case.isin(["c0", "c1"])]} for name, table in (("a", a), ("b", b))}
    )
    assert math.isnan(few.first)
    assert not few.is_clear


def test_of_repetitions_a_case_counts_with_its_mean():
    low, high = (
        dice_table({"c0": (0.6, 0.6), "c1": (0.8, 0.8)}),
        dice_table({"c0": (0.8, 0.8), "c1": (1.0, 1.0)}),
    )
    best = find_best({"a": {0: low, 1: high, 2: high}, "b": {0: low, 1: low}})
    assert best.repetitions == (0, 1)
    assert best.scores == pytest.approx({"a": 0.8, "b": 0.7})
    assert list(best.comparison["cases"]) == [2]


def test_models_with_other_classes_are_not_ranked():
    a = dice_table({"c0": (0.6, 0.6)})
    with pytest.raises(InputError, match="a segments T1 liver, T2 liver, b segments T2 liver"):
        find_best({"a": {0: a}, "b": {0: a[a.modality == "T2"]}})


def test_the_command_shows_each_model_and_the_best(root, tmp_path: Path):
    first, second = root.model("A", shifted(1)), root.model("B", shifted(2))
    command = [
        "crossval",
        str(first),
        f"mine={second}",
        "-o",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(
        app, [*command, "--similarity", "none", "--processes", "1"], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    assert f"Best: {first.name}, mean Dice 0.9375" in result.output
    best = json.loads((tmp_path / "out" / "best.json").read_text())
    assert [model["name"] for model in best["models"]] == [first.name, "mine"]
    assert best["comparison"][0]["verdict"] == "too few"
    assert best["comparison"][0]["p_value"] is None
    again = CliRunner().invoke(app, [*command, "--similarity", "none"])
    assert isinstance(again.exception, InputError)


def test_wrong_uses_of_the_command(root, tmp_path: Path):
    folder = str(root.model("A", shifted()))
    for arguments in (
        ["crossval", folder, "-p", folder],
        ["evaluate", "--crossval", folder],
        ["evaluate", "--crossval", folder, "-p", folder],
        ["crossval"],
        ["evaluate"],
        ["evaluate", "-p", folder],
        ["crossval", folder, folder],
    ):
        result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "out")])
        assert result.exit_code == 2, arguments
        assert not (tmp_path / "out").exists()


def test_what_nnunet_wrote_is_measured_as_it_was_validated(nnunet_root: Path, tmp_path: Path):
    trainer = make_trainer(
        nnunet_root,
        tmp_path / "results",
        "nnUNetTrainerDualInput",
        num_epochs=1,
        num_iterations_per_epoch=1,
    )
    run_epochs(trainer, 1, end=True)
    quietly(trainer.perform_actual_validation)
    folder = Path(trainer.output_folder_base)
    assert folder.parent.name == BLOBS
    results = evaluate({"a": folder}, tmp_path / "out")
    summary = json.loads((folder / "fold_0" / "validation" / "summary.json").read_text())[
        "mean_by_modality_and_class"
    ]
    dice = (
        results.evaluated[0]
        .evaluation.table.query("metric == 'dice'")
        .groupby("modality")
        .value.mean()
    )
    assert dict(dice) == pytest.approx(
        {name: summary[f"{name} liver"]["Dice"] for name in ("T1", "T2")}
    )
