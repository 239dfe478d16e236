"""docs/architecture.md leads to files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATHS = re.compile(r"`([\w/.]+(?:\.py|/))`")


def rows_of_the_map() -> list[tuple[str, list[str], list[str]]]:
    """What, its modules and its tests, of the table that begins the page."""
    part = PAGE[PAGE.index("## Where what is") : PAGE.index("## The rooms")]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")]
    return [
        (row[1], PATHS.findall(row[2]), PATHS.findall(row[3])) for row in rows[2:] if len(row) == 4
    ]


def test_the_map_has_the_papers():
    assert len(rows_of_the_map()) >= 20


@pytest.mark.parametrize(("what", "modules", "tests"), rows_of_the_map())
def test_the_map_leads_to_modules_and_tests(what: str, modules: list[str], tests: list[str]):
    assert modules, what
    assert tests, what
    assert [path for path in modules if not (ROOT / "nnunet_liver_ext" / path).exists()] == []
    assert [path for path in tests if not (ROOT / "tests" / path).exists()] == []


def test_every_path_on_the_page_exists():
    """A path may be told from any folder on: `report/` is below `evaluation/`."""
    places = [ROOT / "nnunet_liver_ext", ROOT / "tests", ROOT / "docs"]
    known = {
        f"/{path.relative_to(ROOT).as_posix()}{'/' if path.is_dir() else ''}"
        for place in places
        for path in (place, *place.rglob("*"))
    }
    missing = [
        path for path in PATHS.findall(PAGE) if not any(name.endswith(f"/{path}") for name in known)
    ]
    assert missing == []
