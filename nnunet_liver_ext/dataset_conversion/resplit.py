"""Other splits of a dataset that is there: folds, a test set, a fixed validation set, subsets.

All of them are by patient. The patients are those of pairs.json; of a dataset that nnunet_liver did
not convert, those of a CSV.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.csv_files import read_csv
from nnunet_liver_ext.dataset_conversion.splits import Splits, choose_hold_out, make_splits
from nnunet_liver_ext.dataset_json.manifest import MANIFEST_FILE, Manifest
from nnunet_liver_ext.environment import dataset_folder, nnunet_folder
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.folder_lock import locked_folder
from nnunet_liver_ext.json_files import read_json

FILE_NAME = "splits_final.json"
PREVIOUS = "splits_final.previous.json"
"""What splits that are replaced are kept as, beside the new ones."""


@dataclass(frozen=True)
class SplitRequest:
    """Which splits are wanted; see `split_by_patient`."""

    folds: int = 5
    repeats: int = 1
    seed: int = 0
    hold_out: Sequence[str] | int | float = 0
    """Patients in no fold: names, a number, or a share below 1."""
    validation: Sequence[str] = ()
    """Patients of the one validation set, instead of folds."""
    train_cases: int | None = None
    """At most so many training cases in each fold."""

    @property
    def is_plain(self) -> bool:
        """A cross-validation of all cases, as conversion makes it and `--add` extends it."""
        return not self.hold_out and not self.validation and self.train_cases is None


@dataclass(frozen=True)
class WrittenSplits:
    """What has been written, and where."""

    splits: Splits
    held_out: list[str]
    """Patients in no fold."""
    files: list[Path]


def split_by_patient(groups: Mapping[str, str], request: SplitRequest) -> tuple[Splits, list[str]]:
    """Splits with all cases of a patient on one side, and the patients that are held out.

    Training subsets are nested: with one seed, the patients of a smaller one are in every larger
    one.

    Args:
        groups: patient of each case.
        request: what is wanted.

    Raises:
        InputError: names of no patients, a patient that is asked for twice, nobody left to train
            on, or more training cases than there are.
    """
    _check_patients("--validation", request.validation, groups)
    held_out = choose_hold_out(
        sorted(set(groups.values()) - set(request.validation)), request.hold_out, seed=request.seed
    )
    left = {case: patient for case, patient in groups.items() if patient not in held_out}
    if request.validation:
        chosen = set(request.validation)
        splits: Splits = [
            {
                "train": sorted(case for case in left if left[case] not in chosen),
                "val": sorted(case for case in left if left[case] in chosen),
            }
        ]
        if not splits[0]["train"]:
            raise InputError("--validation: all patients validate, none is left to train on.")
    else:
        splits = make_splits(left, folds=request.folds, repeats=request.repeats, seed=request.seed)
    if request.train_cases is not None:
        order = (
            np.random.default_rng(request.seed).permutation(sorted(set(groups.values()))).tolist()
        )
        splits = [
            {**fold, "train": _first_cases(fold["train"], groups, order, request.train_cases)}
            for fold in splits
        ]
    return splits, sorted(held_out)


def resplit_dataset(
    dataset: int | str,
    request: SplitRequest,
    *,
    patients: Path | None = None,
    overwrite: bool = False,
) -> WrittenSplits:
    """Writes splits_final.json of a raw dataset, and of its preprocessed one where there is one.

    Args:
        dataset: number or name.
        request: what is wanted; patients by their pseudonym or their own name.
        patients: CSV with the columns case and patient, for a dataset without pairs.json.
        overwrite: replace other splits; they are kept as splits_final.previous.json.

    Raises:
        InputError: no such dataset, another process writes into it, patients are not known, other
            splits are there, or as `split_by_patient`.
    """
    raw = dataset_folder(dataset, "raw")
    with locked_folder(raw):
        return _resplit(raw, request, patients, overwrite)


def _resplit(
    raw: Path, request: SplitRequest, patients: Path | None, overwrite: bool
) -> WrittenSplits:
    manifest = Manifest.load(raw) if (raw / MANIFEST_FILE).is_file() else None
    if manifest is not None and patients is not None:
        raise InputError(f"{raw}: its {MANIFEST_FILE} knows the patients; leave out --patients.")
    groups = _read_groups(raw, patients) if manifest is None else manifest.training_groups()
    if not groups:
        raise InputError(f"{raw}: has no training cases to split.")
    splits, held_out = split_by_patient(groups, _with_pseudonyms(request, manifest))
    files = [folder / FILE_NAME for folder in _folders_with_splits(raw)]
    changed = [file for file in files if not file.exists() or read_json(file) != splits]
    there = [file for file in changed if file.exists()]
    if there and not overwrite:
        raise InputError(f"{there[0]}: holds other splits; --overwrite replaces them.")
    for file in changed:
        if file.exists():
            with atomic_write(file.with_name(PREVIOUS)) as unfinished:
                unfinished.write_bytes(file.read_bytes())
        with atomic_write(file) as unfinished:
            unfinished.write_text(json.dumps(splits, indent=2))
    if manifest is not None:
        _note(manifest, request, raw)
    return WrittenSplits(splits, held_out, files)


def _note(manifest: Manifest, request: SplitRequest, raw: Path) -> None:
    """Conversion extends splits that are like its own, and leaves all others alone."""
    manifest.splitting.pop("own", None)
    if request.is_plain:
        plain = {"folds": request.folds, "repeats": request.repeats, "seed": request.seed}
        manifest.splitting |= plain
    else:
        manifest.splitting["own"] = asdict(request)
    manifest.save(raw)


def _with_pseudonyms(request: SplitRequest, manifest: Manifest | None) -> SplitRequest:
    """The request with the pseudonym of each patient that is given by the own name."""
    if manifest is None:
        return request
    groups = {case.patient: case.group for case in manifest.cases.values()}

    def rename(names: Iterable[str]) -> list[str]:
        known = set(groups.values())
        return [name if name in known else groups.get(name, name) for name in names]

    hold_out = request.hold_out
    return SplitRequest(
        request.folds,
        request.repeats,
        request.seed,
        hold_out if isinstance(hold_out, (int, float)) else rename(hold_out),
        rename(request.validation),
        request.train_cases,
    )


def _folders_with_splits(raw: Path) -> list[Path]:
    """The raw dataset, and the preprocessed one, whose splits nnU-Net trains with."""
    try:
        preprocessed = nnunet_folder("preprocessed") / raw.name
    except InputError:  # nnUNet_preprocessed is not set
        return [raw]
    return [raw, preprocessed] if preprocessed.is_dir() else [raw]


def _read_groups(raw: Path, patients: Path | None) -> dict[str, str]:
    ending = read_json(raw / "dataset.json").get("file_ending", ".nii.gz")
    files = (raw / "labelsTr").glob(f"*{ending}") if (raw / "labelsTr").is_dir() else ()
    cases = sorted(file.name.removesuffix(ending) for file in files if file.name[0] != ".")
    if patients is None:
        raise InputError(
            f"{raw}: has no {MANIFEST_FILE}, so whose cases these are is unknown; say it with"
            " --patients CSV (columns case and patient)."
        )
    table = read_csv(patients)
    missing = [name for name in ("case", "patient") if name not in table.columns]
    if missing:
        raise InputError(f"{patients}: has no column {missing[0]}.")
    case, patient = table.columns.index("case"), table.columns.index("patient")
    of_case = {cells[case]: cells[patient] for cells in table.rows.values()}
    unknown = [name for name in cases if not of_case.get(name)]
    if unknown:
        raise InputError(
            f"{patients}: does not say whose case {unknown[0]} is ({len(unknown)} such cases)."
        )
    return {name: of_case[name] for name in cases}


def _check_patients(option: str, names: Sequence[str], groups: Mapping[str, str]) -> None:
    unknown = sorted(set(names) - set(groups.values()))
    if unknown:
        raise InputError(
            f"{option}: {', '.join(unknown)} are no patients of this dataset's training cases."
        )


def _first_cases(
    cases: Sequence[str], groups: Mapping[str, str], order: Sequence[str], wanted: int
) -> list[str]:
    """The cases of the first patients in an order, as many patients as `wanted` cases allow."""
    if not 1 <= wanted <= len(cases):
        raise InputError(
            f"--train-cases: a fold has {len(cases)} training cases, so {wanted} cannot be taken."
        )
    chosen: list[str] = []
    for patient in order:
        of_patient = [case for case in cases if groups[case] == patient]
        if len(chosen) + len(of_patient) > wanted:
            break
        chosen += of_patient
    if not chosen:
        raise InputError(
            f"--train-cases {wanted}: the first patient has more cases than that; all cases of a"
            " patient stay together."
        )
    return sorted(chosen)
