"""Plans files and splits on disk; one test runs nnU-Net's own planner."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.planning import plan_dataset as run
from nnunet_liver_ext.planning.plan_dataset import plan_dataset
from tests.conftest import CASES, DATASET, PREREGISTERED
from tests.held_folders import Hold

OTHER_SPLITS = [{"train": CASES[1:], "val": CASES[:1]}]


@pytest.fixture
def folders(nnunet_root: Path, tmp_path: Path, monkeypatch) -> tuple[Path, Path]:
    """(raw, preprocessed) of copies of the pair dataset, the latter with plans and splits but
    without data."""
    for kind in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{kind}", str(tmp_path / kind))
    raw, preprocessed = tmp_path / "raw" / DATASET, tmp_path / "preprocessed" / DATASET
    shutil.copytree(nnunet_root / "raw" / DATASET, raw)
    preprocessed.mkdir(parents=True)
    for source in (nnunet_root / "preprocessed" / DATASET).glob("*.json"):
        shutil.copyfile(source, preprocessed / source.name)
    return raw, preprocessed


@pytest.fixture
def planner_calls(monkeypatch) -> list[tuple]:
    """nnU-Net's planner replaced by a note that it was called; the plans that are there stay."""
    calls: list[tuple] = []
    monkeypatch.setattr(run, "_run_nnunet_planner", lambda *arguments: calls.append(arguments))
    return calls


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_fixtures_plans_are_ordinary_ones(nnunet_root: Path):
    for dataset in (DATASET, PREREGISTERED):
        plans = read(nnunet_root / "preprocessed" / dataset / "nnUNetPlans.json")
        assert plans["experiment_planner_used"] == "ExperimentPlanner"
        assert list(plans["configurations"]) == ["3d_fullres"]
        splits = read(nnunet_root / "preprocessed" / dataset / "splits_final.json")
        assert splits == [{"train": CASES[:3], "val": CASES[3:]}]


def test_existing_plans_are_not_made_anew(folders, planner_calls):
    _, preprocessed = folders
    path = preprocessed / "nnUNetPlans.json"
    before = path.read_bytes()
    assert plan_dataset(501) == path
    assert path.read_bytes() == before
    assert planner_calls == []


def test_numbers_and_variants_go_into_existing_plans(folders, planner_calls):
    path = plan_dataset(501, numbers={"num_epochs": 3})
    assert read(path)["configurations"]["3d_fullres"]["recipe"]["num_epochs"] == 3
    plan_dataset(DATASET, name="mine", numbers={"num_epochs": 4, "batch_size": 3})
    expected = {"inherits_from": "3d_fullres", "batch_size": 3, "recipe": {"num_epochs": 4}}
    assert read(path)["configurations"]["mine"] == expected
    assert planner_calls == []
    with pytest.raises(InputError, match="have a configuration mine already"):
        plan_dataset(501, name="mine")


@pytest.mark.parametrize("plans_name", ["nnUNetPlans", "otherPlans"])
@pytest.mark.parametrize("name", [None, "mine"])
def test_an_unknown_number_is_an_error_before_anything_is_done(
    plans_name: str, name: str | None, folders, planner_calls
):
    _, preprocessed = folders
    before = {path: path.read_bytes() for path in preprocessed.iterdir()}
    with pytest.raises(
        InputError, match=r"--set: unknown recipe keys \['epochs'\]; known are adversarial_weight"
    ):
        plan_dataset(501, plans_name=plans_name, name=name, numbers={"epochs": 3})
    assert {path: path.read_bytes() for path in preprocessed.iterdir()} == before
    assert planner_calls == []


def test_outdated_plans_are_refused(folders, planner_calls):
    raw, preprocessed = folders
    plans = preprocessed / "nnUNetPlans.json"
    later = plans.stat().st_mtime + 10
    os.utime(raw / "dataset.json", (later, later))
    with pytest.raises(
        InputError, match=r"nnUNetPlans\.json: older than the dataset; plan anew with --overwrite"
    ):
        plan_dataset(501, numbers={"num_epochs": 3})
    assert planner_calls == []
    plan_dataset(501, overwrite=True)
    assert len(planner_calls) == 1


