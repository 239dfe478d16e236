"""Folds by patient: all studies of one patient are on the same side of every split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunet_liver_ext.errors import InputError

Splits = list[dict[str, list[str]]]
"""nnU-Net's splits_final.json: [{"train": [case, ...], "val": [...]}, ...]."""


@dataclass(frozen=True)
class Splitting:
    """How patients are split; see `make_splits` and `choose_hold_out`."""

    folds: int
    repeats: int
    seed: int
    hold_out: Sequence[str] | int | float

    def to_json(self) -> dict[str, Any]:
        hold_out = (
            self.hold_out if isinstance(self.hold_out, (int, float)) else sorted(self.hold_out)
        )
        return {
            "folds": self.folds,
            "repeats": self.repeats,
            "seed": self.seed,
            "hold_out": hold_out,
        }


def make_splits(
    groups: Mapping[str, str], *, folds: int = 5, repeats: int = 1, seed: int = 0
) -> Splits:
    """Cross-validation by patient, `repeats` times with other foldings.

    Fold r·folds + f is fold f of repetition r.

    Args:
        groups: patient of each case.
        folds: number of folds; every patient is in the validation set of exactly one fold of each
            repetition.
        repeats: number of repetitions.
        seed: of the first repetition; the following ones count up.

    Raises:
        InputError: fewer patients than folds, or fewer than two folds.
    """
    cases = sorted(groups)
    patients = [groups[case] for case in cases]
    check_folds(len(set(patients)), folds)
    if repeats < 1:
        raise InputError(f"a cross-validation is made at least once, found {repeats} repeats.")
    from sklearn.model_selection import GroupKFold

    splits: Splits = []
    for repeat in range(repeats):
        # numbered at random, so that patients of equally many cases fall into other folds with each
        # seed
        order = np.random.default_rng(seed + repeat).permutation(sorted(set(patients))).tolist()
        numbers = [order.index(patient) for patient in patients]
        for training, validation in GroupKFold(folds).split(cases, groups=numbers):
            splits.append(
                {"train": [cases[i] for i in training], "val": [cases[i] for i in validation]}
            )
    return splits


def update_splits(splits: Splits | None, groups: Mapping[str, str], splitting: Splitting) -> Splits:
    """New splits, or `splits` extended if there are any of the same number."""
    folds, repeats = splitting.folds, splitting.repeats
    if splits is not None and len(splits) == folds * repeats:
        return extend_splits(splits, groups, folds=folds)
    return make_splits(groups, folds=folds, repeats=repeats, seed=splitting.seed)


def check_folds(num_patients: int, folds: int) -> None:
    """InputError unless every fold can have a patient."""
    if folds < 2:
        raise InputError(f"a cross-validation needs 2 or more folds, found {folds}.")
    if num_patients < folds:
        raise InputError(
            f"{num_patients} patients cannot be split into {folds} folds: give fewer with --folds."
        )


def extend_splits(splits: Splits, groups: Mapping[str, str], *, folds: int) -> Splits:
    """The splits with cases that were added: no case that was there changes its fold.

    A new study of a known patient goes where the patient is; a new patient goes into the validation
    set that is smallest. Cases that are no longer there are left out.
    """
    extended: Splits = []
    for start in range(0, len(splits), folds):
        validation = [_keep_known(fold["val"], groups) for fold in splits[start : start + folds]]
        where = {groups[case]: index for index, fold in enumerate(validation) for case in fold}
        known = {case for fold in validation for case in fold}
        for case in sorted(set(groups) - known):
            smallest = int(np.argmin([len(fold) for fold in validation]))
            validation[where.setdefault(groups[case], smallest)].append(case)
        for fold in validation:
            extended.append({"train": sorted(set(groups) - set(fold)), "val": sorted(fold)})
    return extended


def choose_hold_out(
    patients: Sequence[str],
    hold_out: Sequence[str] | int | float,
    *,
    seed: int = 0,
    others: bool = False,
) -> set[str]:
    """Patients kept for the test set, by name, or drawn by the seed: a number or a share below 1.

    Args:
        patients: to choose from.
        hold_out: names, a whole number, or a share below 1 (at least one patient then).
        seed: of the draw.
        others: there are other patients to train on.

    Raises:
        InputError: a name that is no patient, a number that is not whole, or nobody left to train
            on.
    """
    names = sorted(set(patients))
    if isinstance(hold_out, (int, float)):
        if hold_out < 0 or (hold_out > 1 and hold_out != int(hold_out)):
            raise InputError(
                f"--hold-out is a whole number of patients or a share below 1, found {hold_out:g}."
            )
        count = max(1, round(hold_out * len(names))) if 0 < hold_out < 1 else int(hold_out)
        chosen = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
    else:
        chosen = set(hold_out)
        unknown = sorted(chosen - set(names))
        if unknown:
            raise InputError(f"--hold-out: {', '.join(unknown)} are no patients of this dataset.")
    if chosen and chosen >= set(names) and not others:
        raise InputError(
            f"--hold-out: all {len(names)} patients are held out, none is left to train on."
        )
    return chosen


def _keep_known(cases: Sequence[str], groups: Mapping[str, str]) -> list[str]:
    return [case for case in cases if case in groups]
