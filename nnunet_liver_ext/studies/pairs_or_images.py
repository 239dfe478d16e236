"""Studies given as references or for their images: pairs, or single images with one mask."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import image_ending, stem
from nnunet_liver_ext.studies.image_studies import IMAGE, read_image_studies
from nnunet_liver_ext.studies.pair_studies import LIVER, Study, read_studies

OTHER_COLUMNS = ("patient", "study", "mask", f"{LIVER}_mask")


def read_either(path: Path, modalities: Sequence[str]) -> tuple[list[Study], bool]:
    """The studies of a CSV or a folder, and whether they are single images rather than pairs.

    A CSV with a column `mask`, and a folder in which nothing is named T1 or T2, are of single
    images.

    Args:
        path: CSV file or folder.
        modalities: names of image 1 and image 2 of pairs.

    Raises:
        InputError: as `read_studies` and `read_image_studies`.
    """
    channels = _channels(path) if path.is_file() else _channels_of_folder(path, modalities)
    if channels:
        return read_image_studies(path, modalities=channels), True
    return read_studies(path, modalities=modalities), False


def _channels(path: Path) -> tuple[str, ...]:
    """The image columns of a CSV that has one mask for each study; none for pairs."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            columns = [column.strip().lower() for column in next(csv.reader(file), [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is no readable CSV ({error}).") from None
    if "mask" not in columns:
        return ()
    return tuple(column for column in columns if column and column not in OTHER_COLUMNS)


def _channels_of_folder(folder: Path, modalities: Sequence[str]) -> tuple[str, ...]:
    endings = tuple(
        f"_{name}".lower() for modality in modalities for name in (modality, f"{modality}_mask")
    )
    words = [f"_{name}".lower() for name in _names(folder)]
    return () if any(word.endswith(endings) for word in words) else (IMAGE,)


def _names(folder: Path) -> Iterator[str]:
    """Of the images in a folder and in its sub-folders."""
    for path in folder.iterdir():
        if path.is_file() and image_ending(path):
            yield stem(path)
        elif path.is_dir():
            yield from (
                stem(inside) if inside.is_file() else inside.name for inside in path.iterdir()
            )
