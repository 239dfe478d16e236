"""Which other patient's image takes the place of a study's auxiliary image, and where it is put."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid
from nnunet_liver_ext.studies.study import Study

Alignment = Literal["scanner", "centre"]
LEAST_COVERED = 0.5
"""Share of the own image's field of view that another patient's must cover where its scanner
coordinates put it."""
POINTS = 24
"""Along each axis, to find that share."""


@dataclass(frozen=True)
class Placed:
    """Another patient's image, put where the own one was."""

    image: sitk.Image
    alignment: Alignment
    """"scanner": where its scanner coordinates are; "centre": moved, so that the centres of both
    fields of view coincide."""
    covered: float
    """Share of the own image's field of view that it covers, 0..1."""


def other_studies(studies: Sequence[Study], *, seed: int) -> dict[str, Study]:
    """For each study one of another patient, by name of the study.

    Patients are shuffled and each takes the images of the next one, so nobody keeps his own and
    everybody's are taken. Of a patient with several studies the n-th takes the n-th of the other
    one, from the start again if there are fewer.

    Args:
        studies: with both images.
        seed: of the shuffling; the same studies and seed give the same pairs, whatever the model.

    Raises:
        InputError: fewer than two patients.
    """
    by_patient: dict[str, list[Study]] = {}
    for study in sorted(studies, key=lambda study: (study.patient, study.name)):
        by_patient.setdefault(study.patient, []).append(study)
    if len(by_patient) < 2:
        patients = "one patient" if by_patient else "no patient"
        raise InputError(
            f"there is {patients} with both images; mismatched pairs need two patients or more."
        )
    order = np.random.default_rng(seed).permutation(sorted(by_patient)).tolist()
    following = dict(zip(order, [*order[1:], order[0]], strict=True))
    return {
        study.name: by_patient[following[patient]][number % len(by_patient[following[patient]])]
        for patient, own in by_patient.items()
        for number, study in enumerate(own)
    }


def placed(other: sitk.Image, own: Grid) -> Placed:
    """Another patient's image where its scanner coordinates put it, or centred on the own one if
    they are too far apart.

    Args:
        other: its image.
        own: grid of the image whose place it takes.
    """
    covered = covered_share(own, Grid.from_image(other))
    if covered >= LEAST_COVERED:
        return Placed(other, "scanner", covered)
    moved = sitk.Image(other)
    shift = own.corners().mean(0) - Grid.from_image(other).corners().mean(0)
    moved.SetOrigin((np.array(other.GetOrigin()) + shift).tolist())
    return Placed(moved, "centre", covered_share(own, Grid.from_image(moved)))


def covered_share(own: Grid, other: Grid) -> float:
    """Share of the field of view of `own` that lies in that of `other`, 0..1, from points spread
    evenly."""
    steps = (np.arange(POINTS) + 0.5) / POINTS
    index = np.stack(
        np.meshgrid(*[steps * size - 0.5 for size in own.size], indexing="ij"), -1
    ).reshape(-1, 3)
    points = index @ _axes(own).T + np.array(own.origin)
    in_other = (points - np.array(other.origin)) @ np.linalg.inv(_axes(other)).T
    inside = (in_other >= -0.5) & (in_other <= np.array(other.size) - 0.5)
    return float(inside.all(1).mean())


def exchanged(
    images: Mapping[str, sitk.Image], name: str, other: sitk.Image
) -> tuple[dict[str, sitk.Image], Placed]:
    """The images of a study with one of them replaced by another patient's, and how that was put
    there."""
    put = placed(other, Grid.from_image(images[name]))
    return {**images, name: put.image}, put


def _axes(grid: Grid) -> np.ndarray:
    """Columns: one step along each index axis, in mm."""
    return np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing)
