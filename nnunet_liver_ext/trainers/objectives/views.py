"""What an objective sees of a batch: views, one for each image with a mask of its own.

B batch, M images of a case, K classes, ... spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.nn import functional

from nnunet_liver_ext.networks.strategies import Levels, each_level, in_two
from nnunet_liver_ext.pairing import PairLabels, split_codes, split_logits


@dataclass(frozen=True)
class View:
    """One image with its own mask, as a batch."""

    name: str
    """The modality ("T1"), or "image" in an ordinary dataset."""
    image: Tensor
    """(B, 1, ...); all channels (B, C, ...) in an ordinary dataset."""
    logits: Levels
    """(B, K, ...), with deep supervision a list from fine to coarse; None where nobody needs the segmentor."""
    target: Levels
    """Labels (B, 1, ...), or a list of them."""

    @property
    def labels(self) -> Tensor:
        """Annotation at full resolution, (B, 1, ...)."""
        return finest(self.target)

    def detached(self) -> View:
        """The view without its graph into the segmentor."""
        return replace(self, logits=None if self.logits is None else each_level(Tensor.detach, self.logits))

    def annotation(self, num_classes: int) -> Tensor:
        """Foreground classes of the annotation as 0 and 1, (B, K − 1, ...), float32."""
        one_hot = functional.one_hot(self.labels[:, 0].long().clamp_min(0), num_classes)
        return one_hot.movedim(-1, 1)[:, 1:].float()

    def prediction(self) -> Tensor:
        """Probabilities of the foreground classes at full resolution, (B, K − 1, ...), float32."""
        return finest(self.logits).float().softmax(1)[:, 1:]


def views_of(pair: PairLabels | None, data: Tensor, output: Any, target: Levels, *, joint: bool) -> list[View]:
    """The views of a batch.

    Args:
        pair: None for an ordinary dataset.
        data: (B, M, ...).
        output: of a strategy, or None where nobody needs it: the views then have no logits.
        target: nnU-Net's labels (B, 1, ...), or a list of them.
        joint: the output is nnU-Net's logits (of a network in evaluation mode) rather than the strategy's views.
    """
    if pair is None:
        return [View("image", data, None if output is None else output[0], target)]
    logits: Sequence[Any] = (None, None)
    if output is not None:
        logits = in_two(split_logits, output) if joint else output
    targets = in_two(lambda level: split_codes(level, pair.num_classes), target)
    return [View(name, data[:, i : i + 1], logits[i], targets[i]) for i, name in enumerate(pair.modalities)]


def finest(levels: Levels) -> Tensor:
    """The full resolution of a tensor or of a list of levels."""
    return levels if isinstance(levels, Tensor) else levels[0]
