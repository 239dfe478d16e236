"""One study from its native images to masks on their native grids.

The images go onto the grid that conversion would have used, nnU-Net preprocesses and predicts
there, the joint probabilities of a pair are split into those of each image, and these are
interpolated onto each image's own grid before the class is decided: finer than resampling a label
map.
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
from nnunet_liver_ext.space.images import Grid, array, image_like, resample


@dataclass(frozen=True)
class Prediction:
    """What was found in one image, on its own grid."""

    mask: sitk.Image
    """Labels 0..K−1, uint8."""
    probabilities: np.ndarray
    """(K, z, y, x) float32, sums to 1."""


@dataclass(frozen=True)
class Prepared:
    """A study on its common grid, ready for nnU-Net."""

    channels: np.ndarray
    """(C, z, y, x) float32."""
    grid: Grid
    native: dict[str, Grid]
    """Grid of each image that was given; of the channels of one image, that of the first."""
    organ: np.ndarray | None = None
    """Organ mask on the first image's own grid, bool (z, y, x)."""


def prepare(model: Model, images: Mapping[str, sitk.Image]) -> Prepared:
    """Puts a study's images onto one common grid as at conversion, with the intensities that they
    got there.

    Args:
        model: says which images are needed, and how conversion put them onto a grid.
        images: by modality name; the organ mask, where one is needed, by the organ's.

    Raises:
        InputError: an image or the organ mask is missing that this model needs, they do not overlap
            in space, or an image has no contrast.
    """
    check_images(model, images)
    conversion = model.conversion
    native = {name: Grid.from_image(images[name]) for name in model.modalities if name in images}
    organ = None
    if conversion.layout == "preregistered":
        channels, grid = _preregistered(model, images)
    else:
        from nnunet_liver_ext.space.image_channels import resample_channels

        given = {name: images[name] for name in native}
        how = (conversion.spacing, conversion.interpolation)
        on_grid, grid = resample_channels(
            given, conversion.modalities, *how, pairs=conversion.layout == "pairs"
        )
        channels = [array(one) for one in on_grid]
    if conversion.layout == "images":
        native = {model.modalities[0]: native[model.modalities[0]]}
    organs = []
    if conversion.organ is not None:
        organ = _organ_mask(
            images[conversion.organ.name], native[model.modalities[0]], conversion.organ.name
        )
        organs = [_on_grid(organ, native[model.modalities[0]], grid)]
    names = conversion.channels
    channels = [
        normalised(model, channel, index, *organs) if names[index] in images else channel
        for index, channel in enumerate(channels)
    ]
    return Prepared(np.stack([*channels, *organs]).astype(np.float32), grid, native, organ)


def normalised(
    model: Model, channel: np.ndarray, index: int, organ: np.ndarray | None = None
) -> np.ndarray:
    """A channel (z, y, x) with the intensities of the model's dataset."""
    try:
        return model.conversion.intensities.apply(channel, organ, index=index)
    except InputError as error:
        raise InputError(f"the {model.conversion.channels[index]} image {error}") from None


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


def predict_prepared(model: Model, prepared: Prepared) -> dict[str, Prediction]:
    """Masks and probabilities of each given image on its own grid, by modality name."""
    return on_native_grids(probabilities_on_common_grid(model, prepared), prepared)


def probabilities_on_common_grid(model: Model, prepared: Prepared) -> dict[str, np.ndarray]:
    """Class probabilities (K, z, y, x) of each image that has a mask, by modality name."""
    with quiet():
        _, joint = model.predictor.predict_single_npy_array(
            prepared.channels, {"spacing": list(prepared.grid.spacing_mm)}, None, None, True
        )
    if model.pair is None:
        return {model.segmented[0]: joint}
    return dict(zip(model.modalities, split_probabilities(joint), strict=True))


def on_native_grids(
    probabilities: Mapping[str, np.ndarray], prepared: Prepared
) -> dict[str, Prediction]:
    """Masks and probabilities on the own grid of each image that was given, by modality name."""
    return {
        name: on_native_grid(probabilities[name], prepared.grid, grid)
        for name, grid in prepared.native.items()
        if name in probabilities
    }


def on_native_grid(probabilities: np.ndarray, grid: Grid, native: Grid) -> Prediction:
    """Interpolates class probabilities (K, z, y, x) onto another grid and decides for the most
    probable class."""
    return decided(interpolated(probabilities, grid, native), native)


def decided(probabilities: np.ndarray, grid: Grid) -> Prediction:
    """The most probable class of each voxel, from probabilities (K, z, y, x) on this grid."""
    return Prediction(image_like(probabilities.argmax(0).astype(np.uint8), grid), probabilities)


def interpolated(probabilities: np.ndarray, grid: Grid, native: Grid) -> np.ndarray:
    """Class probabilities (K, z, y, x) linearly interpolated onto another grid, float32; they sum
    to 1.

    Beyond the outermost voxels of `grid` there is background.
    """
    classes = [
        array(resample(image_like(one.astype(np.float32), grid), native, outside=float(label == 0)))
        for label, one in enumerate(probabilities)
    ]
    resampled = np.stack(classes)
    resampled /= resampled.sum(0)
    return resampled


def _preregistered(model: Model, images: Mapping[str, sitk.Image]) -> tuple[list[np.ndarray], Grid]:
    from nnunet_liver_ext.space.preregistration import preregister_pair

    moving, fixed = model.modalities
    fixed_on_grid, warped, _ = preregister_pair(
        images[moving], images[fixed], model.dataset_json["conversion"]
    )
    return [array(fixed_on_grid), array(warped)], Grid.from_image(fixed_on_grid)


def _organ_mask(mask: sitk.Image, grid: Grid, name: str) -> np.ndarray:
    if not Grid.from_image(mask).matches(grid):
        raise InputError(
            f"the {name} mask is not on the grid of its image ({Grid.from_image(mask)};"
            f" image: {grid})."
        )
    inside = array(mask) > 0
    if not inside.any():
        raise InputError(f"the {name} mask is empty.")
    return inside


def _on_grid(mask: np.ndarray, own: Grid, grid: Grid) -> np.ndarray:
    if own == grid:
        return mask.astype(np.uint8)
    from nnunet_liver_ext.space.common_grid import mask_on_grid

    return array(mask_on_grid(image_like(mask, own), grid, 2))
