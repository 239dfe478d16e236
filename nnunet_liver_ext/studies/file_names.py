"""The files that a folder or a CSV names, listed once, and the one rule for what names say.

CASE_T1 is the image T1 of CASE, whatever its capitals; where channels are numbered, as nnU-Net does
it, so is CASE_0000. Which names are masks' is the business of `mask_names`. What is a study, a
prediction or an image for a picture is chosen from the list by those who need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nnunet_liver_ext.csv_files import read_csv
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import image_ending, stem
from nnunet_liver_ext.studies.mask_names import image_of_mask
from nnunet_liver_ext.studies.study import LIVER

SLICE_SUFFIXES = ("", ".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class ListedFile:
    """An image file, or a folder that stands for one image (DICOM slices)."""

    path: Path
    name: str
    """Without the image ending."""


class ListedFolder:
    """A folder without what is hidden in it; every part is read when it is asked for, and once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _visible(self) -> list[Path]:
        return sorted(path for path in self.path.iterdir() if not path.name.startswith("."))

    @cached_property
    def files(self) -> list[ListedFile]:
        """The image files, sorted."""
        files = (path for path in self._visible if image_ending(path) and path.is_file())
        return [ListedFile(path, stem(path)) for path in files]

    @cached_property
    def folders(self) -> list[ListedFolder]:
        """All sub-folders, sorted."""
        return [ListedFolder(path) for path in self._visible if path.is_dir()]

    @cached_property
    def study_folders(self) -> list[ListedFolder]:
        """Sub-folders that may hold a study: no predictions that were written into the folder."""
        return [folder for folder in self.folders if not (folder.path / "prediction.json").exists()]

    @cached_property
    def is_series(self) -> bool:
        """Whether the folder holds slices: files, none of them an image of another kind."""
        return bool(self._visible) and all(
            path.is_file() and path.suffix.lower() in SLICE_SUFFIXES for path in self._visible
        )

    def names_modality(self, modalities: Sequence[str]) -> bool:
        """Whether an image or mask here, or in a study's folder, is named by its modality."""
        files = [
            *self.files,
            *(file for study in self.study_folders for file in study.files_and_folders),
        ]
        return any(file.modality for file in name_files(files, modalities, numbered=False))

    @property
    def files_and_folders(self) -> list[ListedFile]:
        """The image files, and every sub-folder as a series, sorted."""
        return _sort(self.files, self.folders)

    @property
    def files_and_series(self) -> list[ListedFile]:
        """The image files and the folders of slices, sorted."""
        return _sort(self.files, [folder for folder in self.folders if folder.is_series])


@dataclass(frozen=True)
class StudyTable:
    """The cells of a CSV of studies as text, by column name in small letters."""

    path: Path
    columns: list[str]
    rows: dict[int, dict[str, str]]
    """By the number of the row in the file; the header is row 1."""

    @classmethod
    def read(cls, path: Path) -> StudyTable:
        """Reads the CSV.

        Raises:
            InputError: it is no readable CSV, or a row has not a field for each column.
        """
        table = read_csv(path)
        if not table.columns:
            raise InputError(f"{path}: is no readable CSV (it is empty).")
        columns = [column.lower() for column in table.columns]
        rows = {
            number: dict(zip(columns, cells, strict=True)) for number, cells in table.rows.items()
        }
        return cls(path, columns, rows)


Files = ListedFolder | StudyTable


def list_files(path: Path, what: str = "file or folder") -> Files:
    """The files of a folder, or the rows of a CSV.

    Raises:
        InputError: there is nothing at `path` (the message says `what` is missing), or it is no
            readable CSV.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such {what}.")
    return ListedFolder(path) if path.is_dir() else StudyTable.read(path)


@dataclass(frozen=True)
class NamedFile:
    """A file, with the case and the modality that its name says."""

    path: Path
    name: str
    """Without the image ending."""
    is_mask: bool
    bare_name: str
    """The name without what says that it is a mask."""
    case: str
    """The whole name, without what says that it is a mask, if there is no modality in it."""
    modality: str | None


def name_files(
    files: Sequence[ListedFile], modalities: Sequence[str], *, numbered: bool
) -> list[NamedFile]:
    """The files with their cases and modalities, as `image_of_mask` and `split_name`."""
    numbers = [f"{channel:04d}" for channel in range(len(modalities) * numbered)]
    named = []
    for file in files:
        image = image_of_mask(file.name, [*modalities, LIVER, *numbers])
        bare_name = file.name if image is None else image
        case, modality = split_name(bare_name, modalities, numbered=numbered)
        named.append(NamedFile(file.path, file.name, image is not None, bare_name, case, modality))
    return named


def split_name(name: str, modalities: Sequence[str], *, numbered: bool) -> tuple[str, str | None]:
    """The case and the modality that a name ends with, capitals aside.

    Args:
        name: of an image, without file ending and without what says that it is a mask; in a study's
            own folder it may be the modality alone, then the case is "".
        modalities: names of the images, in the order of their channels.
        numbered: CASE_0000 is the first modality; else the number belongs to the case's name.
    """
    whole = f"_{name}"
    for channel, modality in enumerate(modalities):
        for ending in (f"_{modality}", *([f"_{channel:04d}"] if numbered else [])):
            if whole.lower().endswith(ending.lower()):
                return whole[: -len(ending)][1:], modality
    return name, None


def leave_out_deformations(
    files: Sequence[NamedFile], modalities: Sequence[str]
) -> list[NamedFile]:
    """The label maps without what `predict --deformation` has written beside them."""
    first, second = modalities
    cases = {file.case for file in files if file.modality == first}
    written = {name for case in cases for name in deformation_files(case, (first, second))}
    return [file for file in files if file.path.name not in written]


def deformation_files(case: str, modalities: tuple[str, ...]) -> tuple[str, str]:
    """Names of what `predict --deformation` writes beside the masks of a pair.

    Returns:
        The file of the displacements, and that of mask 1 moved onto image 2.
    """
    first, second = modalities
    return f"{case}_deformation.nii.gz", f"{case}_{first}_on_{second}.nii.gz"


def _sort(files: list[ListedFile], folders: list[ListedFolder]) -> list[ListedFile]:
    series = [ListedFile(folder.path, folder.path.name) for folder in folders]
    return sorted([*files, *series], key=lambda entry: entry.path)
