"""All public datasets that can be converted, by the name of their command.

A new dataset is one module here with a constant `PublicDataset`, and one line in `ENTRIES`. A
module is imported when its entry is asked for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

from nnunet_liver_ext.dataset_conversion.public_dataset import PublicDataset

ENTRIES: Mapping[str, tuple[str, str]] = {
    "amos": ("amos", "DATASET"),
    "atlas": ("atlas", "DATASET"),
    "btcv": ("btcv", "DATASET"),
    "chaos-ct": ("chaos_ct", "DATASET"),
    "chaos-mr": ("chaos_mr", "DATASET"),
    "cirrmri600": ("cirrmri600", "DATASET"),
    "dixon": ("dixon", "DATASET"),
    "duke": ("duke", "DATASET"),
    "ircadb": ("ircadb", "DATASET"),
    "lits": ("lits", "DATASET"),
    "liverhccseg": ("liverhccseg", "DATASET"),
    "msd-liver": ("lits", "MSD_LIVER"),
    "slices2d": ("slices2d", "DATASET"),
    "sliver07": ("sliver07", "DATASET"),
    "totalsegmentator-mri": ("totalsegmentator_mri", "DATASET"),
}
"""Module and constant of each dataset, sorted by key."""


class _Catalogue(Mapping[str, PublicDataset]):
    """The entries, imported one by one when they are asked for."""

    def __getitem__(self, key: str) -> PublicDataset:
        module, constant = ENTRIES[key]
        return getattr(import_module(f"{__name__}.{module}"), constant)

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)


DATASETS: Mapping[str, PublicDataset] = _Catalogue()


def read_content(key: str) -> str:
    """`DATASETS[key].content` without importing its module, which takes longer than a list of
    commands may."""
    module, constant = ENTRIES[key]
    source = ast.parse((Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8"))
    for statement in source.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            words = {word.arg: word.value for word in statement.value.keywords}
            if names == [constant] and isinstance(text := words.get("content"), ast.Constant):
                return str(text.value)
    return DATASETS[key].content
