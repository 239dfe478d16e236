"""The tables in docs/ that come from the code (docs/tables.py)."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from nnunet_liver_ext.dataset_conversion.datasets import ENTRIES
from tests.docs_tables import load_tables


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return load_tables()


def test_the_documentation_is_up_to_date(tables: ModuleType):
    stale = [
        page.name for page in tables.pages() if tables.filled(page.read_text()) != page.read_text()
    ]
    assert not stale, "run `python docs/tables.py`"


def test_every_table_stands_somewhere(tables: ModuleType):
    found = {name for page in tables.pages() for name in tables.OPENING.findall(page.read_text())}
    assert found == set(tables.TABLES)


def test_a_table_replaces_what_stood_there(tables: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "TABLES", {"one": lambda: "| a |\n", "two": lambda: "| b |\n"})
    page = (
        "x\n<!-- generated: one -->\nold\nolder\n<!-- end -->\ny\n<!-- generated: two -->\n<!-- end"
        " -->\n"
    )
    expected = (
        "x\n<!-- generated: one -->\n| a |\n<!-- end -->\ny\n<!-- generated: two -->\n| b |\n<!--"
        " end -->\n"
    )
    assert tables.filled(page) == expected
    assert tables.filled(expected) == expected
    assert tables.filled("no table here\n") == "no table here\n"


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<!-- generated: three -->\n<!-- end -->\n", "no tables \\['three'\\]"),
        ("<!-- generated: one -->\nno end\n", "end"),
        ("<!-- generated: one -->\n<!-- generated: two -->\n<!-- end -->\n", "end"),
    ],
)
def test_a_place_without_a_table_or_without_an_end_is_an_error(
    tables: ModuleType, monkeypatch, page: str, words: str
):
    monkeypatch.setattr(tables, "TABLES", {"one": lambda: "", "two": lambda: ""})
    with pytest.raises(ValueError, match=words):
        tables.filled(page)


def test_the_numbers_of_the_architectures_are_those_of_the_papers(tables: ModuleType):
    lines = {line.split(" | ")[0].strip("| "): line for line in tables.architectures().splitlines()}
    assert "| 72 × 236 × 236 | 32 × 52 × 52 |" in lines["AnisotropicUNet"]
    assert "| 19,073,730 |" in lines["ModelsGenesisUNet"]  # 65 more than published for one class
    assert len(lines) == 2 + len(tables.EXAMPLES)


def test_the_table_of_datasets_has_a_row_for_each(tables: ModuleType):
    rows = tables.datasets().splitlines()
    assert len(rows) == len(ENTRIES) + 2
    assert {row.count(" | ") for row in rows} == {5}
    assert all(f"| `{key}` |" in row for key, row in zip(ENTRIES, rows[2:], strict=True))
    assert not re.search(r"<[a-z]", tables.datasets())  # no page would show it


def test_a_protocol_says_how_many_iterations_it_has_in_all(tables: ModuleType):
    """Couteaux et al. 2021: 900 epochs of 150 steps; Hänsch et al. 2022: 80,000 iterations."""
    sections = tables.protocols().split("### ")
    lengths = {
        section.split("\n")[0]: line.removeprefix("- length: ")
        for section in sections
        for line in section.splitlines()
        if line.startswith("- length: ")
    }
    assert lengths["couteaux2021"] == "135,000 iterations (900 epochs of 150)"
    assert lengths["hansch2022"] == "80,000 iterations (160 epochs of 500)"
    assert lengths["yang2017"] == (
        "nnUNetTrainerDI2IN 50,000 iterations (200 epochs of 250); nnUNetTrainerDI2INAN 75,000"
        " iterations (300 epochs of 250)"
    )


def test_what_nnunet_adds_under_every_protocol_is_what_it_does():
    """The numbers in that section of docs/protocols.md, from nnU-Net and from the recipe."""
    from nnunetv2.configuration import ANISO_THRESHOLD
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )

    from nnunet_liver_ext.trainers.recipe import Recipe

    page = (Path(__file__).parents[1] / "docs" / "protocols.md").read_text()
    section = page.split("## What nnU-Net adds under every protocol")[1].split("\n## ")[0]
    recipe = Recipe(strategy="one_view")
    assert f"clipped to a norm of {recipe.gradient_clip:g}" in section
    assert f"followed by {recipe.num_val_iterations_per_epoch} validation batches" in section
    assert f"(a factor above {ANISO_THRESHOLD})" in section
    _, images, _, labels = ExperimentPlanner.determine_resampling(None)
    assert (images["order"], labels["order"]) == (3, 1)  # "by cubic splines", "linearly"
    assert images["order_z"] == labels["order_z"] == 0  # "by the nearest one"
