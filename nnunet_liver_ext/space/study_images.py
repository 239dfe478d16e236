"""What is wrong or strange about the images of one study, for conversion and prediction alike.

Images of which nothing sensible can follow are refused; of others a note says what a user should
know. Each image by itself has been checked when it was read (`images`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.dicom import read_patient_id
from nnunet_liver_ext.space.grid import Grid
from nnunet_liver_ext.space.padding import find_padding
from nnunet_liver_ext.space.stated_geometry import has_scanner_coordinates, read_stated_geometry

SMALLEST_MM, LARGEST_MM = 50.0, 2200.0
"""The longest side of an abdomen's image is between these: in cm or m taken for mm it is not."""


def check_study_images(
    images: Mapping[str, sitk.Image], files: Mapping[str, Path], *, unregistered: bool
) -> tuple[str, ...]:
    """Refuses images that make no study, and says what is strange about the others.

    Args:
        images: 3D, by modality, as they were read.
        files: those of them that are files or DICOM folders.
        unregistered: they lie on grids of their own and are put together by their scanner
            coordinates; else they are channels of one image.

    Returns:
        Notes, a sentence each.

    Raises:
        InputError: an image is constant, two are one and the same, or images without scanner
            coordinates would be put together by them.
    """
    constant = _find_constant(images)
    for name, value in constant.items():
        if images[name].GetSize()[2] > 1:
            raise InputError(
                f"{files.get(name, f'the {name} image')}: is constant, {value:g} in every voxel (as"
                " a float of 32 bits), so there is nothing to see; give another file."
            )
    _refuse_twins({name: image for name, image in images.items() if name not in constant})
    lost = [name for name in images if name in files and not has_scanner_coordinates(files[name])]
    if len(images) > 1 and lost and (unregistered or not _on_one_grid(images)):
        raise InputError(
            f"{files[lost[0]]}: gives no scanner coordinates (qform and sform code 0 in NIfTI, no"
            " space or origin in NRRD and MetaImage), so it would be laid over the other image by"
            " chance; export it again with them."
        )
    return (
        *(f"the {name} image is constant, {value:g}." for name, value in constant.items()),
        *_note_coordinates(lost),
        *_note_other_patient(files),
        *_note_size(images, files),
        *_note_padding(images),
    )


def _find_constant(images: Mapping[str, sitk.Image]) -> dict[str, float]:
    """The value of each image that has but one, in the floats that networks compute with."""
    values = {name: sitk.GetArrayViewFromImage(image) for name, image in images.items()}
    ends = {name: (np.float32(own.min()), np.float32(own.max())) for name, own in values.items()}
    return {name: float(low) for name, (low, high) in ends.items() if not low < high}


def _refuse_twins(images: Mapping[str, sitk.Image]) -> None:
    for first, second in combinations(images, 2):
        values, others = (sitk.GetArrayViewFromImage(images[name]) for name in (first, second))
        if np.array_equal(values, others):
            raise InputError(
                f"the {first} and the {second} image are one and the same, every voxel is equal;"
                " give each its own file."
            )


def _on_one_grid(images: Mapping[str, sitk.Image]) -> bool:
    first, *others = (Grid.from_image(image) for image in images.values())
    return all(first.matches(other) for other in others)


def _note_coordinates(lost: Sequence[str]) -> Iterator[str]:
    for name in lost:
        yield (
            f"the {name} image gives no scanner coordinates: it cannot be laid over another image,"
            " and left and right may be exchanged."
        )


def _note_other_patient(files: Mapping[str, Path]) -> Iterator[str]:
    known = {name: read_patient_id(path) for name, path in files.items() if path.is_dir()}
    known = {name: patient for name, patient in known.items() if patient}
    for first, second in combinations(known, 2):
        if known[first] != known[second]:
            yield (
                f"the {first} and the {second} image have different PatientIDs in DICOM: are they"
                " of one patient?"
            )
            return


def _note_size(images: Mapping[str, sitk.Image], files: Mapping[str, Path]) -> Iterator[str]:
    for name, image in images.items():
        if 1 in image.GetSize():  # single slices have no size to speak of
            continue
        stated = read_stated_geometry(files[name]) if name in files else None
        if stated is not None and not stated.spacing:
            yield f"the {name} image does not say how large its voxels are; they count as 1 mm."
            continue
        sides = [n * mm for n, mm in zip(image.GetSize(), image.GetSpacing(), strict=True)]
        if not SMALLEST_MM <= max(sides) <= LARGEST_MM:
            yield (
                f"the {name} image is {' x '.join(f'{mm:.3g}' for mm in sides)} mm (x y z), no size"
                " of an abdomen: is its spacing in mm?"
            )


def _note_padding(images: Mapping[str, sitk.Image]) -> Iterator[str]:
    for name, image in images.items():
        padding = find_padding(sitk.GetArrayViewFromImage(image))
        if padding is not None and padding.outweighs_image:
            yield (
                f"the {name} image is padded with {padding.value:g} ({padding.share:.0%} of its"
                f" voxels): that counts as {padding.background:g} where the image is resampled or"
                " normalised at conversion; elsewhere it stays, and a z-score would count it."
            )
