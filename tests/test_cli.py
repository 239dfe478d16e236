from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nnunet_liver_ext.environment import PLUGIN_FOLDER

CLI = [sys.executable, "-m", "nnunet_liver_ext.cli"]
COMMANDS = (
    "env",
    "convert",
    "plan",
    "predict",
    "evaluate",
    "crossval",
    "mismatch",
    "compare",
    "postprocess",
    "demo",
    "benchmark",
    "import-weights",
)


def run(*arguments: str, columns: str = "120", **environment: str) -> subprocess.CompletedProcess:
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("nnUNet_")},
        **environment,
    }
    env["COLUMNS"] = columns
    return subprocess.run(
        [*CLI, *arguments], env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_help_names_every_command():
    result = run("--help")
    assert result.returncode == 0
    assert all(command in result.stdout for command in COMMANDS)


def test_nothing_heavy_is_imported_before_a_command_runs():
    heavy = "torch nnunetv2 SimpleITK scipy numpy pandas matplotlib"
    code = (
        f"import sys, nnunet_liver_ext.cli; print([name for name in '{heavy}'.split() if name in"
        " sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == "[]"


def test_env_prints_one_export_line():
    result = run("env", nnUNet_extTrainer="/mine")
    assert result.returncode == 0
    assert result.stdout == f"export nnUNet_extTrainer=/mine{os.pathsep}{PLUGIN_FOLDER}\n"


def test_an_input_error_is_one_sentence_and_exit_code_one():
    result = run("plan", "-d", "501")
    assert result.returncode == 1
    assert result.stderr.startswith("nnunet_liver: nnUNet_raw is not set")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize("option", ["crossval", "mismatch"])
@pytest.mark.parametrize("given", [("{}", "MODEL", "--seed", "1"), ("-o", "out", "{}=MODEL")])
def test_options_that_became_commands_name_these(option: str, given: tuple[str, ...]):
    result = run("evaluate", *(part.format(f"--{option}") for part in given))
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith(
        f"nnunet_liver: evaluate --{option} is now a command of its own: nnunet_liver {option} "
    )
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    ["evaluate", "crossval", "mismatch", "predict", "plan", "postprocess lesions", "convert pairs"],
)
def test_help_is_whole_at_80_columns(command: str):
    result = run(*command.split(), "--help", columns="80")
    assert result.returncode == 0
    assert "…" not in result.stdout


def test_a_wrong_option_is_a_usage_error():
    result = run("plan", "-d", "501", "--set", "num_epochs")
    assert result.returncode == 2
    assert "KEY=VALUE" in result.stderr


def test_paragraphs_of_help_have_no_line_breaks_of_the_code():
    from nnunet_liver_ext.cli import app

    for command in app.registered_commands:
        assert all("\n" not in paragraph for paragraph in (command.help or "").split("\n\n"))
        assert command.help
