"""What an import of weights did, and how to go on, for a terminal."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from nnunet_liver_ext.environment import nnunet_folder
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.weights.checkpoint_kinds import KINDS
from nnunet_liver_ext.weights.import_weights import WeightsImport
from nnunet_liver_ext.weights.matching import WeightMatch, WeightMatches

NAMED = 3
"""How many names a row gives."""


def import_table(imported: WeightsImport) -> Table:
    """A row for each thing that can become of a weight, and why."""
    record, networks = imported.record, len(imported.target.networks)
    copies = f", the same in each of its {networks} networks" if networks > 1 else ""
    shown = Table(
        title=f"{record['file']} → {record['network']}{copies}",
        caption=(
            f"{record['share']['imported']:.0%} of the {record['share']['of']} are from the file; "
            f"all else is initialised with seed {record['seed']}."
        ),
    )
    for column in ("", "Weights", "Numbers", "Which", "Why"):
        shown.add_column(column, justify="right" if column in ("Weights", "Numbers") else "left")
    for outcome, reason, matches in _group_by_reason(imported.matches):
        numbers = sum(match.numbers for match in matches)
        names = [match.name for match in matches]
        shown.add_row(
            outcome, str(len(matches)), f"{numbers:,}", Text(_first_names(names)), Text(reason)
        )
    if imported.matches.unused:
        unused = imported.matches.unused
        shown.add_row(
            "not used", str(len(unused)), "", Text(_first_names(unused)), "unknown in this network"
        )
    return shown


def _group_by_reason(matches: WeightMatches) -> Iterator[tuple[str, str, list[WeightMatch]]]:
    """(outcome, reason, weights); used first, initialised last."""
    for outcome in ("used", "inflated", "initialised"):
        reasons: dict[str, list[WeightMatch]] = {}
        for match in matches.of_network:
            if match.outcome == outcome:
                reasons.setdefault(match.reason, []).append(match)
        for reason, group in reasons.items():
            yield outcome, reason, group


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _path_to_name(path: Path) -> str:
    """Relative to nnUNet_results where it lies there: plans and checkpoints may be shared."""
    try:
        return path.relative_to(nnunet_folder("results").resolve()).as_posix()
    except (InputError, ValueError):
        return str(path)


def next_steps(imported: WeightsImport) -> list[str]:
    """The weights' licence if it restricts their use, and the command to start from them."""
    record, target = imported.record, imported.target
    licence = (
        [f"{KINDS[record['kind']].title} weights: {record['licence']}."]
        if record["licence"] is not None
        else []
    )
    setting = shlex.quote(
        f"segmentor_checkpoint={_path_to_name(imported.path.expanduser().resolve())}"
    )
    return [
        *licence,
        (
            f"Written: {imported.path}. To let {target.trainer}, or any trainer of strategy"
            f" {target.recipe.strategy}, start from it:"
        ),
        (
            f"nnunet_liver plan -d {target.dataset_name} -p {target.plans_name} --base"
            f" {target.configuration} --set {setting}"
        ),
    ]
