"""All public datasets that can be converted, by the name of their command.

A new dataset is one module here with a constant `PublicDataset`, and one line in `ENTRIES`. A
dataset outside the package is registered with `register_dataset`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
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
"""Module and constant of each dataset of the package, sorted by key."""


class DatasetCatalogue(Mapping[str, PublicDataset]):
    """Datasets by key; the module of a dataset is imported when the dataset is asked for."""

    def __init__(self, places: Mapping[str, tuple[str, str]]) -> None:
        """`places`: dotted name of the module, and name of the constant in it, by key."""
        self.places = dict(places)

    def __getitem__(self, key: str) -> PublicDataset:
        module, constant = self.places[key]
        return getattr(import_module(module), constant)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


DATASETS = DatasetCatalogue(
    {key: (f"{__name__}.{module}", constant) for key, (module, constant) in ENTRIES.items()}
)


def register_dataset(key: str, module: str, constant: str = "DATASET") -> None:
    """Adds a dataset from outside the package: a command of `convert`, in its list and its help.

    Args:
        key: name of the command, that of the `PublicDataset`.
        module: dotted name of a module that can be imported.
        constant: name of the `PublicDataset` in it.

    Raises:
        ValueError: another dataset has the key.
    """
    if DATASETS.places.setdefault(key, (module, constant)) != (module, constant):
        raise ValueError(f"there is a dataset {key!r} already, in {DATASETS.places[key][0]}.")


def read_content(key: str) -> str:
    """`DATASETS[key].content`, read from the source: to import it takes too long for a list."""
    module, constant = DATASETS.places[key]
    spec = find_spec(module)
    source = "" if spec is None or spec.origin is None else Path(spec.origin).read_text("utf-8")
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            words = {word.arg: word.value for word in statement.value.keywords}
            if names == [constant] and isinstance(text := words.get("content"), ast.Constant):
                return str(text.value)
    return DATASETS[key].content
