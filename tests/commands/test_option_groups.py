"""Dataclasses of options among a command's parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer
from typer.testing import CliRunner

from nnunet_liver_ext.commands.option_groups import with_option_groups


@dataclass(frozen=True)
class Speed:
    """Options with a title, one of them without a default."""

    title: ClassVar[str] = "How fast"

    speed: Annotated[int, typer.Option(help="Steps a second.")]
    unit: Annotated[str, typer.Option(help="Unit of a step.")] = "mm"


def make_app() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @with_option_groups(unit="cm")
    def walk(
        name: Annotated[str, typer.Argument()],
        speed: Speed,
        far: Annotated[bool, typer.Option("--far")] = False,
    ) -> None:
        """Walk."""
        typer.echo(f"{name} {speed.speed} {speed.unit} {far}")

    return app


def test_a_group_becomes_its_options_with_this_commands_defaults():
    assert CliRunner().invoke(make_app(), ["anna", "--speed", "3"]).output == "anna 3 cm False\n"
    given = ["anna", "--speed", "3", "--unit", "m", "--far"]
    assert CliRunner().invoke(make_app(), given).output == "anna 3 m True\n"


def test_an_option_without_a_default_is_required():
    result = CliRunner().invoke(make_app(), ["anna"])
    assert result.exit_code == 2
    assert "--speed" in result.output


def test_the_help_shows_a_group_under_its_title():
    lines = CliRunner().invoke(make_app(), ["--help"], env={"COLUMNS": "80"}).output.splitlines()
    title = next(number for number, line in enumerate(lines) if "How fast" in line)
    assert any("--far" in line for line in lines[:title])
    assert all(any(option in line for line in lines[title:]) for option in ("--speed", "--unit"))
