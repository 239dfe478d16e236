"""`nnunet_liver plan`: what it shows, what it refuses, and that asking for help is quick."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.planning.architectures import ARCHITECTURES
from nnunet_liver_ext.planning.next_steps import ANY_TRAINER, suggest_trainer
from nnunet_liver_ext.trainers.protocols import PROTOCOLS
from tests.planning.made_up_datasets import IMAGES, PAIRS, write_dataset

WIDE = {"COLUMNS": "300", "TERMINAL_WIDTH": "300"}


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["plan", "-d", "601", *arguments], env=WIDE)
    assert result.exit_code == code, result.output
    return result.output


def test_the_estimate_is_shown_and_kept(empty_root: Path):
    _, preprocessed = write_dataset(empty_root, PAIRS)
    output = run(
        "--architecture", "anisotropic", "--objective", "gan", "--tiny", "--gpu-memory", "6"
    )
    kept = json.loads((preprocessed / "nnUNetPlansAnisotropic.json").read_text())["configurations"][
        "3d_fullres"
    ]["memory"]
    assert kept["strategy"] == "single_input"
    assert (
        f"{kept['estimated_gb']:.2f} GB of 6 (single_input, gan): {kept['activations_gb']:.2f}"
        " activations" in output
    )
    assert kept["estimated_gb"] == pytest.approx(
        kept["activations_gb"] + kept["weights_gb"] + kept["reserved_gb"], abs=2e-3
    )
    assert "nnUNetv2_preprocess -d 601 -plans_name nnUNetPlansAnisotropic -c 3d_fullres" in output
    assert (
        "nnUNetv2_train 601 3d_fullres 0 -p nnUNetPlansAnisotropic -tr nnUNetTrainerGAN" in output
    )


def test_a_variant_has_an_estimate_of_its_own(empty_root: Path):
    _, preprocessed = write_dataset(empty_root, IMAGES)
    run("--architecture", "di2in", "--tiny")
    output = run("--architecture", "di2in", "--name", "many", "--set", "batch_size=64")
    plans = json.loads((preprocessed / "nnUNetPlansDI2IN.json").read_text())
    assert plans["configurations"]["many"] == {"inherits_from": "3d_fullres", "batch_size": 64}
    base = plans["configurations"]["3d_fullres"]["memory"]["estimated_gb"]
    row = next(line for line in output.splitlines() if " many " in line)
    found = float(row.partition(" GB of")[0].split()[-1])
    assert found > base + 0.1
    assert "kept (but for --set)" in output
    assert "-c 3d_fullres" in output
    assert "nnUNetv2_train 601 many 0" in output


def test_a_protocol_is_shown_and_has_its_trainer(empty_root: Path):
    write_dataset(empty_root, IMAGES)
    output = run("--protocol", "antaros", "--tiny")
    assert "protocol=antaros" in output
    assert "as it is x 1.5 x 1.5" in output
    assert "-p nnUNetPlansSlice -tr nnUNetTrainer" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--spacing", "1,x,2"], "'1,x,2': write Z,Y,X in mm"),
        (
            ["--architecture-option", "neighbours"],
            "'neighbours': write KEY=VALUE, for example neighbours=1",
        ),
        (["--set", "num_epochs"], "write KEY=VALUE, for example num_epochs=500"),
    ],
)
def test_what_cannot_be_read(arguments: list[str], message: str, empty_root: Path):
    write_dataset(empty_root, IMAGES)
    assert message in run(*arguments, code=2)


def test_help_names_all_architectures_and_protocols():
    output = CliRunner().invoke(app, ["plan", "--help"], env=WIDE).output
    assert ", ".join(ARCHITECTURES) in output
    assert ", ".join(PROTOCOLS) in output


def test_help_loads_no_network():
    code = (
        "import sys, nnunet_liver_ext.commands.plan; print('torch' in sys.modules, 'nnunetv2' in"
        " sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_plans_that_keep_no_estimate_have_no_suggestion():
    plans = {"configurations": {"3d_fullres": {"architecture": {}}}}
    assert suggest_trainer(plans, "3d_fullres") == ANY_TRAINER


@pytest.mark.parametrize(
    ("strategy", "objective", "trainer"),
    [
        ("single_input", "dice_ce", "nnUNetTrainerSingleInput"),
        ("dual_output_specialized", "dice_ce", "nnUNetTrainerDualOutputSpecialized"),
        ("single_input", "gambling", "nnUNetTrainerGambling"),
        ("dual_output_specialized", "similarity_rigid", "nnUNetTrainerSimilarityRigid"),
    ],
)
def test_the_suggested_trainer_has_the_strategy_and_the_objective(
    strategy: str, objective: str, trainer: str
):
    memory = {"strategy": strategy, "objective": objective}
    entry = {"memory": memory, "architecture": {"network_class_name": "somewhere.PlainConvUNet"}}
    assert suggest_trainer({"configurations": {"3d_fullres": entry}}, "3d_fullres") == trainer


@pytest.mark.parametrize(
    ("numbers", "trainer"),
    [
        ({"num_epochs": 5}, "nnUNetTrainerSingleInput"),
        ({"betting_weight": 0.5}, "nnUNetTrainerGambling"),
        ({"embedding_layer": 1, "gradient_penalty": 1.0}, "nnUNetTrainerEmbedding"),
        ({"betting_weight": 0.5, "embedding_layer": 1}, ANY_TRAINER),
    ],
)
def test_the_suggested_trainer_takes_the_numbers(numbers: dict, trainer: str):
    entry = {
        "memory": {"strategy": "single_input", "objective": "dice_ce"},
        "architecture": {"network_class_name": "somewhere.PlainConvUNet"},
        "recipe": numbers,
    }
    assert suggest_trainer({"configurations": {"3d_fullres": entry}}, "3d_fullres") == trainer
