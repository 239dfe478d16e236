"""The series of the Duke Liver Dataset: where they lie, and what each of them shows.

`SegmentationKey.csv` and `SeriesClassificationKey.csv` (columns DLDS, Series, Label) say by a
letter what a series shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_liver_ext.dataset_conversion.csv_columns import read_csv_columns
from nnunet_liver_ext.dataset_conversion.folder_search import files_below, natural_order
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.dicom_headers import DICOM_SUFFIXES

KEYS = ("seriesclassificationkey.csv", "segmentationkey.csv")
"""What the later one says of a series counts."""
COLUMNS = ("DLDS", "Series", "Label")
SEQUENCES = {
    "A": "T2",
    "B": "T1pre",
    "C": "T1art",
    "E": "T1late",
    "G": "T1in",
    "H": "T1opp",
    "J": "T2cor",
    "K": "T1pv",
    "O": "T1early",
}
"""What a series shows, by its letter, as a name for an image: axial T2; T1 before contrast agent,
with fat suppression; mid-arterial; late dynamic; in phase; opposed phase; coronal T2; portal
venous; early arterial. SequenceTypes.csv of the release has all letters."""


@dataclass(frozen=True)
class Series:
    """One series of a patient."""

    patient: str
    name: str
    images: Path
    masks: Path | None
    letter: str
    """What it shows; "" if no key says so."""

    @property
    def number(self) -> int:
        """Its number at the scanner; 0 if its name is none."""
        return int(self.name) if self.name.isdigit() else 0


def find_series(root: Path) -> list[Series]:
    """All series below a folder, sorted by patient and number.

    Of a series that is there twice the copy with masks is taken.

    Raises:
        InputError: there are none, two with masks have one number, or a key has other columns.
    """
    letters = read_letters(root)
    by_name: dict[tuple[str, str], Series] = {}
    for folder in _dicom_folders(root):
        nested = folder.name == "images"
        if len(folder.relative_to(root.parent).parts) < 2 + nested:
            continue
        patient, name = folder.parts[-3:-1] if nested else folder.parts[-2:]
        masks = folder.parent / "masks" if nested and (folder.parent / "masks").is_dir() else None
        other = by_name.get((patient, name))
        if other and other.masks and masks:
            raise InputError(
                f"{folder}: series {name} of patient {patient} is there twice, also as"
                f" {other.images}; keep one."
            )
        if other is None or masks:
            by_name[patient, name] = Series(
                patient, name, folder, masks, letters.get((patient, name), "")
            )
    if not by_name:
        raise InputError(
            f"{root}: holds no Duke Liver Dataset; expected"
            " Segmentation/0001/<series>/images/*.dicom, at any depth."
        )
    return sorted(
        by_name.values(),
        key=lambda series: (natural_order(series.patient), natural_order(series.name)),
    )


def read_letters(root: Path) -> dict[tuple[str, str], str]:
    """The letter of each series, by patient ("0001") and series ("12").

    It is read from the keys below the folder and beside it.

    Raises:
        InputError: a key has other columns.
    """
    paths = [
        path
        for path in [*root.parent.glob("*.csv"), *files_below(root)]
        if path.name.lower() in KEYS
    ]
    letters: dict[tuple[str, str], str] = {}
    for path in sorted(paths, key=lambda path: KEYS.index(path.name.lower())):
        letters.update(
            ((patient.zfill(4), series), letter)
            for patient, series, letter in read_csv_columns(path, COLUMNS)
        )
    return letters


def _dicom_folders(root: Path) -> list[Path]:
    """Folders with slices of images."""
    files = (path for path in files_below(root) if path.suffix.lower() in DICOM_SUFFIXES)
    return [
        folder for folder in dict.fromkeys(path.parent for path in files) if folder.name != "masks"
    ]
