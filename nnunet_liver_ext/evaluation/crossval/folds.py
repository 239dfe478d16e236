"""What a cross-validation left in a model's folder, checked against the splits.

nnU-Net lets the model of each fold predict the cases that it was not trained on
(fold_N/validation). In a repeated cross-validation fold r·F + f is fold f of repetition r, and
every case is predicted once in each repetition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_liver_ext.environment import nnunet_folder
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.json_files import read_json

CHOSEN_BY_TRAINING = "checkpoint_was_chosen_on_these_cases"
"""An entry of validation/summary.json, as training writes it."""
SPLITS = "splits_final.json"


@dataclass(frozen=True)
class Repetition:
    """One cross-validation: every case is predicted once, by a model that has not seen it."""

    number: int
    folds: Mapping[int, tuple[str, ...]]
    """Cases of each fold's validation set."""
    predictions: Mapping[str, Path]
    """Label map of each case."""
    chosen_on_these_cases: bool
    """A fold was predicted with its best checkpoint, which was chosen on the very cases that it
    predicts: optimistic."""


@dataclass(frozen=True)
class CrossValidation:
    """The complete repetitions of one model."""

    folder: Path
    dataset: str
    """Name, such as Dataset501_Liver."""
    dataset_json: Path
    repetitions: tuple[Repetition, ...]
    total: int
    """Number of repetitions in the splits."""
    left_out: tuple[int, ...]
    """Repetitions of which no fold was trained."""


def find_crossval(folder: Path) -> CrossValidation:
    """The validation predictions of a model's folds.

    Args:
        folder: of a model, such as
            nnUNet_results/Dataset501_Liver/nnUNetTrainerSingleInput__nnUNetPlans__3d_fullres.

    Raises:
        InputError: it is no model folder, there are no splits, a fold's predictions are missing or
            are not of its cases, or the folds of the splits overlap without being a repeated
            cross-validation.
    """
    folder = Path(folder).resolve()
    dataset, dataset_json = folder.parent.name, folder / "dataset.json"
    if (
        folder.name.count("__") != 2
        or not dataset.startswith("Dataset")
        or not dataset_json.is_file()
    ):
        raise InputError(
            f"{folder}: is no folder of a trained model; give one such as"
            " nnUNet_results/Dataset501_Liver/nnUNetTrainerSingleInput__nnUNetPlans__3d_fullres."
        )
    ending = read_json(dataset_json).get("file_ending", ".nii.gz")
    path = splits_file(dataset)
    splits = read_splits(path)
    trained = {number: _predictions(folder, number, ending) for number in range(len(splits))}
    _check_folds(folder, splits, trained, path)
    groups = repetitions_of(splits, path)
    used = {
        number: group
        for number, group in enumerate(groups)
        if len(groups) == 1 or any(trained[fold] for fold in group)
    }
    if missing := [
        fold
        for group in (used or dict(enumerate(groups))).values()
        for fold in group
        if not trained[fold]
    ]:
        raise InputError(_folds_missing(folder, dataset, missing))
    repetitions = [
        Repetition(
            number,
            {fold: tuple(splits[fold]["val"]) for fold in group},
            {case: file for fold in group for case, file in trained[fold].items()},
            True in [_chosen(folder, dataset, fold) for fold in group],
        )
        for number, group in used.items()
    ]
    left_out = tuple(number for number in range(len(groups)) if number not in used)
    return CrossValidation(folder, dataset, dataset_json, tuple(repetitions), len(groups), left_out)


def splits_file(dataset: str) -> Path:
    """The splits that nnUNetv2_train uses; InputError if there are none."""
    path = nnunet_folder("preprocessed") / dataset / SPLITS
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; it says which fold predicts which case (nnunet_liver plan"
            " writes it)."
        )
    return path


def read_splits(path: Path) -> list[dict[str, list[str]]]:
    """nnU-Net's splits_final.json; InputError if it holds something else."""
    splits = read_json(path)
    if not (
        isinstance(splits, list)
        and splits
        and all(isinstance(fold, dict) and "val" in fold for fold in splits)
    ):
        raise InputError(f"{path}: is no splits_final.json of nnU-Net, a list of train and val.")
    return splits


