"""Toy pairs as an nnU-Net raw dataset, by the same writer as any other pairs.

The writer takes studies that are files. The file of a toy image is its recipe, a few numbers from
which `ToyReader` makes the image, so that no image is written twice, and other numbers are noticed
as another study. Recipes live only while they are converted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.dataset_conversion.single_slice_files import single_slice_grid
from nnunet_liver_ext.dataset_conversion.toy.pair import (
    DIFFERENCE,
    NOISE,
    SIZE,
    ToyPair,
    check_options,
    make_pair,
    scaled_max_shift,
)
from nnunet_liver_ext.dataset_conversion.write_dataset import write_dataset
from nnunet_liver_ext.environment import nnunet_folder
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.space.images import image_like
from nnunet_liver_ext.studies.study import Study

MODALITIES = ("angle", "frequency")
SETTINGS = ConversionSettings(
    labels={"blob": (1,)}, spacing="native-t1", interpolation="linear", modalities=MODALITIES
)
APPEARANCE_VERSION = (
    1  # to be raised when the same seed gives other images, so that old and new are not mixed
)
REFERENCE = (
    "Couteaux et al., Cooperating networks to enforce a similarity constraint in paired but"
    " unregistered multimodal liver segmentation, 2021, section 3.1"
)


def write_toy_dataset(
    dataset_id: int,
    *,
    pairs: int = 300,
    test_pairs: int = 0,
    size: int = SIZE,
    max_shift: int | None = None,
    difference: float = DIFFERENCE,
    annotation_noise: float = 0.0,
    noise: float = NOISE,
    seed: int = 0,
    name: str = "Toy",
    folds: int = 5,
    repeats: int = 1,
    processes: int = 1,
    overwrite: bool = False,
    add: bool = False,
) -> Path:
    """Writes `DatasetNNN_Name` into nnUNet_raw.

    Its images are single slices of the modalities "angle" and "frequency", its class is "blob".

    Args:
        dataset_id: NNN, 1..999.
        pairs: to train and validate on (imagesTr, labelsTr).
        test_pairs: more pairs, for testing (imagesTs, labelsTs); the same however many others there
            are.
        size, max_shift, difference, annotation_noise, noise: see `make_pair`.
        seed: of all pairs and of the splits; not negative.
        name: Name.
        folds, repeats: cross-validation, written as splits_final.json.
        processes: worker processes.
        overwrite: replace the dataset that is there.
        add: add pairs to the dataset that is there.

    Returns:
        The dataset's folder.

    Raises:
        InputError: a number is out of range, nnUNet_raw is not set, another dataset is there, or it
            cannot be written.
    """
    max_shift = scaled_max_shift(size) if max_shift is None else max_shift
    options: dict[str, Any] = {"size": size, "max_shift": max_shift}
    options |= {"difference": float(difference), "annotation_noise": float(annotation_noise)}
    options["noise"] = float(noise)
    check_options(**options)
    _check_numbers(pairs, test_pairs, seed)
    made_with = {"version": APPEARANCE_VERSION, "seed": seed, **options}
    if not overwrite:
        _check_same_options(nnunet_folder("raw") / f"Dataset{dataset_id:03d}_{name}", made_with)
    with TemporaryDirectory(prefix="toy_") as recipes:
        training = _studies(Path(recipes), "pair", pairs, seed, options)
        test = _studies(Path(recipes), "test", test_pairs, seed, options)
        return write_dataset(
            [*training, *test],
            dataset_id=dataset_id,
            name=name,
            settings=SETTINGS,
            hold_out=[study.patient for study in test],
            folds=folds,
            repeats=repeats,
            seed=seed,
            processes=processes,
            overwrite=overwrite,
            add=add,
            reader=ToyReader(),
            notes={"reference": REFERENCE, "toy": made_with},
            source_root=Path(recipes),
        )


class ToyReader:
    """Makes images and masks from recipes."""

    def read_image(self, path: Path) -> sitk.Image:
        part, pair = _make_part(path.read_text())
        return _single_slice(pair.image_1 if part == MODALITIES[0] else pair.image_2)

    def read_mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        part, pair = _make_part(path.read_text())
        return _single_slice(pair.mask_1 if part == MODALITIES[0] else pair.mask_2)


def pair_seed(seed: int, kind: str, index: int) -> int:
    """The seed of one pair for `make_pair`.

    Args:
        seed: of the dataset.
        kind: "pair" (to train and validate on) or "test".
        index: 0 for pair0001 or test0001.
    """
    key = np.random.SeedSequence([seed, {"pair": 1, "test": 2}[kind], index])
    return int(key.generate_state(1, np.uint64)[0] >> np.uint64(1))


def _check_numbers(pairs: int, test_pairs: int, seed: int) -> None:
    if pairs < 2:
        raise InputError(
            f"a toy dataset has at least 2 pairs to train and validate on, found {pairs}."
        )
    if test_pairs < 0 or seed < 0:
        raise InputError(
            f"the number of test pairs and the seed are not negative, found {test_pairs} and"
            f" {seed}."
        )


def _check_same_options(folder: Path, made_with: Mapping[str, Any]) -> None:
    """Refuses a dataset that was made with other numbers: new pairs would be unlike its own."""
    path = folder / "dataset.json"
    if not path.is_file():
        return
    before = read_json(path, remedy="mend it, or replace the dataset with --overwrite").get("toy")
    if before is None:
        return  # no toy; the writer will say so
    different = [
        f"{key} {before.get(key)} rather than {value}"
        for key, value in made_with.items()
        if before.get(key) != value
    ]
    if different:
        raise InputError(
            f"{folder}: was made with {', '.join(different)}; use the same, choose another number, "
            "or replace it with --overwrite."
        )


def _studies(
    folder: Path, kind: str, count: int, seed: int, options: Mapping[str, Any]
) -> list[Study]:
    """Studies pair0001, pair0002, ... with their recipes."""
    studies = []
    for index in range(count):
        name = f"{kind}{index + 1:04d}"
        recipe = {
            "version": APPEARANCE_VERSION,
            "seed": pair_seed(seed, kind, index),
            "options": options,
        }
        images = {part: folder / f"{name}_{part}.json" for part in MODALITIES}
        masks = {part: folder / f"{name}_{part}_mask.json" for part in MODALITIES}
        for part in MODALITIES:
            text = json.dumps({"part": part, **recipe})
            images[part].write_text(text)
            masks[part].write_text(text)
        studies.append(Study(name, name, images, masks))
    return studies


def _make_part(recipe: str) -> tuple[str, ToyPair]:
    """(part, pair) of a recipe; the four parts of a pair are asked for one after the other."""
    content = json.loads(recipe)
    return content["part"], _cached_pair(content["seed"], tuple(content["options"].items()))


@lru_cache(maxsize=1)
def _cached_pair(seed: int, options: tuple[tuple[str, Any], ...]) -> ToyPair:
    return make_pair(seed, **dict(options))


def _single_slice(values: np.ndarray) -> sitk.Image:
    return image_like(values[None], single_slice_grid(values.shape[::-1], (1.0, 1.0)))
