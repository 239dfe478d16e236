"""Applies `border_lesions` to a folder of predicted label maps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.console import progress_bar
from nnunet_liver_ext.dataset_json.organ_mask import OrganMask
from nnunet_liver_ext.errors import CaseFailure, InputError, SomeCasesFailed
from nnunet_liver_ext.evaluation.files.described_labels import Classes, describe_labels
from nnunet_liver_ext.folder_lock import locks_folder
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.postprocessing.border_lesions import (
    PAPER,
    Kernels,
    describe,
    postprocess_label_map,
)
from nnunet_liver_ext.space.images import Grid, array, image_like, read_mask, stem, write_image
from nnunet_liver_ext.studies.file_names import ListedFolder

KERNELS_KEY = "lesion_kernels"
"""Of prediction.json: the kernels of each case."""
ORGAN_NAMES = ("liver",)
"""Classes of a dataset.json that are no lesions."""
FAILURES = (InputError, OSError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class LiverMasks:
    """Where the liver of a case is: a folder of masks, or values of the predictions themselves."""

    folder: ListedFolder | None = None
    """Masks by case name; every value but 0 is liver. imagesTr or imagesTs of a dataset with a
    liver mask will do."""
    values: tuple[int, ...] = ()
    """Of the liver with its lesions in the predicted label maps."""
    channel: int | None = None
    """Of the liver mask in such an images folder."""

    def of(self, case: str, labels: np.ndarray, grid: Grid) -> np.ndarray:
        """The liver of a case, bool, (z, y, x).

        Raises:
            InputError: there is no mask, it cannot be read, or it is on another grid.
        """
        if self.folder is None:
            return np.isin(labels, self.values)
        file = self._file(self.folder, case)
        image = read_mask(file)
        if not Grid.from_image(image).matches(grid):
            raise InputError(
                f"{file}: is on another grid ({Grid.from_image(image)}) than the prediction"
                f" ({grid})."
            )
        return array(image) != 0

    def _file(self, folder: ListedFolder, case: str) -> Path:
        names = [case, f"{case}_{self.channel:04d}"] if self.channel is not None else [case]
        masks = [file.path for file in folder.files if file.name in names]
        if len(masks) != 1:
            what = "has several liver masks" if masks else "has no liver mask"
            raise InputError(
                f"{folder.path}: {what} of {case}"
                f" ({' or '.join(f'{name}.nii.gz' for name in names)})."
            )
        return masks[0]


@locks_folder("out")
def postprocess_folder(
    predictions: Path,
    out: Path,
    liver: Path | tuple[int, ...],
    *,
    classes: Classes | None = None,
    kernels: Kernels = PAPER,
    overwrite: bool = False,
) -> int:
    """Writes the label maps of a folder again without what is thin at the liver's border.

    Label maps that `out` has already are left alone unless `overwrite`, so an interrupted run
    continues.

    Args:
        predictions: folder of label maps, NAME.nii.gz.
        out: folder for the same file names; gets dataset.json, and prediction.json that says what
            was done, and with which kernels in each case.
        liver: folder of liver masks, or the liver's values in the predictions, lesions included.
        classes: lesions by name; by default all classes of the predictions' dataset.json but the
            liver.
        kernels: sides of the squares for voxels of 1 mm; other masks get about the same in mm.
        overwrite: write again what is there.

    Returns:
        How many label maps were changed.

    Raises:
        InputError: `out` is `predictions` or holds label maps of other options, there is nothing to
            do, or nothing says what a lesion is.
        SomeCasesFailed: at the end, listing the cases that could not be done; all others are
            written.
    """
    files = _files(predictions, out)
    classes = classes or _lesion_classes(predictions)
    masks = _liver_masks(predictions, liver)
    becomes = _liver_label(masks.values, classes)
    how = describe(classes, "masks" if masks.folder else "+".join(map(str, masks.values)), kernels)
    _describe_results(predictions, files, out, how, overwrite=overwrite)
    todo = [file for file in files if overwrite or not (out / file.name).exists()]
    changed, failures = 0, []
    with progress_bar() as bar:
        task = bar.add_task("postprocessing", total=len(files), completed=len(files) - len(todo))
        for file in todo:
            try:
                changed += _postprocess(file, out, masks, classes, kernels, becomes)
            except FAILURES as error:
                failures.append(CaseFailure(stem(file), str(error) or type(error).__name__))
            bar.advance(task)
    if failures:
        raise SomeCasesFailed(failures, len(files))
    return changed


def _postprocess(
    file: Path, out: Path, masks: LiverMasks, classes: Classes, kernels: Kernels, becomes: int
) -> bool:
    image = read_mask(file)
    before, grid = array(image), Grid.from_image(image)
    liver = masks.of(stem(file), before, grid)
    in_voxels = kernels.at(grid.spacing_mm[1:])
    after = postprocess_label_map(
        before, liver, list(classes.values()), kernels=in_voxels, becomes=becomes
    )
    record_kernels(out, stem(file), in_voxels, grid.spacing_mm[1:])
    write_image(image_like(after, grid), out / file.name)
    return not np.array_equal(before, after)


def record_kernels(out: Path, case: str, kernels: Kernels, spacing_mm: Sequence[float]) -> None:
    """Adds to prediction.json of a folder how wide a case's kernels were, in voxels and in mm.

    Args:
        out: the folder.
        case: the name of its label map.
        kernels: in voxels of the label map.
        spacing_mm: of its slices' two axes.
    """
    path = out / "prediction.json"
    content = _read_json(path)
    of_cases = content.get(KERNELS_KEY, {}) | {case: kernels.describe(spacing_mm)}
    with atomic_write(path) as unfinished:
        unfinished.write_text(
            json.dumps(content | {KERNELS_KEY: of_cases}, indent=2), encoding="utf-8"
        )


def _files(predictions: Path, out: Path) -> list[Path]:
    if not predictions.is_dir():
        raise InputError(f"{predictions}: no such folder of predictions.")
    if out.resolve() == predictions.resolve():
        raise InputError(f"{out}: is the folder of the predictions itself; choose another one.")
    files = [file.path for file in ListedFolder(predictions).files]
    if not files:
        raise InputError(f"{predictions}: holds no label maps.")
    if describe_labels(predictions).pair is not None:
        raise InputError(
            f"{predictions}: holds joint label maps of pairs; split them first (nnunet_liver"
            " predict --split)."
        )
    return files


def _lesion_classes(predictions: Path) -> Classes:
    described = describe_labels(predictions).classes or {}
    classes = {
        name: labels for name, labels in described.items() if name.lower() not in ORGAN_NAMES
    }
    if not classes:
        raise InputError(
            f"{predictions}: no dataset.json says what a lesion is; say it with --label tumour=1."
        )
    return classes


def _liver_masks(predictions: Path, liver: Path | tuple[int, ...]) -> LiverMasks:
    if isinstance(liver, tuple):
        return LiverMasks(values=liver)
    if not liver.is_dir():
        raise InputError(
            f"{liver}: no such folder of liver masks; give a folder, or the liver's values such as"
            " 1+2."
        )
    described = OrganMask.from_dataset_json(_read_json(predictions / "dataset.json"))
    return LiverMasks(folder=ListedFolder(liver), channel=described.channel if described else None)


def _liver_label(values: tuple[int, ...], classes: Classes) -> int:
    """What is liver and no lesion in the predictions, 0 if no label or more than one says that.

    Raises:
        InputError: the values are of the liver without its lesions, or of lesions alone.
    """
    lesions = {label for labels in classes.values() for label in labels}
    organ_alone = set(values) - lesions
    if values and (not organ_alone or not lesions <= set(values) or 0 in values):
        names = ", ".join(
            f"{name}={'+'.join(map(str, labels))}" for name, labels in classes.items()
        )
        raise InputError(
            f"--liver {'+'.join(map(str, values))}: must be the values of the liver with its"
            f" lesions ({names}), such as 1+2."
        )
    return organ_alone.pop() if len(organ_alone) == 1 else 0


def _read_json(path: Path) -> dict[str, Any]:
    """What is in the file, nothing if there is none."""
    content = read_json(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def _describe_results(
    predictions: Path, files: list[Path], out: Path, how: dict[str, Any], *, overwrite: bool
) -> None:
    """dataset.json as it is, prediction.json with what was done.

    Raises:
        InputError: `out` holds results of other options, and `overwrite` is False.
    """
    content = {**_read_json(predictions / "prediction.json"), "lesion_postprocessing": how}
    content.pop(KERNELS_KEY, None)
    target = out / "prediction.json"
    there = any((out / file.name).exists() for file in files)
    before = _read_json(target)
    kernels = before.pop(KERNELS_KEY, {})
    if there and not overwrite and before != content:
        raise InputError(
            f"{out}: holds label maps of other predictions or with other options; choose another"
            " folder, or replace them with --overwrite."
        )
    with atomic_write(target) as unfinished:
        unfinished.write_text(
            json.dumps(content | {KERNELS_KEY: kernels}, indent=2), encoding="utf-8"
        )
    if (predictions / "dataset.json").is_file():
        with atomic_write(out / "dataset.json") as unfinished:
            shutil.copyfile(predictions / "dataset.json", unfinished)
