"""Datasets of numbered files, such as volume-5.nii and segmentation-5.nii, in any folders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_liver_ext.dataset_conversion.folder_search import files_below
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.space.images import image_ending, stem
from nnunet_liver_ext.studies.study import Study


@dataclass(frozen=True, kw_only=True)
class NumberedFiles:
    """Patterns of a dataset's files, each a regular expression with the number in its first group.

    A pattern ends where the file's name ends, without its image ending, and may begin with folders:
    `imagesTr/liver_([0-9]+)`. Capital letters do not matter.
    """

    image: str
    mask: str
    test_image: str | None = None
    """Images that need no mask; asked before `image`."""
    test_mask: str | None = None
    expected: str
    """What should be there, for the error: "volume-N.nii and segmentation-N.nii"."""

    def studies(self, root: Path, *, modality: str, test_images: bool = False) -> list[Study]:
        """All images with their masks, sorted by number.

        Each image is a patient of its own, named as the image's file is.

        Args:
            root: folder, searched at any depth.
            modality: key of the image and the mask in a study.
            test_images: take the images that need no mask and have none as well.

        Raises:
            InputError: there are none, a number has two images or two masks, or an image or a mask
                is missing.
        """
        files = list(files_below(root))
        tests = _find_by_number(root, files, self.test_image)
        images = _find_by_number(
            root, [path for path in files if path not in tests.values()], self.image
        )
        masks, test_masks = (
            _find_by_number(root, files, self.mask),
            _find_by_number(root, files, self.test_mask),
        )
        if not images and not (tests and test_images):
            raise InputError(f"{root}: holds no such data; expected {self.expected}, at any depth.")
        self._check_all_there(root, images, masks)
        studies = [
            _study(stem(path), modality, path, masks[number]) for number, path in images.items()
        ]
        for number, path in tests.items():
            if test_images or number in test_masks:
                studies.append(
                    _study(
                        f"test-{stem(path).removeprefix('test-')}",
                        modality,
                        path,
                        test_masks.get(number),
                    )
                )
        return studies

    def _check_all_there(
        self, root: Path, images: Mapping[int, Path], masks: Mapping[int, Path]
    ) -> None:
        for number in sorted(images.keys() ^ masks.keys()):
            kind, path = ("mask", images[number]) if number in images else ("image", masks[number])
            raise InputError(
                f"{path}: has no {kind} of number {number} below {root} (expected {self.expected});"
                " fetch that file or take this one away."
            )


def check_label_names(paths: Sequence[Path], labels: Mapping[str, int]) -> None:
    """Compares numbers of labels with those in the dataset.json beside the folders of some files.

    Without such a file there is nothing to compare.

    Args:
        paths: images, in a folder such as imagesTr beside dataset.json.
        labels: number of each label by its name; names that dataset.json does not have are not
            judged.

    Raises:
        InputError: dataset.json gives a label another number.
    """
    for path in sorted({image.parent.parent / "dataset.json" for image in paths}):
        numbers = _numbers_of_labels(path)
        for name, number in labels.items():
            if numbers.get(name, number) != number:
                raise InputError(
                    f"{path}: {name} is {numbers[name]} there, expected {number}, so this is"
                    " another release; convert it with nnunet_liver convert images and --label"
                    f" {name}={numbers[name]}."
                )


def _numbers_of_labels(path: Path) -> dict[str, int]:
    """Number of each label in dataset.json, {"6": "liver"} or {"liver": 6}; {} without any."""
    try:
        content: Any = read_json(path)
        entries = content.get("labels", {}).items()
    except (InputError, OSError, AttributeError):
        return {}
    numbers = {}
    for key, value in entries:
        name, number = (value, key) if str(key).isdigit() else (key, value)
        if str(number).isdigit():
            numbers[str(name).lower()] = int(number)
    return numbers


def _find_by_number(root: Path, files: Sequence[Path], pattern: str | None) -> dict[int, Path]:
    """Files that a pattern fits, by their number, ascending.

    Folders above the root do not matter.
    """
    if pattern is None:
        return {}
    by_number: dict[int, Path] = {}
    whole = re.compile(f"(?:^|.*/)(?:{pattern})", re.IGNORECASE)
    for path in files:
        inside = path.relative_to(root).with_name(stem(path)).as_posix()
        match = whole.fullmatch(inside) if image_ending(path) else None
        if match is None:
            continue
        number = int(match[1])
        if number in by_number:
            raise InputError(
                f"{path}: number {number} is there twice, also as {by_number[number]}; keep one."
            )
        by_number[number] = path
    return dict(sorted(by_number.items()))


def _study(patient: str, modality: str, image: Path, mask: Path | None) -> Study:
    return Study(patient, patient, {modality: image}, {} if mask is None else {modality: mask})
