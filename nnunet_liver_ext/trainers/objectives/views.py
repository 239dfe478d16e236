"""What an objective sees of a batch: views, one for each image with a mask of its own.

B batch, M images of a case, K classes, ... spatial axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nnunet_liver_ext.losses.voxel_terms import NOT_COUNTED
from nnunet_liver_ext.networks.strategies import Levels, map_levels, split_levels
from nnunet_liver_ext.pairing import PairLabels, split_codes, split_logits


@dataclass(frozen=True)
class View:
    """One image with its own mask, as a batch."""

    name: str
    """The modality ("T1"), or "image" in an ordinary dataset."""
    image: Tensor
    """(B, 1, ...); all channels (B, C, ...) in an ordinary dataset."""
    logits: Levels
    """(B, K, ...), with deep supervision a list from fine to coarse; None where nobody needs the
    segmentor."""
    target: Levels
    """Labels (B, 1, ...), or a list of them; NOT_COUNTED where nothing is known. (B, R, ...) if
    there are R regions."""

    @property
    def labels(self) -> Tensor:
        """Annotation at full resolution, (B, 1, ...)."""
        return finest_level(self.target)

    def detach(self) -> View:
        """The view without its graph into the segmentor."""
        return replace(
            self, logits=None if self.logits is None else map_levels(Tensor.detach, self.logits)
        )

    def annotation(self, num_classes: int) -> Tensor:
        """Foreground classes of the annotation as 0 and 1, (B, K − 1, ...), float32."""
        one_hot = functional.one_hot(self.labels[:, 0].long().clamp_min(0), num_classes)
        return one_hot.movedim(-1, 1)[:, 1:].float()

    def prediction(self) -> Tensor:
        """Probabilities of the foreground classes at full resolution, (B, K − 1, ...), float32."""
        return finest_level(self.logits).float().softmax(1)[:, 1:]


@dataclass(frozen=True)
class Annotations:
    """What of a batch is annotated, beside its labels; the default is everything."""

    of_images: Sequence[Sequence[bool]] | None = None
    """Which cases of the batch have the mask of each image of a pair; None: all."""
    organ: bool = False
    """Whether the target's second channel is an organ mask."""
    organ_dilation: tuple[int, ...] | None = None
    """Only what lies within the organ mask, dilated by so many voxels along each axis, counts;
    None: everything."""


EVERYTHING = Annotations()


def make_views(
    pair: PairLabels | None,
    data: Tensor,
    output: Any,
    target: Levels,
    *,
    joint: bool,
    annotations: Annotations = EVERYTHING,
) -> list[View]:
    """The views of a batch.

    Args:
        pair: None for an ordinary dataset.
        data: (B, M, ...).
        output: of a strategy, or None where nobody needs it: the views then have no logits.
            Networks of unpadded convolutions give the centre of the patch only; image and target
            are cropped to it.
        target: nnU-Net's labels (B, 1, ...), or a list of them; with an organ mask as their second
            channel where the dataset has one.
        joint: the output is nnU-Net's logits (of a network in evaluation mode) rather than the
            strategy's views.
        annotations: cases without a mask of an image are left out of its view; voxels that do not
            count become NOT_COUNTED.
    """
    if pair is None:
        logits = output if output is None or joint else output[0]
        if annotations.organ:
            target = map_levels(
                lambda level: mark_not_counted(
                    level, annotations.organ_dilation, finest_level(target)
                ),
                target,
            )
        return [_crop_to_output(View("image", data, logits, target))]
    of_images: Sequence[Any] = (None, None)
    if output is not None:
        of_images = split_levels(split_logits, output) if joint else output
    targets = split_levels(lambda level: split_codes(level, pair.num_classes), target)
    views = [
        View(name, data[:, i : i + 1], of_images[i], targets[i])
        for i, name in enumerate(pair.modalities)
    ]
    if annotations.of_images is not None:
        views = [
            _select_annotated(view, cases)
            for view, cases in zip(views, annotations.of_images, strict=True)
            if any(cases)
        ]
    return [_crop_to_output(view) for view in views]


