"""One image of a pair, segmented beside its own and beside another patient's auxiliary image.

The common grid, the crop and the voxels of the segmented image stay those of the matching pair, bit
for bit; and nnU-Net adds up the logits of each image on their own instead of the joint ones, which
float16 would round with those of the other image. So a network that does not look at the auxiliary
image gives exactly the same mask.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor, nn

from nnunet_liver_ext.console import quiet
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.inference.native_grids import PreparedStudy, normalise_channel
from nnunet_liver_ext.networks.strategies import Strategy, unwrap
from nnunet_liver_ext.space.common_grid import image_on_grid
from nnunet_liver_ext.space.images import array
from nnunet_liver_ext.space.preregistration import preregister_pair

TINY = np.finfo(np.float32).tiny


class SeparateViews(nn.Module):
    """A strategy in evaluation whose views are stacked, (B, M·K, ...), instead of joined."""

    def __init__(self, strategy: Strategy) -> None:
        super().__init__()
        self.strategy = strategy

    @property
    def whole_volume(self) -> bool:
        return self.strategy.whole_volume

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.strategy.views(x), 1)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """nnU-Net's predictor loads the weights of each fold."""
        return self.strategy.load_state_dict(state_dict, *args, **kwargs)


class ViewPredictor:
    """Predicts the class probabilities of each image on its own."""

    def __init__(self, model: Model) -> None:
        """
        Args:
            model: of one of the package's trainers.

        Raises:
            InputError: it is of another trainer, which has no views.
        """
        network = unwrap(model.predictor.network)
        if not isinstance(network, Strategy):
            raise InputError(
                f"a model of {model.trainer} cannot be asked about one image of a pair at a time."
            )
        self.model = model
        self.labels = LabelManager(
            {name: label for label, name in enumerate(model.class_names)}, None
        )
        self.predictor = copy.copy(model.predictor)
        self.predictor.network = SeparateViews(network)
        heads = len(model.class_names) * len(model.segmented)
        self.predictor.label_manager = LabelManager(
            {"background": 0} | {str(n): n for n in range(1, heads)}, None
        )

    def preprocess(
        self, channels: np.ndarray, prepared: PreparedStudy
    ) -> tuple[Tensor, dict[str, Any]]:
        """nnU-Net's input (C, a, b, c) of channels (C, z, y, x), and what it needs to undo that."""
        configuration = self.predictor.configuration_manager
        properties = {"spacing": list(prepared.grid.spacing_mm)}
        with quiet():
            data, _, properties = configuration.preprocessor_class(verbose=False).run_case_npy(
                channels,
                None,
                properties,
                self.predictor.plans_manager,
                configuration,
                self.predictor.dataset_json,
            )
        return torch.from_numpy(np.ascontiguousarray(data)), properties

    def predict_views(self, data: Tensor, properties: dict[str, Any]) -> dict[str, np.ndarray]:
        """Class probabilities (K, z, y, x) on the common grid of each image that gets a mask."""
        with quiet():
            logits = self.predictor.predict_logits_from_preprocessed_data(data).cpu()
            views = logits.chunk(len(self.model.segmented))
            converted = [
                convert_predicted_logits_to_segmentation_with_correct_shape(
                    view,
                    self.predictor.plans_manager,
                    self.predictor.configuration_manager,
                    self.labels,
                    properties,
                    return_probabilities=True,
                )[1]
                for view in views
            ]
        return dict(zip(self.model.segmented, converted, strict=True))


def channel_index(model: Model, name: str) -> int:
    """Which channel of the model's input an image is: pre-registered pairs have image 2 first."""
    place = model.modalities.index(name)
    return place if model.pair is not None else 1 - place


def auxiliary_channel(
    model: Model, images: Mapping[str, sitk.Image], name: str, prepared: PreparedStudy
) -> np.ndarray:
    """The auxiliary image as conversion's channel (z, y, x) on the matching pair's grid.

    Args:
        model: says how.
        images: of the study, `name` being another patient's.
        name: of the auxiliary image.
        prepared: the matching pair.

    Raises:
        InputError: a pre-registered model's images cannot be registered.
    """
    if model.pair is None:
        moving, fixed = model.modalities
        _, warped, _ = preregister_pair(
            images[moving], images[fixed], model.dataset_json["conversion"]
        )
        return normalise_channel(model, array(warped).astype(np.float32), 1)
    channel = array(
        image_on_grid(images[name], prepared.grid, model.conversion.interpolation)
    ).astype(np.float32)
    return normalise_channel(model, channel, model.modalities.index(name))


def replace_channel(matching: np.ndarray, channel: int, auxiliary: np.ndarray) -> np.ndarray:
    """The channels with another auxiliary image, which nnU-Net crops as it crops the matching ones.

    nnU-Net crops to where any channel is not zero. Beyond that box the other image is cut off, and
    two opposite corners of the box hold the smallest number that is not zero if there is nothing
    else.

    Args:
        matching: channels of the matching pair, (C, z, y, x) float32.
        channel: which one is replaced.
        auxiliary: what by, (z, y, x).
    """
    box = _nonzero_box(matching)
    channels = matching.copy()
    channels[channel] = 0
    channels[channel][box] = auxiliary[box]
    for corner in (tuple(side.start for side in box), tuple(side.stop - 1 for side in box)):
        if not channels[(slice(None), *corner)].any():
            channels[(channel, *corner)] = TINY
    return channels


def _nonzero_box(channels: np.ndarray) -> tuple[slice, ...]:
    nonzero = (channels != 0).any(0)
    if not nonzero.any():
        raise InputError("both images are empty: every voxel is zero.")
    sides = []
    for axis in range(nonzero.ndim):
        along = np.flatnonzero(
            nonzero.any(tuple(other for other in range(nonzero.ndim) if other != axis))
        )
        sides.append(slice(int(along[0]), int(along[-1]) + 1))
    return tuple(sides)
