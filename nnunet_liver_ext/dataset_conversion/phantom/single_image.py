"""One image of a synthetic abdomen with its mask: the T1 of a pair, or a CT of that anatomy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.phantom.acquisition import acquire, grid_around
from nnunet_liver_ext.dataset_conversion.phantom.pair import (
    Anatomy,
    check_numbers,
    make_anatomy,
    make_pair,
)
from nnunet_liver_ext.dataset_conversion.phantom.randomness import generator
from nnunet_liver_ext.dataset_conversion.phantom.scan_protocols import (
    Difficulty,
    ScanProtocol,
    choose_protocol,
)
from nnunet_liver_ext.dataset_conversion.phantom.scanner import Scanner
from nnunet_liver_ext.dataset_conversion.phantom.tomography import AIR_HU, hounsfield_units
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import image_like

Modality = Literal["MR", "CT"]
NOISE_HU = {"demo": 6.0, "study": 14.0}


@dataclass(frozen=True)
class PhantomImage:
    """An image, and what is known about it. Masks and labels are uint8 images on its grid."""

    image: sitk.Image
    mask: sitk.Image
    """1 where an annotator sees the liver (vessels and lesions included), with the annotator's
    errors."""
    true_mask: sitk.Image
    lesions: sitk.Image
    """0, or the lesion's number 1, 2, ..."""


def make_image(
    seed: int,
    *,
    modality: Modality = "MR",
    difficulty: Difficulty = "study",
    anatomy_seed: int | None = None,
    lesions: int | None = None,
) -> PhantomImage:
    """An image of a synthetic abdomen, the same to the bit for the same arguments.

    Args:
        seed: of everything; not negative.
        modality: "MR" is the T1 of `make_pair`, "CT" the same patient in Hounsfield units.
        difficulty: "study" or "demo", as in `make_pair`.
        anatomy_seed: of the patient alone. Default: `seed`.
        lesions: how many, 0..20; default 0 to 5 by chance.

    Raises:
        InputError: an argument is out of range.
    """
    if modality == "MR":
        pair = make_pair(seed, difficulty=difficulty, anatomy_seed=anatomy_seed, lesions=lesions)
        return PhantomImage(pair.t1, pair.t1_mask, pair.t1_true_mask, pair.t1_lesions)
    if modality != "CT":
        raise InputError(f"a phantom image is MR or CT, not {modality!r}.")
    protocol = choose_protocol(difficulty)
    check_numbers(seed, anatomy_seed, lesions)
    patient = seed if anatomy_seed is None else anatomy_seed
    anatomy = make_anatomy(patient, protocol, lesions)
    return _scan_ct(anatomy, protocol, patient, seed, NOISE_HU[difficulty])


def _scan_ct(
    anatomy: Anatomy, protocol: ScanProtocol, patient: int, seed: int, noise_hu: float
) -> PhantomImage:
    rng = generator(seed, "ct")
    jitter = rng.uniform(-6, 6, 3) * (1, 1, 0.5)
    middle = (jitter[0], jitter[1], anatomy.liver_centre_z + 4 + jitter[2])
    grid = grid_around(middle, protocol.t1_size, protocol.t1_spacing)
    units = hounsfield_units(
        anatomy.tissue, anatomy.grid.spacing_mm, generator(patient, "hounsfield")
    )
    # what lies beyond the canvas is air: 0 once air is
    values = (
        acquire(image_like(units - np.float32(AIR_HU), anatomy.grid), grid, subslices=2) + AIR_HU
    )
    values += noise_hu * rng.standard_normal(values.shape, dtype=np.float32)
    scanner = Scanner(anatomy.grid, grid, None, 2)
    mask, true_mask = scanner.masks(
        anatomy.liver.mask, generator(seed, "annotation"), protocol.annotation_mm[0], 0.0
    )
    image = image_like(np.rint(np.maximum(values, AIR_HU - 24)).astype(np.int16), grid)
    return PhantomImage(image, mask, true_mask, scanner.labels(anatomy.liver.lesions))
