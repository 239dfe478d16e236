"""Studies whose kind nobody has named: pairs, or single images with one mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nnunet_liver_ext.studies.image_studies import IMAGE, select_image_studies
from nnunet_liver_ext.studies.listed_files import ListedFolder, split_name
from nnunet_liver_ext.studies.pair_studies import select_pair_studies
from nnunet_liver_ext.studies.study import LIVER, Study
from nnunet_liver_ext.studies.study_table import StudyTable

OTHER_COLUMNS = ("patient", "study", "mask", f"{LIVER}_mask")


def select_studies(
    files: ListedFolder | StudyTable, modalities: Sequence[str]
) -> tuple[list[Study], bool]:
    """The studies among the files, and whether they are single images rather than pairs.

    A CSV with a column `mask`, and a folder in which nothing is named T1 or T2, are of single
    images.

    Args:
        files: a folder, or a CSV.
        modalities: names of image 1 and image 2 of pairs.

    Raises:
        InputError: as `read_studies` and `read_image_studies`.
    """
    if channels := _channels_of_single_images(files, modalities):
        return select_image_studies(files, channels), True
    return select_pair_studies(files, modalities), False


def _channels_of_single_images(
    files: ListedFolder | StudyTable, modalities: Sequence[str]
) -> tuple[str, ...]:
    """The channels of single images; none for pairs."""
    if isinstance(files, StudyTable):
        columns = [column for column in files.columns if column and column not in OTHER_COLUMNS]
        return tuple(columns) if "mask" in files.columns else ()
    names = (split_name(f"_{name}", modalities, numbered=False) for name in _bare_names(files))
    return () if any(name.modality is not None for name in names) else (IMAGE,)


def _bare_names(folder: ListedFolder) -> Iterator[str]:
    """Names of the images and masks in a folder and in those of its studies."""
    yield from (file.bare_name for file in folder.files)
    for inner in folder.study_folders:
        yield from (file.bare_name for file in inner.files_and_folders)
