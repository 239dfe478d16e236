"""A user's own 2D slices with a mask each, as PNG or NIfTI files, with one class or several.

The classes may be liver, abdomen, thigh and others.

On disk: `images/NAME.png` with `masks/NAME.png` (or `labels/`), also with sub-folders of the same
names, or `NAME.png` with `NAME_mask.png` (`_seg`, `_label`) in any folder. Written as NIfTI of one
slice, which nnU-Net's own `2d` configuration trains on.

Images are grey, of 8 or 16 bits; colours are accepted if all three are equal. Classes are the
masks' grey values, or numbers of a palette, or colours if these are named (`--label
liver=#ff0000`). PNG files do not say how large a pixel is: give it.

Slices of one patient must stay together: they are those in one sub-folder of `images/` (but for
train, test and the like), else those whose names are alike but for a number at the end (`anna_12`,
`anna-slice13`), else a slice is a patient. A CSV (name, patient) overrides that.

A slice without any of the classes has an empty mask: `--allow-empty` takes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_liver_ext.dataset_conversion.datasets.slices2d_files import (
    find_images_and_masks,
    guess_patient,
    look_up_patient,
    read_patients,
)
from nnunet_liver_ext.dataset_conversion.label_options import (
    IGNORE_OTHER_LABELS,
    LABEL,
    has_colours,
    parse_label_options,
)
from nnunet_liver_ext.dataset_conversion.public_dataset import (
    DatasetOption,
    PublicDataset,
    SegmentationTask,
)
from nnunet_liver_ext.dataset_conversion.single_slice_files import SLICE_MM
from nnunet_liver_ext.dataset_conversion.single_slice_reader import SingleSliceReader
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.study import Study


def slices2d_studies(
    root: Path, *, modality: str = "CT", patients: Path | None = None, **reading: Any
) -> list[Study]:
    """All slices below a folder, sorted; those without a mask have none.

    Args:
        root: folder, searched at any depth.
        modality: key of the image and the mask in a study.
        patients: CSV with the columns name and patient; a name is that of the image's file without
            its ending, with its folders if two have one name.
        reading: further options of the entry, none of which changes what is found.

    Raises:
        InputError: there are none; a mask has no image; two slices have one name; a name is missing
            in the CSV; or all slices would be of one patient by their names.
    """
    images, masks = find_images_and_masks(Path(root))
    if not images:
        raise InputError(
            f"{root}: holds no slices; expected images/NAME.png with masks/NAME.png, or NAME.png"
            " with NAME_mask.png."
        )
    alone = sorted(masks.keys() - images.keys())
    if alone:
        raise InputError(
            f"{masks[alone[0]]}: is a mask, but there is no image {alone[0].name} that belongs"
            " to it."
        )
    given = None if patients is None else read_patients(Path(patients))
    studies = []
    for place in sorted(images):
        patient = (
            guess_patient(place)
            if given is None
            else look_up_patient(place, given, Path(str(patients)))
        )
        name = "-".join((*(folder for folder in place.below if folder != patient), place.name))
        study_masks = {modality: masks[place]} if place in masks else {}
        studies.append(Study(patient, name, {modality: images[place]}, study_masks))
    _check_patients(studies, Path(root), by_name=given is None)
    return studies


def pixel_size(entry: str | None) -> tuple[tuple[float, float], float]:
    """Width and height of a pixel, and thickness of a slice, in mm, from "0.8,0.8" or "0.8,0.8,5".

    They are 1 mm, 1 mm and `SLICE_MM` if nothing is given.

    Raises:
        InputError: not two or three positive numbers, or a slice that is not thicker than its
            pixels are wide.
    """
    try:
        sizes = [float(word) for word in entry.split(",")] if entry else [1.0, 1.0]
    except ValueError:
        sizes = []
    x, y, z = [*sizes, SLICE_MM][:3] if len(sizes) in (2, 3) else (0.0, 0.0, 0.0)
    if not (0 < max(x, y) < z < float("inf") and min(x, y) > 0):
        raise InputError(
            f"--pixel-spacing {entry}: write width and height of a pixel in mm, such as 0.8,0.8,"
            " and perhaps the thickness of a slice, which must be larger."
        )
    return (x, y), z


def _check_patients(studies: Sequence[Study], root: Path, *, by_name: bool) -> None:
    for (patient, name), count in Counter(
        (study.patient, study.study) for study in studies
    ).items():
        if count > 1:
            raise InputError(
                f"{root}: {count} slices of patient {patient} are named {name}; rename them, or say"
                " with --patients CSV whose they are."
            )
    owners = {study.patient for study in studies}
    if by_name and len(studies) > 1 and len(owners) == 1:
        raise InputError(
            f"{root}: all {len(studies)} slices seem to be of one patient, {studies[0].patient};"
            " say with --patients CSV (name, patient) whose they are."
        )


def _adapt(dataset: PublicDataset, options: Mapping[str, Any]) -> PublicDataset:
    """The entry for its options."""
    entries = tuple(options.get("label") or ())
    others = bool(options.get("ignore_other_labels"))
    task = parse_label_options(entries, ignore_others=others, colours=True)
    pixel_mm, slice_mm = pixel_size(options.get("pixel_spacing"))
    return replace(
        dataset,
        modalities=(options.get("modality") or dataset.modalities[0],),
        tasks={options.get("task") or next(iter(dataset.tasks)): task},
        reader=partial(
            SingleSliceReader,
            pixel_mm,
            slice_mm,
            task.labels if has_colours(entries) else {},
            others,
        ),
        reading={"pixel-spacing": [*pixel_mm, slice_mm]},
    )


DATASET = PublicDataset(
    key="slices2d",
    title="2D slices",
    content="your own 2D slices with masks of one class or several, as PNG or NIfTI",
    expects=(
        "images/NAME.png and masks/NAME.png, or NAME.png and NAME_mask.png (or NIfTI of one slice),"
        " at any depth"
    ),
    licence="your own data",
    citation="your own data",
    url="",
    modalities=("CT",),
    tasks={"classes": SegmentationTask(labels={"liver": (1,)})},
    studies=slices2d_studies,
    reader=SingleSliceReader,
    options=(
        replace(
            LABEL,
            help=(
                "A class in the masks: liver=1, liver=1+2, liver=#ff0000; repeat. [default:"
                " liver=1]"
            ),
        ),
        IGNORE_OTHER_LABELS,
        DatasetOption(name="modality", help="CT, MR or another name of the images.", default="CT"),
        DatasetOption(
            name="pixel-spacing",
            help="Size of a pixel of PNG files in mm. [default: 1,1]",
            metavar="X,Y[,Z]",
        ),
        DatasetOption(
            name="patients",
            help="CSV (name, patient): whose slices these are.",
            type=Path,
            metavar="CSV",
        ),
    ),
    dataset_name="Slices2D",
    adapt=_adapt,
)
