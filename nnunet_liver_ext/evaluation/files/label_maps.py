"""Which label maps a user's folder or CSV holds, by case and modality.

Three kinds are told apart: native masks (NAME_T1.nii.gz, NAME_T2.nii.gz), joint label maps of a
pair (NAME.nii.gz with a `pair` entry in dataset.json, taken apart when they are read), and plain
label maps (NAME.nii.gz, modality "image"). Masks of studies, from a CSV or a folder with images and
masks, are native masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnunet_liver_ext.dataset_json.incomplete import IncompleteCases
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.files.studies_beside import read_either
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.pairing import PairLabels, decode_pair
from nnunet_liver_ext.space.images import Grid, array, image_ending, read_mask, stem
from nnunet_liver_ext.studies.pair_studies import LIVER, Study, deformation_files, is_mask_name

MODALITIES = ("T1", "T2")
NO_MODALITY = "image"
Classes = Mapping[str, tuple[int, ...]]  # name of a class: its labels, several for a region


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
    """Of each half of a joint label map."""
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
            own = labels
            labels = np.zeros(own.shape, np.int32)
            for before, after in self.renumber:
                labels[own == before] = after
        return labels, Grid.from_image(image)


@dataclass(frozen=True)
class Description:
    """What a dataset.json says about label maps."""

    pair: PairLabels | None = None
    classes: Classes | None = None
    incomplete: IncompleteCases = field(default_factory=IncompleteCases)
    """Pairs of which a mask is missing: in a joint label map it looks like an empty one."""

    @classmethod
    def beside(cls, path: Path) -> Description:
        """Of the dataset.json in a folder of label maps, or above it (labelsTr, gt_segmentations,
        fold_0/validation).

        Empty if there is none.

        Raises:
            InputError: it is no valid JSON, has no labels, or has an ignore label.
        """
        folder = path if path.is_dir() else path.parent
        above = (
            [folder.parent]
            if folder.name.startswith("labels") or folder.name == "gt_segmentations"
            else []
        )
        above += [folder.parent.parent] if folder.name == "validation" else []
        for candidate in (folder, *above):
            if (candidate / "dataset.json").is_file():
                return cls._read(candidate / "dataset.json")
        return cls()

    @classmethod
    def _read(cls, path: Path) -> Description:
        content = read_json(path)
        try:
            pair = PairLabels.from_dataset_json(content)
            labels = content.get("labels")
            classes = _pair_classes(pair) if pair else _label_classes(labels) if labels else None
            return cls(pair, classes, IncompleteCases.from_dataset_json(content))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path}: is no valid dataset.json ({type(error).__name__}: {error})."
            ) from None


@dataclass(frozen=True)
class LabelMaps:
    """All label maps of one side, predictions or references."""

    maps: dict[ImageKey, LabelMap]
    images: dict[ImageKey, Path] = field(default_factory=dict)
    """The images that studies bring along with their masks."""
    patients: dict[str, str] = field(default_factory=dict)
    """Of each case, where a CSV of studies or a converted dataset's pairs.json says so."""