def test_other_splits_are_refused_and_then_replaced_with_a_copy_kept(folders, planner_calls):
    raw, preprocessed = folders
    before = read(preprocessed / "splits_final.json")
    (raw / "splits_final.json").write_text(json.dumps(OTHER_SPLITS))
    shutil.copyfile(preprocessed / "nnUNetPlans.json", preprocessed / "kept.json")
    (preprocessed / "nnUNetPlans.json").unlink()
    with pytest.raises(
        InputError,
        match=r"splits_final\.json: differs from the dataset's splits; --overwrite replaces it",
    ):
        plan_dataset(501)
    assert read(preprocessed / "splits_final.json") == before
    assert planner_calls == []
    (preprocessed / "kept.json").rename(preprocessed / "nnUNetPlans.json")
    plan_dataset(501, overwrite=True)
    assert read(preprocessed / "splits_final.json") == OTHER_SPLITS
    assert read(preprocessed / "splits_final.previous.json") == before
    assert len(planner_calls) == 1


def test_variants_survive_planning_anew(folders):
    """With nnU-Net's own planner: tiny plans become full ones, the variant stays, and the recipe of
    the base is gone."""
    plan_dataset(501, name="mine", numbers={"num_epochs": 4})
    path = plan_dataset(501, overwrite=True, processes=1)
    found = read(path)["configurations"]
    assert found["mine"] == {"inherits_from": "3d_fullres", "recipe": {"num_epochs": 4}}
    assert found["3d_fullres"]["architecture"]["arch_kwargs"]["features_per_stage"][0] == 32
    assert "recipe" not in found["3d_fullres"]
    assert found["3d_fullres"]["memory"]["strategy"] == "single_input"
    assert 1.85 < found["3d_fullres"]["memory"]["estimated_gb"] <= 8.0
    assert "3d_cascade_fullres" not in found
    assert read(path)["experiment_planner_used"] == "ExperimentPlanner"


def test_variants_survive_planning_anew_as_tiny(folders, planner_calls):
    plan_dataset(501, name="mine", numbers={"num_epochs": 4})
    path = plan_dataset(501, overwrite=True, tiny=True)
    assert set(read(path)["configurations"]) == {"3d_fullres", "mine"}


def test_files_that_are_missing_or_damaged(folders, planner_calls):
    raw, preprocessed = folders
    (preprocessed / "nnUNetPlans.json").write_text('{"configurations": ')
    with pytest.raises(InputError, match=r"nnUNetPlans\.json: is no valid JSON"):
        plan_dataset(501)
    (raw / "dataset.json").unlink()
    with pytest.raises(InputError, match=r"dataset\.json: no such file; convert the dataset first"):
        plan_dataset(501)


def test_the_command_shows_what_it_planned(folders, planner_calls):
    from nnunet_liver_ext.cli import app

    arguments = [
        "plan",
        "-d",
        "501",
        "--set",
        "num_epochs=7",
        "--set",
        "patch_size=[8,16,16]",
        "--name",
        "small",
    ]
    result = CliRunner().invoke(
        app, [*arguments, "--set", "optimizer=adam"], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.output
    assert "8 x 16 x 16" in result.stdout
    found = read(folders[1] / "nnUNetPlans.json")["configurations"]["small"]
    assert found == {
        "inherits_from": "3d_fullres",
        "patch_size": [8, 16, 16],
        "recipe": {"num_epochs": 7, "optimizer": "adam"},
    }


def test_two_commands_do_not_drop_each_others_configurations(folders, planner_calls, hold: Hold):
    path = folders[1] / "nnUNetPlans.json"
    before = path.read_bytes()
    other = hold(folders[1])
    with pytest.raises(InputError, match=rf"process {other.pid} on .* works in this folder"):
        plan_dataset(501, numbers={"num_epochs": 3}, name="3d_fullres_3")
    assert path.read_bytes() == before
    other.communicate()
    plan_dataset(501, numbers={"num_epochs": 3}, name="3d_fullres_3")
    assert "3d_fullres_3" in read(path)["configurations"]
