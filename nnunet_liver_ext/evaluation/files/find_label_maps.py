"""Which label maps and images a user's folder or CSV holds, by case and modality.

Three kinds are told apart: native masks (NAME_T1.nii.gz, NAME_T2.nii.gz), joint label maps of a
pair (NAME.nii.gz with a `pair` entry in dataset.json, taken apart when they are read), and plain
label maps (NAME.nii.gz, modality "image"). Masks of studies, from a CSV or a folder with images and
masks, are native masks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from nnunet_liver_ext.dataset_json.incomplete import IncompleteCases
from nnunet_liver_ext.dataset_json.manifest import Manifest
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.files.described_labels import Classes, describe_labels
from nnunet_liver_ext.evaluation.files.read_label_map import LabelMap
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.studies.file_names import (
    ListedFile,
    ListedFolder,
    NamedFile,
    StudyTable,
    leave_out_deformations,
    list_files,
    name_files,
)
from nnunet_liver_ext.studies.mask_names import image_of_mask
from nnunet_liver_ext.studies.study import LIVER, Study
from nnunet_liver_ext.studies.study_layouts import select_studies

MODALITIES = ("T1", "T2")
CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
NO_MODALITY = "image"


class ImageKey(NamedTuple):
    """Which label map: of which case, and of which of its images."""

    case: str
    modality: str

    def __str__(self) -> str:
        return self.case if self.modality == NO_MODALITY else f"{self.case} {self.modality}"


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
    if isinstance(files, StudyTable) or _holds_studies(files, modalities_of(pair)):
        return _select_masks_of_studies(files, pair)
    return _without_missing_masks(_select_label_maps(files, pair), describe_labels(path).incomplete)


def find_images(path: Path, modalities: tuple[str, ...]) -> dict[ImageKey, Path]:
    """The images of each case and modality.

    Args:
        path: studies (a CSV, or a folder with one sub-folder each), nnU-Net's imagesTs
            (CASE_0000.nii.gz, CASE_0001.nii.gz in the order of the modalities), or a folder of
            CASE_T1.nii.gz or CASE.nii.gz.
        modalities: names of a pair's images.

    Raises:
        InputError: there is nothing there, or the studies cannot be read.
    """
    files = list_files(path, "folder or CSV of images")
    side_by_side = files.files if isinstance(files, ListedFolder) else []
    side_by_side = [file for file in side_by_side if image_of_mask(file.name, modalities) is None]
    if side_by_side:
        images = _select_images(side_by_side, modalities)
    else:
        studies, single = select_studies(files, modalities)
        images = _images_of_studies(studies, single=single)
    if not images:
        raise InputError(f"{path}: holds no images.")
    return images


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


def image_key(file: NamedFile) -> ImageKey:
    """The key of a file: P001_T1 is case P001's T1, P001 is its only map."""
    if file.case and file.modality and not file.is_mask:
        return ImageKey(file.case, file.modality)
    return ImageKey(file.name, NO_MODALITY)


def _holds_studies(folder: ListedFolder, modalities: tuple[str, ...]) -> bool:
    """Whether it is one of studies: with images and masks named so, or with sub-folders alone."""
    if folder.files:
        files = name_files(folder.files, modalities, numbered=False)
        return {file.is_mask for file in files} == {True, False}
    return bool(folder.folders)


def _select_label_maps(folder: ListedFolder, pair: PairLabels | None) -> LabelMaps:
    modalities = modalities_of(pair)
    files = name_files(folder.files, modalities, numbered=False)
    if all(file.is_mask and file.bare_name for file in files):  # then the names are their images'
        files = [replace(file, name=file.bare_name, is_mask=False) for file in files]
    maps: dict[ImageKey, LabelMap] = {}
    for file in leave_out_deformations(files, modalities):
        for key, label_map in _label_maps_in(file, pair).items():
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


def _label_maps_in(file: NamedFile, pair: PairLabels | None) -> dict[ImageKey, LabelMap]:
    key = image_key(file)
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
    return LabelMaps(maps, _images_of_studies(studies, single=single), patients)


def _images_of_studies(studies: list[Study], *, single: bool) -> dict[ImageKey, Path]:
    """The image of each case and modality; of several channels of a single image, the first."""
    return {
        ImageKey(study.name, NO_MODALITY if single else name): image
        for study in studies
        for name, image in reversed([*study.images.items()])
    }


def _select_images(
    files: Sequence[ListedFile], modalities: tuple[str, ...]
) -> dict[ImageKey, Path]:
    images: dict[ImageKey, Path] = {}
    for file in name_files(files, modalities, numbered=False):
        channel = CHANNEL.fullmatch(file.name)
        if channel is None:
            images[image_key(file)] = file.path
            continue
        case, index = channel["case"], int(channel["channel"])
        if index < len(modalities):
            images[ImageKey(case, modalities[index])] = file.path
        if index == 0:
            images[ImageKey(case, NO_MODALITY)] = file.path
    return images