def find_predictions(path: Path, pair: PairLabels | None) -> LabelMaps:
    """The label maps in a folder; `pair` says that those without a modality in their name are
    joint.

    Raises:
        InputError: there is no such folder, it holds no label map, or two files are the same
            case's.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder of predictions.")
    return _from_folder(path, pair)


def find_references(path: Path, pair: PairLabels | None) -> LabelMaps:
    """The label maps of a folder, or the masks of studies (a CSV, or a folder with images and masks
    in it).

    Raises:
        InputError: as `find_predictions` and `read_studies`, or no study has a mask.
    """
    if not path.exists():
        raise InputError(f"{path}: no such folder or CSV of references.")
    if holds_studies(path):
        return _from_studies(path, pair)
    return _without_missing_masks(_from_folder(path, pair), Description.beside(path).incomplete)


def _without_missing_masks(references: LabelMaps, incomplete: IncompleteCases) -> LabelMaps:
    """The references without halves of joint label maps that stand for a mask that there is not."""
    maps = {
        key: one
        for key, one in references.maps.items()
        if one.half is None or incomplete.has_mask(key.case, key.modality)
    }
    return replace(references, maps=maps)


def renumber(references: LabelMaps, own: Classes, classes: Classes) -> LabelMaps:
    """The references with the labels of `classes` in place of their own.

    Raises:
        InputError: the two name other classes.
    """
    if set(own) != set(classes):
        raise InputError(
            f"--label names the classes {', '.join(own)}, the predictions have"
            f" {', '.join(classes)}."
        )
    largest_first = sorted(
        own.items(), key=lambda item: -len(item[1])
    )  # a tumour in liver=1+2 stays a tumour
    pairs = tuple((label, classes[name][0]) for name, labels in largest_first for label in labels)
    return replace(
        references, maps={key: replace(one, renumber=pairs) for key, one in references.maps.items()}
    )


def holds_studies(path: Path) -> bool:
    """True for a file, and for a folder of studies: one with masks named so, or with nothing but
    sub-folders."""
    if path.is_file():
        return True
    files = label_map_files(path)
    if files:
        return any(is_mask_name(stem(file)) for file in files)
    return any(entry.is_dir() for entry in path.iterdir())


def label_map_files(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted; hidden and unfinished ones are left out."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.is_file() and image_ending(file) and not file.name.startswith(".")
    )


def modalities_of(pair: PairLabels | None) -> tuple[str, ...]:
    return pair.modalities if pair else MODALITIES


def key_of(path: Path, modalities: tuple[str, ...]) -> ImageKey:
    """ "P001_T1.nii.gz" is case P001's T1; "P001.nii.gz" is case P001's only map."""
    name = stem(path)
    for modality in modalities:
        if name.endswith(f"_{modality}") and len(name) > len(modality) + 1:
            return ImageKey(name[: -len(modality) - 1], modality)
    return ImageKey(name, NO_MODALITY)


def _from_folder(folder: Path, pair: PairLabels | None) -> LabelMaps:
    maps: dict[ImageKey, LabelMap] = {}
    for file in _without_deformations(label_map_files(folder), modalities_of(pair)):
        for key, label_map in _label_maps_in(file, pair).items():
            if key in maps:
                raise InputError(
                    f"{folder}: {maps[key].path.name} and {file.name} are both {key}: keep one of"
                    " them."
                )
            maps[key] = label_map
    if not maps:
        inner = [name for name in ("labelsTr", "labelsTs") if (folder / name).is_dir()]
        hint = (
            f"; did you mean {' or '.join(str(folder / name) for name in inner)}?" if inner else "."
        )
        raise InputError(f"{folder}: holds no label maps{hint}")
    return LabelMaps(maps, patients=_patients_of_dataset(folder))


def _patients_of_dataset(folder: Path) -> dict[str, str]:
    """Pseudonyms of the patients of the converted dataset that a folder (labelsTr, labelsTs)
    belongs to."""
    path = folder.parent / "pairs.json"
    if not path.is_file():
        return {}
    from nnunet_liver_ext.dataset_json.manifest import Manifest

    return {name: case.group for name, case in Manifest.load(path.parent).cases.items()}


def _without_deformations(files: list[Path], modalities: tuple[str, ...]) -> list[Path]:
    keys = (key_of(file, modalities) for file in files)
    others = {
        name
        for key in keys
        if key.modality == modalities[0]
        for name in deformation_files(key.case, modalities)
    }
    return [file for file in files if file.name not in others]


def _label_maps_in(file: Path, pair: PairLabels | None) -> dict[ImageKey, LabelMap]:
    key = key_of(file, modalities_of(pair))
    if pair is None or key.modality != NO_MODALITY:
        return {key: LabelMap(file)}
    return {
        ImageKey(key.case, modality): LabelMap(file, half, pair.num_classes)
        for half, modality in enumerate(pair.modalities)
    }


def _from_studies(path: Path, pair: PairLabels | None) -> LabelMaps:
    studies, single = read_either(path, modalities_of(pair))

    def key(study: Study, name: str) -> ImageKey:
        return ImageKey(study.name, NO_MODALITY if single else name)

    masks = {
        key(study, name): LabelMap(mask)
        for study in studies
        for name, mask in study.masks.items()
        if name != LIVER
    }
    if not masks:
        raise InputError(f"{path}: none of the {len(studies)} studies has a mask to compare with.")
    images = {
        key(study, name): image
        for study in studies
        for name, image in reversed([*study.images.items()])
    }
    return LabelMaps(masks, images, {study.name: study.patient for study in studies})


def _pair_classes(pair: PairLabels) -> Classes:
    return {name: (label,) for label, name in enumerate(pair.classes) if label > 0}


def _label_classes(labels: Mapping[str, Any]) -> Classes:
    if "ignore" in labels:
        raise InputError(
            "an ignore label cannot be evaluated: surfaces next to ignored voxels have no distance."
        )
    return {
        name: tuple(int(value) for value in label) if isinstance(label, list) else (int(label),)
        for name, label in labels.items()
        if label != 0
    }
