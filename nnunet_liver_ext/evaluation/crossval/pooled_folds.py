"""Links to the folds' predictions and references, in two folders that can be evaluated."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nnunet_liver_ext.dataset_json.manifest import MANIFEST_FILE as PAIRS
from nnunet_liver_ext.environment import nnunet_folder
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.crossval.folds import CrossValidation, Repetition
from nnunet_liver_ext.evaluation.files.described_labels import describe_labels
from nnunet_liver_ext.evaluation.files.find_label_maps import image_key, modalities_of
from nnunet_liver_ext.studies.file_names import ListedFolder, name_files

References = Path | Mapping[str, Path]


@dataclass(frozen=True)
class PooledFolders:
    """Folders that exist for the time of an evaluation."""

    predictions: Path
    references: References


@contextmanager
def pool_folds(
    crossval: CrossValidation, repetition: Repetition, references: References | None = None
) -> Iterator[PooledFolders]:
    """The predictions of all folds of a repetition and the references of the same cases.

    Args:
        crossval: of one model.
        repetition: of this cross-validation.
        references: folder of label maps CASE or CASE_T1, CASE_T2, several by rater; None takes
            those of the training.

    Raises:
        InputError: a case has no reference.
    """
    with tempfile.TemporaryDirectory(prefix="nnunet_liver_crossval_") as name:
        root = Path(name)
        for path in repetition.predictions.values():
            _link(path, root / "predictions" / path.name)
        _link(crossval.dataset_json, root / "predictions" / "dataset.json")
        source = references if references is not None else training_references(crossval.dataset)
        by_rater = source if isinstance(source, Mapping) else {"": source}
        linked = {
            rater: _link_references(path, root / f"references_{number}", crossval, repetition)
            for number, (rater, path) in enumerate(by_rater.items())
        }
        if (pairs := patients_file(crossval.dataset)) is not None:
            _link(pairs, root / PAIRS)  # where `find_label_maps` looks for patients
        yield PooledFolders(
            root / "predictions", linked if isinstance(source, Mapping) else linked[""]
        )


def training_references(dataset: str) -> Path:
    """The label maps that nnU-Net validates against, or those that were converted.

    Raises:
        InputError: there are none.
    """
    preprocessed = nnunet_folder("preprocessed") / dataset / "gt_segmentations"
    if preprocessed.is_dir():
        return preprocessed
    raw = _raw_file(dataset, "labelsTr")
    if raw is None:
        raise InputError(
            f"{preprocessed}: no such folder, and nnUNet_raw has none either; name the references"
            " with -r."
        )
    return raw


def training_images(dataset: str) -> Path | None:
    """The images that nnU-Net trained on, if they are still there."""
    return _raw_file(dataset, "imagesTr")


def patients_file(dataset: str) -> Path | None:
    """pairs.json, which says which cases are of one patient, if the dataset was converted here."""
    return _raw_file(dataset, PAIRS)


def _raw_file(dataset: str, name: str) -> Path | None:
    try:
        path = nnunet_folder("raw") / dataset / name
    except InputError:  # evaluating needs no raw data
        return None
    return path if path.exists() else None


def _link_references(
    source: Path, target: Path, crossval: CrossValidation, repetition: Repetition
) -> Path:
    if not source.is_dir():
        raise InputError(
            f"{source}: must be a folder of label maps on the converted grid, named like the cases."
        )
    modalities = modalities_of(describe_labels(crossval.dataset_json.parent).pair)
    named = name_files(ListedFolder(source).files, modalities, numbered=False)
    files = [(image_key(file).case, file.path) for file in named]
    if without := sorted(set(repetition.predictions) - {case for case, _ in files}):
        raise InputError(f"{source}: has no reference of {without[0]} ({len(without)} such cases).")
    for case, file in files:
        if case in repetition.predictions:
            _link(file, target / file.name)
    above = source.name.startswith("labels") or source.name == "gt_segmentations"
    for described in (
        source / "dataset.json",
        *([source.parent / "dataset.json"] if above else []),
    ):
        if described.is_file():
            _link(described, target / "dataset.json")
            break
    return target


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(source.resolve())
    except OSError:  # a file system, or Windows, without links
        shutil.copyfile(source, target)
