"""Which label maps a user's folder or CSV holds, by case and modality.

Three kinds are told apart: native masks (NAME_T1.nii.gz, NAME_T2.nii.gz), joint label maps of a
pair (NAME.nii.gz with a `pair` entry in dataset.json, taken apart when they are read), and plain
label maps (NAME.nii.gz, modality "image"). Masks of studies, from a CSV or a folder with images and
masks, are native masks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnunet_liver_ext.dataset_json.incomplete import IncompleteCases
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.files.described_labels import Classes, describe_labels
from nnunet_liver_ext.pairing import PairLabels, decode_pair
from nnunet_liver_ext.space.images import Grid, array, read_mask
from nnunet_liver_ext.studies.listed_files import (
    ListedFile,
    ListedFolder,
    StudyTable,
    deformation_files,
    list_files,
    split_name,
)
from nnunet_liver_ext.studies.study import LIVER, Study
from nnunet_liver_ext.studies.study_layouts import select_studies

MODALITIES = ("T1", "T2")
NO_MODALITY = "image"


class ImageKey(NamedTuple):
    """Which label map: of which case, and of which of its images."""

    case: str
    modality: str

    def __str__(self) -> str:
        return self.case if self.modality == NO_MODALITY else f"{self.case} {self.modality}"


@dataclass(frozen=True)
class LabelMap:
    """One file, or one half of a joint label map."""

    path: Path
    half: int | None = None
    """0 or 1 of a joint label map, None of any other."""
    num_classes: int = 2
    """Number of classes in each half of a joint label map."""
    renumber: tuple[tuple[int, int], ...] = ()
    """(label in the file, label that it stands for); with any, all others are background."""

    def read(self) -> tuple[np.ndarray, Grid]:
        """The labels (z, y, x) and where they are.

        Raises:
            InputError: the file cannot be read or is no label map, or a joint one holds a label
                that is no pair code.
        """
        image = read_mask(self.path)
        labels = array(image)
        if self.half is not None:
            try:
                labels = decode_pair(labels, self.num_classes)[self.half]
            except InputError as error:
                raise InputError(f"{self.path}: is no joint label map: {error}") from None
        if self.renumber:
            in_file = labels
            labels = np.zeros(in_file.shape, np.int32)
            for before, after in self.renumber:
                labels[in_file == before] = after
        return labels, Grid.from_image(image)


@dataclass(frozen=True)
class LabelMaps:
    """All label maps of one side, predictions or references."""

    maps: dict[ImageKey, LabelMap]
    images: dict[ImageKey, Path] = field(default_factory=dict)
    """The images that studies bring along with their masks."""
    patients: dict[str, str] = field(default_factory=dict)
    """The patient of each case, where a CSV of studies or a dataset's pairs.json says so."""


