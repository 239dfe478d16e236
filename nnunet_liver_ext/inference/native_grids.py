"""A study from its native images to the common grid, and its probabilities back to native grids.

The images go onto the grid that conversion would have used, nnU-Net preprocesses and predicts
there, the joint probabilities of a pair are split into those of each image, and their logarithms
are interpolated onto each image's own grid before the class is decided: finer than resampling a
label map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.console import quiet
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.pairing import split_probabilities
from nnunet_liver_ext.space.image_channels import resample_channels
from nnunet_liver_ext.space.images import Grid, array, image_like, resample
from nnunet_liver_ext.space.mask_resampling import mask_on_grid
from nnunet_liver_ext.space.preregistration import preregister_pair

SMALLEST = 1e-7
"""Smaller probabilities are interpolated as this one."""


@dataclass(frozen=True)
class ImagePrediction:
    """What models say of one image, on its own grid."""

    mask: sitk.Image
    """The most probable class: labels 0..K−1, uint8."""
    probabilities: np.ndarray
    """(K, z, y, x) float32, sums to 1."""


@dataclass(frozen=True)
class PreparedStudy:
    """A study on its common grid, ready for nnU-Net."""

    channels: np.ndarray
    """(C, z, y, x) float32."""
    grid: Grid
    native: dict[str, Grid]
    """Grid of each image that was given; of the channels of one image, that of the first."""
    organ: np.ndarray | None = None
    """Organ mask on the first image's own grid, bool (z, y, x)."""


def prepare_study(model: Model, images: Mapping[str, sitk.Image]) -> PreparedStudy:
    """Puts a study's images onto one common grid, with the intensities that conversion gave them.

    Args:
        model: says which images are needed, and how conversion put them onto a grid.
        images: by modality name; the organ mask, where one is needed, by the organ's.

    Raises:
        InputError: an image or the organ mask is missing that this model needs, they do not overlap
            in space, or an image has no contrast.
    """
    check_images(model, images)
    native = {name: Grid.from_image(images[name]) for name in model.modalities if name in images}
    channels, grid = _channels_on_grid(model, images)
    if model.conversion.layout == "images":
        native = {model.modalities[0]: native[model.modalities[0]]}
    organ, organ_channels = None, []
    if model.conversion.organ is not None:
        name, first = model.conversion.organ.name, native[model.modalities[0]]
        organ = _organ_mask(images[name], first, name)
        organ_channels = [_organ_on_grid(organ, first, grid)]
    channels = [
        normalise_channel(model, channel, index, *organ_channels) if name in images else channel
        for index, (name, channel) in enumerate(
            zip(model.conversion.channels, channels, strict=True)
        )
    ]
    stacked = np.stack([*channels, *organ_channels]).astype(np.float32)
    return PreparedStudy(stacked, grid, native, organ)


def check_images(model: Model, images: Mapping[str, sitk.Image]) -> None:
    """InputError if an image or an organ mask is missing that this model needs."""
    missing = [name for name in model.modalities if name not in images]
    if missing and (not model.takes_lone_images or len(missing) == len(model.modalities)):
        raise InputError(
            f"has no {' and no '.join(missing)} image, and {model.trainer} needs"
            f" {' and '.join(model.modalities)}."
        )
    organ = model.conversion.organ
    if organ is not None and organ.name not in images:
        raise InputError(
            f"has no {organ.name} mask, which {model.trainer} needs: put"
            f" NAME_{organ.name}_mask.nii.gz beside the image, or give a model that finds it with"
            f" --{organ.name}-model."
        )


def normalise_channel(
    model: Model, channel: np.ndarray, index: int, organ: np.ndarray | None = None
) -> np.ndarray:
    """A channel (z, y, x) with the intensities of the model's dataset."""
    try:
        return model.conversion.intensities.apply(channel, organ, index=index)
    except InputError as error:
        raise InputError(f"the {model.conversion.channels[index]} image {error}") from None


def probabilities_on_common_grid(model: Model, prepared: PreparedStudy) -> dict[str, np.ndarray]:
    """Class probabilities (K, z, y, x) of each image that has a mask, by modality name."""
    with quiet():
        _, joint = model.predictor.predict_single_npy_array(
            prepared.channels, {"spacing": list(prepared.grid.spacing_mm)}, None, None, True
        )
    if model.pair is None:
        return {model.segmented[0]: joint}
    return dict(zip(model.modalities, split_probabilities(joint), strict=True))


def decide_on_native_grid(probabilities: np.ndarray, grid: Grid, native: Grid) -> ImagePrediction:
    """The most probable class on another grid, from probabilities (K, z, y, x) on `grid`."""
    return decide(interpolate_probabilities(probabilities, grid, native), native)


def decide(probabilities: np.ndarray, grid: Grid) -> ImagePrediction:
    """The most probable class of each voxel, from probabilities (K, z, y, x) on this grid."""
    return ImagePrediction(
        image_like(probabilities.argmax(0).astype(np.uint8), grid), probabilities
    )


def interpolate_probabilities(probabilities: np.ndarray, grid: Grid, native: Grid) -> np.ndarray:
    """Class probabilities (K, z, y, x) interpolated onto another grid, float32.

    Their logarithms are interpolated linearly, as nnU-Net does with logits: of a network that is
    sure, the probabilities themselves are nearly 0 or 1, and deciding between them takes the
    nearest slice. They sum to 1; beyond the outermost voxels of `grid` there is background.

    Args:
        probabilities: on `grid`.
        grid: theirs.
        native: where to put them.
    """
    logarithms = np.stack(
        [
            array(
                resample(
                    image_like(np.log(np.maximum(values, SMALLEST)).astype(np.float32), grid),
                    native,
                    outside=0.0 if label == 0 else float(np.log(SMALLEST)),
                )
            )
            for label, values in enumerate(probabilities)
        ]
    )
    resampled = np.exp(logarithms - logarithms.max(0))
    resampled /= resampled.sum(0)
    return resampled


def _channels_on_grid(
    model: Model, images: Mapping[str, sitk.Image]
) -> tuple[list[np.ndarray], Grid]:
    """The channels (z, y, x) without the organ mask, and their grid, as conversion makes them."""
    conversion = model.conversion
    if conversion.layout == "preregistered":
        moving, fixed = model.modalities
        fixed_on_grid, warped, _ = preregister_pair(
            images[moving], images[fixed], model.dataset_json["conversion"]
        )
        return [array(fixed_on_grid), array(warped)], Grid.from_image(fixed_on_grid)
    given = {name: images[name] for name in model.modalities if name in images}
    on_grid, grid = resample_channels(
        given,
        conversion.modalities,
        conversion.spacing,
        conversion.interpolation,
        pairs=conversion.layout == "pairs",
    )
    return [array(image) for image in on_grid], grid


def _organ_mask(mask: sitk.Image, grid: Grid, name: str) -> np.ndarray:
    """The organ mask as bool (z, y, x); InputError if it is empty or not on this grid."""
    if not Grid.from_image(mask).matches(grid):
        raise InputError(
            f"the {name} mask is not on the grid of its image ({Grid.from_image(mask)};"
            f" image: {grid})."
        )
    inside = array(mask) > 0
    if not inside.any():
        raise InputError(f"the {name} mask is empty.")
    return inside


def _organ_on_grid(mask: np.ndarray, native: Grid, grid: Grid) -> np.ndarray:
    """The organ mask (z, y, x) on the common grid, uint8."""
    if native == grid:
        return mask.astype(np.uint8)
    return array(mask_on_grid(image_like(mask, native), grid, 2))
