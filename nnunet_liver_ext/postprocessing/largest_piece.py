"""Keeping only the largest piece of a class, where a cross-validation has shown that it helps.

A rule is for one class of one image, unlike those of nnU-Net, which would be for pair codes. A
piece is a set of voxels that share faces, edges or corners (26-connected); what is removed becomes
background. `postprocessing.search` finds the rules.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_liver_ext import __version__
from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.space.components import largest_component

FILE_NAME = "postprocessing_pairs.json"
FORMAT = 1
NOTE = "dice_after is optimistic: the rules were chosen on these cases."


@dataclass(frozen=True)
class Rule:
    """Whether only the largest piece of a class is kept in one image of a pair, and why."""

    modality: str
    class_name: str
    label: int
    """Of the class in this image's mask."""
    keep_largest: bool
    dice_before: float | None
    """Mean over the cases of the cross-validation that count; None if there is none."""
    dice_after: float | None
    """The same if only the largest piece is kept."""
    cases: int
    """How many count: by default those whose reference has the class."""
    patients_better: int
    """Patients whose mean Dice rises."""
    patients_worse: int

    @property
    def name(self) -> str:
        """Such as "T1 liver"."""
        return f"{self.modality} {self.class_name}"

    def to_json(self) -> dict[str, Any]:
        content = asdict(self)
        return {("class" if key == "class_name" else key): value for key, value in content.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Rule:
        return cls(
            **{("class_name" if key == "class" else key): value for key, value in content.items()}
        )


@dataclass(frozen=True)
class Rules:
    """The rules of one model, those that were tried and not kept too."""

    rules: tuple[Rule, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    """What they were found on: model, dataset, repetitions, whether the checkpoint was chosen on
    these cases."""

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(rule.modality for rule in self.rules))

    def kept(self, modality: str) -> tuple[int, ...]:
        """Labels of which only the largest piece is kept in this image."""
        return tuple(
            rule.label for rule in self.rules if rule.keep_largest and rule.modality == modality
        )

    def names(self) -> list[str]:
        """Of the classes to which a rule is applied, such as "T1 liver"."""
        return [rule.name for rule in self.rules if rule.keep_largest]

    def check(self, class_names: Iterable[str], where: Path) -> None:
        """InputError if these are not the rules of masks with such classes (background first)."""
        labels = {name: label for label, name in enumerate(class_names)}
        for rule in self.rules:
            if labels.get(rule.class_name) != rule.label:
                raise InputError(
                    f"{where}: is for the class {rule.class_name} with label {rule.label}, but"
                    f" there are {', '.join(f'{name} {label}' for name, label in labels.items())};"
                    " find the rules of this model."
                )

    def save(self, path: Path) -> None:
        """Writes the rules beside `path` and renames them."""
        content = {
            "format": FORMAT,
            "nnunet_liver_ext": __version__,
            "what": (
                "keep_largest: of this class only the largest 26-connected piece is kept in this"
                " image's mask"
            ),
            "note": NOTE,
            "found_on": dict(self.source),
            "rules": [rule.to_json() for rule in self.rules],
        }
        with atomic_write(path) as unfinished:
            unfinished.write_text(
                json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )

    @classmethod
    def of_model(cls, folder: Path, class_names: Iterable[str]) -> Rules:
        """The rules in a model's folder, none if there is no such file.

        Raises:
            InputError: as `load` and `check`.
        """
        path = folder / FILE_NAME
        rules = cls.load(path) if path.is_file() else cls()
        rules.check(class_names, path)
        return rules

    @classmethod
    def load(cls, path: Path) -> Rules:
        """Reads what `save` wrote.

        Raises:
            InputError: there is no such file, it is damaged, or a later version wrote it.
        """
        content = read_json(
            path,
            missing=f"{path}: no such file; find the rules with nnunet_liver postprocess find.",
            remedy="find the rules again",
        )
        try:
            if content["format"] > FORMAT:
                raise InputError(
                    f"{path}: was written by a later version; install that version or a later one."
                )
            return cls(
                tuple(Rule.from_json(rule) for rule in content["rules"]), content["found_on"]
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: is damaged ({type(error).__name__}: {error}); find the rules again."
            ) from None


NO_RULES = Rules()


def keep_largest(labels: np.ndarray, kept: Iterable[int]) -> np.ndarray:
    """A copy of a label map (z, y, x) in which all but the largest piece of these labels is 0."""
    result = labels.copy()
    for label in kept:
        mask = labels == label
        result[mask & ~largest_component(mask)] = 0
    return result