def find_predictions(path: Path, pair: PairLabels | None) -> LabelMaps:
    """The label maps in a folder.

    Args:
        path: of the folder.
        pair: label maps without a modality in their name are joint ones of such pairs.

    Raises:
        InputError: there is no such folder, it holds no label map, or two files are the same
            case's.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder of predictions.")
    return _select_label_maps(ListedFolder(path), pair)


def find_references(path: Path, pair: PairLabels | None) -> LabelMaps:
    """The label maps in a folder, or those of studies.

    Args:
        path: folder of label maps, or studies with masks (CSV or folder).
        pair: as for `find_predictions`.

    Raises:
        InputError: as `find_predictions` and `read_studies`, or no study has a mask.
    """
    files = list_files(path, "folder or CSV of references")
    if isinstance(files, StudyTable) or _holds_studies(files):
        return _select_masks_of_studies(files, pair)
    return _without_missing_masks(_select_label_maps(files, pair), describe_labels(path).incomplete)


def renumber(references: LabelMaps, given: Classes, classes: Classes) -> LabelMaps:
    """The references with the labels of `classes` in place of those given.

    Raises:
        InputError: the two name other classes.
    """
    if set(given) != set(classes):
        raise InputError(
            f"--label names the classes {', '.join(given)}, the predictions have"
            f" {', '.join(classes)}."
        )
    # The largest region comes first: a tumour in liver=1+2 stays a tumour.
    regions = sorted(given.items(), key=lambda item: -len(item[1]))
    numbers = tuple((label, classes[name][0]) for name, labels in regions for label in labels)
    maps = {key: replace(label_map, renumber=numbers) for key, label_map in references.maps.items()}
    return replace(references, maps=maps)


def modalities_of(pair: PairLabels | None) -> tuple[str, ...]:
    """Names of the images of a pair, T1 and T2 if nothing else is said."""
    return pair.modalities if pair else MODALITIES


def image_key(name: str, modalities: tuple[str, ...]) -> ImageKey:
    """The key of a file's name: P001_T1 is case P001's T1, P001 is its only map."""
    case, modality = split_name(name, modalities, numbered=False)
    return ImageKey(case, modality) if case and modality else ImageKey(name, NO_MODALITY)


def _holds_studies(folder: ListedFolder) -> bool:
    """Whether it is a folder of studies: with masks named so, or with nothing but sub-folders."""
    if folder.files:
        return any(file.is_mask for file in folder.files)
    return bool(folder.folders)


def _select_label_maps(folder: ListedFolder, pair: PairLabels | None) -> LabelMaps:
    maps: dict[ImageKey, LabelMap] = {}
    for file, file_key in _without_deformations(folder.files, modalities_of(pair)):
        for key, label_map in _label_maps_in(file, file_key, pair).items():
            if key in maps:
                raise InputError(
                    f"{folder.path}: {maps[key].path.name} and {file.path.name} are both {key}:"
                    " keep one of them."
                )
            maps[key] = label_map
    if not maps:
        inner = [name for name in ("labelsTr", "labelsTs") if (folder.path / name).is_dir()]
        hint = f"; did you mean {' or '.join(str(folder.path / name) for name in inner)}?"
        raise InputError(f"{folder.path}: holds no label maps{hint if inner else '.'}")
    return LabelMaps(maps, patients=_patients_of_dataset(folder.path))


def _without_deformations(
    files: list[ListedFile], modalities: tuple[str, ...]
) -> list[tuple[ListedFile, ImageKey]]:
    keys = {file: image_key(file.name, modalities) for file in files}
    deformations = {
        name
        for key in keys.values()
        if key.modality == modalities[0]
        for name in deformation_files(key.case, modalities)
    }
    return [(file, key) for file, key in keys.items() if file.path.name not in deformations]


def _label_maps_in(
    file: ListedFile, key: ImageKey, pair: PairLabels | None
) -> dict[ImageKey, LabelMap]:
    if pair is None or key.modality != NO_MODALITY:
        return {key: LabelMap(file.path)}
    return {
        ImageKey(key.case, modality): LabelMap(file.path, half, pair.num_classes)
        for half, modality in enumerate(pair.modalities)
    }


def _without_missing_masks(references: LabelMaps, incomplete: IncompleteCases) -> LabelMaps:
    """The references without halves of joint label maps that stand for a mask that there is not."""
    maps = {
        key: label_map
        for key, label_map in references.maps.items()
        if label_map.half is None or incomplete.has_mask(key.case, key.modality)
    }
    return replace(references, maps=maps)


def _patients_of_dataset(folder: Path) -> dict[str, str]:
    """Pseudonyms of the patients of the dataset that a folder (labelsTr, labelsTs) belongs to."""
    if not (folder.parent / "pairs.json").is_file():
        return {}
    return {name: case.group for name, case in Manifest.load(folder.parent).cases.items()}


def _select_masks_of_studies(
    files: ListedFolder | StudyTable, pair: PairLabels | None
) -> LabelMaps:
    studies, single = select_studies(files, modalities_of(pair))
    maps = {
        ImageKey(study.name, NO_MODALITY if single else name): LabelMap(mask)
        for study in studies
        for name, mask in study.masks.items()
        if name != LIVER
    }
    if not maps:
        raise InputError(
            f"{files.path}: none of the {len(studies)} studies has a mask to compare with."
        )
    patients = {study.name: study.patient for study in studies}
    return LabelMaps(maps, images_of_studies(studies, single=single), patients)


def images_of_studies(studies: list[Study], *, single: bool) -> dict[ImageKey, Path]:
    """The image of each case and modality; of several channels of a single image, the first."""
    return {
        ImageKey(study.name, NO_MODALITY if single else name): image
        for study in studies
        for name, image in reversed([*study.images.items()])
    }