def mark_not_counted(
    labels: Tensor, organ_dilation: tuple[int, ...] | None, full: Tensor
) -> Tensor:
    """Labels (B, 1, ...) with NOT_COUNTED beyond the dilated organ mask.

    Args:
        labels: (B, 2, ...), labels and organ mask, at any resolution.
        organ_dilation: in voxels of full resolution along each axis, see `Annotations`.
        full: the target at full resolution, which tells the resolution of `labels`.
    """
    if organ_dilation is None:
        return labels[:, :1]
    shares = [n / whole for n, whole in zip(labels.shape[2:], full.shape[2:], strict=True)]
    radii = [round(radius * share) for radius, share in zip(organ_dilation, shares, strict=True)]
    return labels[:, :1].masked_fill(~dilate_mask(labels[:, 1:] > 0, radii), NOT_COUNTED)


def dilation_in_voxels(radius_mm: float, spacing_mm: Sequence[float], dims: int) -> tuple[int, ...]:
    """A radius in voxels along each axis of a patch.

    Slices stay as they are (0) where the spacing does not know their distance.
    """
    radii = tuple(round(radius_mm / mm) for mm in spacing_mm)
    return (0,) * (dims - len(radii)) + radii


def dilate_mask(mask: Tensor, radii: Sequence[int]) -> Tensor:
    """A mask (B, 1, ...) dilated by a box with these radii in voxels, one axis at a time."""
    grown = mask.float()
    pool = functional.max_pool3d if mask.ndim == 5 else functional.max_pool2d
    for axis, radius in enumerate(radii):
        radius_of = [radius if other == axis else 0 for other in range(len(radii))]
        grown = pool(grown, [2 * r + 1 for r in radius_of], stride=1, padding=radius_of)
    return grown > 0


def _select_annotated(view: View, cases: Sequence[bool]) -> View:
    """The view of those cases of the batch that have its mask."""
    if all(cases):
        return view
    index = torch.tensor(
        [i for i, has_mask in enumerate(cases) if has_mask], device=view.image.device
    )
    logits = None if view.logits is None else map_levels(lambda level: level[index], view.logits)
    return replace(
        view,
        image=view.image[index],
        logits=logits,
        target=map_levels(lambda level: level[index], view.target),
    )


def _crop_to_output(view: View) -> View:
    """Image and target cropped at the centre to what the network gave."""
    if view.logits is None or finest_level(view.logits).shape[2:] == view.labels.shape[2:]:
        return view
    target = map_levels(
        lambda logits, labels: crop_centre(labels, logits.shape[2:]), view.logits, view.target
    )
    return replace(
        view, image=crop_centre(view.image, finest_level(view.logits).shape[2:]), target=target
    )


def crop_centre(tensor: Tensor, size: Sequence[int]) -> Tensor:
    """The centre of (B, C, ...) with this size."""
    first = [(n - wanted) // 2 for n, wanted in zip(tensor.shape[2:], size, strict=True)]
    slices = [slice(start, start + n) for start, n in zip(first, size, strict=True)]
    return tensor[(slice(None), slice(None), *slices)]


def concatenate_views(batches: Sequence[Sequence[View]]) -> list[View]:
    """Views of several batches as those of one."""
    by_name: dict[str, list[View]] = {}
    for view in (view for views in batches for view in views):
        by_name.setdefault(view.name, []).append(view)

    def join_levels(levels: Sequence[Levels]) -> Levels:
        return map_levels(lambda *tensors: torch.cat(tensors), *levels)

    return [
        View(
            name,
            torch.cat([view.image for view in views]),
            None if views[0].logits is None else join_levels([view.logits for view in views]),
            join_levels([view.target for view in views]),
        )
        for name, views in by_name.items()
    ]


def finest_level(levels: Levels) -> Tensor:
    """The full resolution of a tensor or of a list of levels."""
    return levels if isinstance(levels, Tensor) else levels[0]
