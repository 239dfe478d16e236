"""nnU-Net's predictor, which shows a whole volume at once to networks that can take one."""

from __future__ import annotations

import warnings

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.helpers import empty_cache
from torch import Tensor, nn

from nnunet_liver_ext.networks.strategies import unwrap
from nnunet_liver_ext.trainers.players import autocast


class LiverPredictor(nnUNetPredictor):
    """Tiles as nnU-Net does, unless the network takes whole volumes (`whole_volume`).

    Then nothing is approximated.

    Networks of unpadded convolutions tile themselves with their true surroundings, slice networks
    go slice by slice, so neither needs a window that slides over the volume and averages what it
    saw without its neighbours.
    """

    network: nn.Module

    def predict_sliding_window_return_logits(self, input_image: Tensor) -> Tensor:
        """Logits (K, z, y, x) of a preprocessed image (C, z, y, x)."""
        if not getattr(unwrap(self.network), "whole_volume", False):
            return super().predict_sliding_window_return_logits(input_image)
        self.network = unwrap(self.network).to(self.device).eval()
        try:
            with torch.no_grad(), autocast(self.device):
                return self._predict_at_once(input_image[None].to(self.device))[0].float()
        except torch.OutOfMemoryError:
            size = " x ".join(map(str, input_image.shape[1:]))
            warnings.warn(
                f"{size} voxels do not fit into the GPU's memory at once; taken in tiles instead.",
                stacklevel=2,
            )
        empty_cache(self.device)
        return super().predict_sliding_window_return_logits(input_image)

    def _predict_at_once(self, image: Tensor) -> Tensor:
        """Logits (1, K, z, y, x) of an image (1, C, z, y, x), in a 2D configuration by slices."""
        if len(self.configuration_manager.patch_size) == 3:
            logits: Tensor = self._internal_maybe_mirror_and_predict(image)
            return logits
        slices = (self._internal_maybe_mirror_and_predict(part) for part in image.unbind(2))
        return torch.stack(list(slices), 2)
