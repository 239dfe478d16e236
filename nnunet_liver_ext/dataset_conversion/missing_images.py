"""Whether a study has what its dataset needs, and which annotated cases of pairs lack something."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_liver_ext.dataset_conversion.conversion_settings import ConversionSettings
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.studies.study import LIVER, Study

if TYPE_CHECKING:
    from nnunet_liver_ext.dataset_json.manifest import ManifestCase


def check_required_images(study: Study, settings: ConversionSettings) -> None:
    """InputError unless a study has the images and masks that it needs; names what is missing."""
    unknown = sorted(set(study.masks) - {*settings.modalities, LIVER})
    if unknown:
        raise InputError(
            f"has a mask of {unknown[0]}, but the images are {', '.join(settings.modalities)}."
        )
    for name in settings.modalities:
        if name in study.masks and name not in study.images:
            raise InputError(
                f"has a {name} mask but no {name} image; add the image or leave the mask out."
            )
    for rater, masks in study.raters.items():
        _check_rater(rater, masks, study, settings)
    if settings.pairs:
        _check_pair(study, settings)
        return
    missing = [name for name in settings.modalities if name not in study.images]
    if missing:
        raise InputError(
            f"has no {missing[0]} image; the channels are {', '.join(settings.modalities)}."
        )


def _check_rater(
    rater: str, masks: Mapping[str, Path], study: Study, settings: ConversionSettings
) -> None:
    wanted = {
        "pairs": set(settings.modalities),
        "preregistered": {settings.modalities[-1]},
        "images": {settings.modalities[0]},
    }
    if not masks.keys() & wanted[settings.layout] & study.images.keys():
        expected = " or ".join(sorted(wanted[settings.layout]))
        raise InputError(
            f"has no {expected} mask of rater {rater}, only {', '.join(masks) or 'none'}."
        )


def _check_pair(study: Study, settings: ConversionSettings) -> None:
    first, second = settings.modalities
    missing = [name for name in settings.modalities if name not in study.images]
    if len(missing) == 2:
        raise InputError(f"has neither a {first} nor a {second} image.")
    if missing and (settings.preregister or not settings.incomplete):
        what = "pre-registration" if settings.preregister else "a complete pair"
        raise InputError(f"has no {missing[0]} image; {what} needs {first} and {second}.")
    masks = [name for name in settings.modalities if name in study.masks]
    if settings.preregister and masks == [first]:
        raise InputError(f"has no {second} mask, the one that counts with pre-registration.")
    if len(masks) == 1 and not settings.preregister and not settings.incomplete:
        lacking = second if masks == [first] else first
        raise InputError(f"has no {lacking} mask; a complete pair needs {first} and {second}.")


def find_incomplete_pairs(
    cases: Mapping[str, ManifestCase], settings: ConversionSettings
) -> dict[str, dict[str, list[str]]]:
    """The pairs with a mask that lack an image or the other mask, and what each of them has.

    Returns:
        {"P003_S1": {"images": ["T1"], "masks": ["T1"]}}, as dataset.json keeps it; {} for other
        layouts.
    """
    if settings.layout != "pairs":
        return {}
    incomplete = {}
    for name in sorted(cases):
        images = [modality for modality in settings.modalities if modality in cases[name].sources]
        masks = [
            modality
            for modality in settings.modalities
            if f"{modality} mask" in cases[name].sources
        ]
        if masks and (len(images) < 2 or len(masks) < 2):
            incomplete[name] = {"images": images, "masks": masks}
    return incomplete
