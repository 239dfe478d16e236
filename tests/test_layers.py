"""The layers that docs/architecture.md draws, held against the imports (docs/house.py)."""

from __future__ import annotations

import ast
from pathlib import Path

import house
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def modules() -> dict:
    return house.read_modules(ROOT)


@pytest.fixture(scope="module")
def graph(modules: dict) -> dict[str, set[str]]:
    return house.import_graph(modules)


def test_every_room_has_a_layer(graph: dict[str, set[str]]):
    placed = [room for layer in house.LAYERS for room in layer]
    assert len(placed) == len(set(placed))
    assert set(placed) == set(house.room_graph(graph))


def test_imports_run_down(graph: dict[str, set[str]]):
    assert house.imports_against_layers(graph) == []


def test_no_module_imports_itself_through_others(graph: dict[str, set[str]]):
    assert house.circles(graph) == []
    assert house.circles(house.room_graph(graph)) == []


def test_conversion_and_evaluation_need_no_trainer_and_not_each_other(graph: dict[str, set[str]]):
    for room, other in (
        ("dataset_conversion", "evaluation"),
        ("evaluation", "dataset_conversion"),
    ):
        reached = {
            house.room_of(target)
            for name in graph
            if house.room_of(name) == room
            for target in house.reachable(graph, name)
        }
        assert not reached & {other, "trainers", "planning", "inference", "weights", "benchmark"}


def test_conversion_needs_no_torch(modules: dict, graph: dict[str, set[str]]):
    heavy = [
        f"{name} -> {reached}"
        for name in graph
        if house.room_of(name) in house.WITHOUT_TORCH
        for reached in house.reachable(graph, name)
        if set(house.TORCH) & house.external_imports(modules[reached])
    ]
    assert heavy == []


MADE_UP = {
    "nnunet_liver_ext": "",
    "nnunet_liver_ext.errors": "",
    "nnunet_liver_ext.space": "",
    "nnunet_liver_ext.space.grid": "from nnunet_liver_ext import errors",
    "nnunet_liver_ext.studies": "from nnunet_liver_ext.space.grid import Grid\nimport torch.nn",
    "nnunet_liver_ext.space.images": (
        "def read():\n    import nnunet_liver_ext.studies\n"
        "if TYPE_CHECKING:\n    from nnunet_liver_ext.space import nothing, grid\n"
    ),
}


@pytest.fixture
def made_up() -> dict:
    return {
        name: house.Module(name, False, source, ast.parse(source))
        for name, source in MADE_UP.items()
    }


def test_what_counts_as_an_import(made_up: dict):
    graph = house.import_graph(made_up)
    assert graph["nnunet_liver_ext.space.grid"] == {"nnunet_liver_ext.errors"}
    assert graph["nnunet_liver_ext.studies"] == {"nnunet_liver_ext.space.grid"}
    assert graph["nnunet_liver_ext.space.images"] == {"nnunet_liver_ext.studies"}
    assert house.external_imports(made_up["nnunet_liver_ext.studies"]) == {"torch"}


def test_an_import_that_runs_up_is_seen(made_up: dict):
    graph = house.import_graph(made_up)
    assert house.imports_against_layers(graph) == [
        "nnunet_liver_ext.space.images -> nnunet_liver_ext.studies"
    ]
    assert house.circles(graph) == []
    assert house.circles(house.room_graph(graph)) == [["space", "studies"]]


def test_long_functions_and_silent_names_are_counted():
    body = "\n".join(f"    a = {n}" for n in range(40))
    source = f'def f():\n    """Says something."""\n{body}\n\ndef g():\n{body}\n    b = 1\n'
    module = house.Module("nnunet_liver_ext.f", False, source, ast.parse(source))
    f, g = module.functions
    assert (house.function_lines(f), house.function_lines(g)) == (41, 42)
    assert house.public_names_without_docstring(module) == ["nnunet_liver_ext.f.g"]
