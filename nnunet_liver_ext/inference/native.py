"""One study from its native images to masks on their native grids.

The images go onto the common grid that conversion would have used, nnU-Net preprocesses and predicts there, the joint
probabilities are split into those of each image, and these are interpolated onto each image's own grid before the class
is decided: finer than resampling a label map.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.console import quiet
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.images import Grid, array, image_like, resample
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.pairing import split_probabilities

if TYPE_CHECKING:
    from nnunet_liver_ext.dataset_conversion.common_grid import Interpolation, Spacing


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
    """Grid of each image that was given."""


def prepare(model: Model, images: Mapping[str, sitk.Image]) -> Prepared:
    """Puts a study's images onto one common grid as at conversion.

    Args:
        model: says which images are needed, and how conversion put them onto a grid.
        images: by modality name.

    Raises:
        InputError: an image is missing that this model needs, or the two do not overlap in space.
    """
    check_images(model, images)
    native = {name: Grid.of(images[name]) for name in model.modalities if name in images}
    if model.pair is None:
        return _preregistered(model, images, native)
    from nnunet_liver_ext.dataset_conversion.common_grid import common_grid, image_on_grid

    spacing, interpolation = conversion_of(model)
    grid = common_grid([images[name] for name in native], spacing)
    channels = [
        array(image_on_grid(images[name], grid, interpolation)) if name in native else np.zeros(grid.size[::-1], np.float32)
        for name in model.modalities
    ]
    return Prepared(np.stack(channels).astype(np.float32), grid, native)


def check_images(model: Model, images: Mapping[str, sitk.Image]) -> None:
    """InputError if an image is missing that this model needs."""
    missing = [name for name in model.modalities if name not in images]
    if missing and (not model.takes_lone_images or len(missing) == len(model.modalities)):
        raise InputError(
            f"has no {' and no '.join(missing)} image, and {model.trainer} needs {' and '.join(model.modalities)}."
        )


def conversion_of(model: Model) -> tuple[Spacing, Interpolation]:
    """How conversion put this model's images onto their common grid."""
    from nnunet_liver_ext.dataset_conversion.common_grid import DEFAULT_SPACING, parse_spacing

    conversion = model.dataset_json.get("conversion", {})
    return parse_spacing(conversion.get("spacing", DEFAULT_SPACING)), conversion.get("interpolation", "bspline")


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
        return {model.dataset_json["preregistered"]["fixed"]: joint}
    return dict(zip(model.modalities, split_probabilities(joint), strict=True))


def on_native_grids(probabilities: Mapping[str, np.ndarray], prepared: Prepared) -> dict[str, Prediction]:
    """Masks and probabilities on the own grid of each image that was given, by modality name."""
    return {
        name: on_native_grid(probabilities[name], prepared.grid, grid)
        for name, grid in prepared.native.items()
        if name in probabilities
    }


def on_native_grid(probabilities: np.ndarray, grid: Grid, native: Grid) -> Prediction:
    """Interpolates class probabilities (K, z, y, x) onto another grid and decides for the most probable class."""
    return decided(interpolated(probabilities, grid, native), native)


def decided(probabilities: np.ndarray, grid: Grid) -> Prediction:
    """The most probable class of each voxel, from probabilities (K, z, y, x) on this grid."""
    return Prediction(image_like(probabilities.argmax(0).astype(np.uint8), grid), probabilities)


def interpolated(probabilities: np.ndarray, grid: Grid, native: Grid) -> np.ndarray:
    """Class probabilities (K, z, y, x) linearly interpolated onto another grid, float32; they sum to 1.

    Beyond the outermost voxels of `grid` there is background.
    """
    classes = [
        array(resample(image_like(one.astype(np.float32), grid), native, outside=float(label == 0)))
        for label, one in enumerate(probabilities)
    ]
    resampled = np.stack(classes)
    resampled /= resampled.sum(0)
    return resampled


def _preregistered(model: Model, images: Mapping[str, sitk.Image], native: dict[str, Grid]) -> Prepared:
    from nnunet_liver_ext.dataset_conversion.registration import preregister_pair

    moving, fixed = model.modalities
    fixed_on_grid, warped, _ = preregister_pair(images[moving], images[fixed], model.dataset_json["conversion"])
    channels = np.stack([array(fixed_on_grid), array(warped)]).astype(np.float32)
    return Prepared(channels, Grid.of(fixed_on_grid), native)
