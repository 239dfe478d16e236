"""What gpu.py has found: results.json, and results.md for readers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gpu_stages.stage import OK, VERDICT, Row
from nnunet_liver_ext.atomic_write import atomic_write

FINISHED = "finished"


@dataclass
class StageResult:
    """Of one stage."""

    title: str
    state: str
    """FINISHED, or what happened."""
    seconds: float = 0.0
    machine: str = ""
    tiny: bool = False
    rows: list[Row] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether it went to its end and every verdict is OK."""
        return self.state == FINISHED and all(row.get(VERDICT, OK) == OK for row in self.rows)

    def markdown(self) -> str:
        """A section: state, machine, and the table."""
        tiny = " Tiny: to test the stage, no figures." if self.tiny else ""
        head = f"## {self.title}\n\n{self.machine}; {self.state} after {self.seconds:.0f} s.{tiny}"
        return f"{head}\n\n{_table(self.rows)}" if self.rows else f"{head}\n"


def read_results(out: Path) -> dict[str, StageResult]:
    """The stages that results.json has, by name; none without the file."""
    path = out / "results.json"
    if not path.exists():
        return {}
    return {name: StageResult(**entry) for name, entry in json.loads(path.read_text()).items()}


def write_results(results: dict[str, StageResult], out: Path) -> None:
    """Writes results.json and results.md, each completely or not at all."""
    content = json.dumps({name: asdict(result) for name, result in results.items()}, indent=2)
    page = "\n".join(["# gpu.py\n", *(result.markdown() for result in results.values())])
    for name, text in (("results.json", content + "\n"), ("results.md", page)):
        with atomic_write(out / name) as unfinished:
            unfinished.write_text(text)


def _table(rows: list[Row]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(column)) for column in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")