def repetitions_of(splits: Sequence[Mapping[str, Sequence[str]]], path: Path) -> list[list[int]]:
    """Numbers of the folds of each repetition; a new one begins where a case comes once more.

    Raises:
        InputError: the validation sets overlap, but do not cover the same cases again and again.
    """
    groups: list[list[int]] = []
    covered: list[set[str]] = []
    for number, fold in enumerate(splits):
        cases = set(fold["val"])
        if not groups or cases & covered[-1]:
            groups.append([])
            covered.append(set())
        groups[-1].append(number)
        covered[-1] |= cases
    if any(cases != covered[0] for cases in covered):
        twice = sorted(covered[0] & set().union(*covered[1:]))
        raise InputError(
            f"{path}: the validation sets of the folds overlap (case"
            f" {twice[0] if twice else min(covered[0])}), but are no repeated cross-validation, in"
            " which every case comes once in each repetition; such folds cannot be pooled."
        )
    return groups


def train_command(folder: Path, dataset: str, fold: int) -> str:
    """The nnUNetv2_train that gives a fold its predictions, or finishes what is there."""
    trainer, plans, configuration = folder.name.split("__")
    fold_folder = folder / f"fold_{fold}"
    how = (
        ["--val"]
        if (fold_folder / "checkpoint_final.pth").exists()
        else ["--c"]
        if any(fold_folder.glob("checkpoint_*.pth"))
        else []
    )
    plans_option = [] if plans == "nnUNetPlans" else ["-p", plans]
    return " ".join(
        ["nnUNetv2_train", dataset, configuration, str(fold), "-tr", trainer, *plans_option, *how]
    )


def _predictions(folder: Path, fold: int, ending: str) -> dict[str, Path]:
    files = sorted((folder / f"fold_{fold}" / "validation").glob(f"[!.]*{ending}"))
    return {file.name[: -len(ending)]: file for file in files}


def _check_folds(
    folder: Path,
    splits: Sequence[Mapping[str, Sequence[str]]],
    trained: Mapping[int, Mapping[str, Path]],
    path: Path,
) -> None:
    """InputError if what is predicted is not what the splits say."""
    for number, predicted in trained.items():
        expected = set(splits[number]["val"])
        validation = folder / f"fold_{number}" / "validation"
        if foreign := sorted(set(predicted) - expected):
            elsewhere = [
                str(other) for other, fold in enumerate(splits) if foreign[0] in fold["val"]
            ]
            where = f"in fold {' and '.join(elsewhere)}" if elsewhere else "in no fold"
            raise InputError(
                f"{validation}: holds {foreign[0]}, which is {where} in {path}; the splits are not"
                " those of the training, put those back or train again."
            )
        if predicted and (absent := sorted(expected - set(predicted))):
            command = train_command(folder, folder.parent.name, number)
            raise InputError(
                f"{validation}: has no prediction of {', '.join(absent)}; finish it: {command}"
            )
    beyond = [
        path.name
        for path in folder.glob("fold_*/validation")
        if _number(path.parent) >= len(splits)
    ]
    if beyond:
        raise InputError(
            f"{folder}: has more folds than the {len(splits)} in {path}; the splits are not its"
            " own."
        )


def _number(fold: Path) -> int:
    name = fold.name.removeprefix("fold_")
    return int(name) if name.isdecimal() else -1


def _folds_missing(folder: Path, dataset: str, missing: Sequence[int]) -> str:
    commands = "\n".join(f"  {train_command(folder, dataset, fold)}" for fold in missing)
    which = f"fold {missing[0]}" if len(missing) == 1 else f"folds {', '.join(map(str, missing))}"
    return f"{folder}: {which} of the cross-validation has not predicted its cases; run\n{commands}"


def _chosen(folder: Path, dataset: str, fold: int) -> bool:
    path = folder / f"fold_{fold}" / "validation" / "summary.json"
    if not path.is_file():
        raise InputError(
            f"{path}: is missing, so the validation has not ended:"
            f" {train_command(folder, dataset, fold)}"
        )
    return bool(read_json(path).get(CHOSEN_BY_TRAINING, False))
