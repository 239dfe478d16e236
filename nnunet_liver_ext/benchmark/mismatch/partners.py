"""Which other patient's image takes the place of a study's auxiliary image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.study import Study


@dataclass(frozen=True)
class Partners:
    """The studies that are predicted, and who lends them images; the same for every model."""

    studies: tuple[Study, ...]
    """With both images and at least one mask, sorted by name."""
    lender: Mapping[str, Study]
    """The study of another patient whose image is taken, by name of the study."""
    seed: int
    left_out: tuple[str, ...]
    """Names of the studies without both images or without a mask."""

    @classmethod
    def draw(
        cls, studies: Sequence[Study], modalities: Sequence[str], *, seed: int = 0
    ) -> Partners:
        """Draws who takes whose images.

        Args:
            studies: all that there are; those without a mask are none to predict, but lend their
                images.
            modalities: names of image 1 and image 2.
            seed: of the draw, 0 or more.

        Raises:
            InputError: fewer than two patients have both images, or no study has a mask.
        """
        complete = [study for study in studies if all(name in study.images for name in modalities)]
        lender = draw_lenders(complete, seed=seed)
        used = sorted((study for study in complete if study.masks), key=lambda study: study.name)
        if not used:
            raise InputError("no study with both images has a mask to measure against.")
        left_out = sorted({study.name for study in studies} - {study.name for study in used})
        return cls(tuple(used), lender, seed, tuple(left_out))

    def lender_names(self) -> dict[str, str]:
        """Name of the lender of each study that is predicted."""
        return {study.name: self.lender[study.name].name for study in self.studies}


def draw_lenders(studies: Sequence[Study], *, seed: int) -> dict[str, Study]:
    """For each study one of another patient, by name of the study.

    Patients are shuffled and each takes the images of the next one, so nobody keeps his own and
    everybody's are taken. Of a patient with several studies the n-th takes the n-th of the other
    one, from the start again if there are fewer.

    Args:
        studies: with both images.
        seed: of the shuffling; the same studies and seed give the same partners for every model.

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
    lenders = {}
    for patient, borrowers in by_patient.items():
        lending = by_patient[following[patient]]
        for number, study in enumerate(borrowers):
            lenders[study.name] = lending[number % len(lending)]
    return lenders
