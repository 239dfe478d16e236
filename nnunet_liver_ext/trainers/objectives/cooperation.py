"""A registor that keeps the two masks of a pair similar.

(Couteaux et al. 2021, "Cooperating networks".)

Phase 1 trains the segmentor on L_r, phase 2 the registor on L_g with annotations that are moved
anew in every step, phase 3 both on λr·L_r + λg·L_g + λp·L_p. L_g never reaches the segmentor; L_p
reaches it through the second mask only. L_r keeps the paper's sum over the two images, on which the
balance with λp depends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

import torch
from torch import Tensor

from nnunet_liver_ext.deformation import warp
from nnunet_liver_ext.evaluation.similarity.relative import (
    DEFAULT_MAX_SHIFT_MM,
    relative_similarity,
)
from nnunet_liver_ext.losses import registration as similarity
from nnunet_liver_ext.networks.linear_maps import Bounds
from nnunet_liver_ext.networks.random_deformation import random_displacement
from nnunet_liver_ext.networks.registor import (
    Registor,
    build_registor,
    check_registor_patch,
    control_grid_pitch,
)
from nnunet_liver_ext.networks.registor_heads import centroid
from nnunet_liver_ext.trainers.objectives.interface import (
    COMPANION,
    SEGMENTOR,
    Losses,
    ObjectiveNumbers,
    ObjectiveSetup,
    PhaseName,
)
from nnunet_liver_ext.trainers.objectives.views import View
from nnunet_liver_ext.trainers.objectives.voxelwise import VoxelLoss, Voxelwise, objective
from nnunet_liver_ext.trainers.ranges import Range
from nnunet_liver_ext.transform_classes import Transforms

GROUP = "Dice of annotations (mean over patches)"
IDENTITY, REGISTERED, BEST = (
    f"{GROUP}: {name}" for name in ("as they lie", "T1 warped by the registor", "D_S")
)
SEEN = 0.99
"""Share of a warped voxel that must come from within the patch."""
EASY, HARD = 0, 1
"""Index of the views: image 1 is the easy modality, and only image 2's mask is pulled."""


@dataclass(frozen=True, kw_only=True)
class SimilarityNumbers(ObjectiveNumbers):
    """Numbers of `Similarity`; the λ's are the paper's for the liver."""

    lambda_r: Annotated[float, Range(0, 1e3)] = 0.1
    """Weight of the segmentation loss L_r in phase 3."""
    lambda_g: Annotated[float, Range(0, 1e3)] = 1.0
    """Weight of the registration loss L_g."""
    lambda_p: Annotated[float, Range(0, 1e3)] = 1.0
    """Weight of the similarity loss L_p."""
    registor_gate: Annotated[float, Range(0, 1)] = 0.8
    """Share of the way from no registration to D_S that the registor must go on held-out
    annotations after phase 2; below it, training warns."""


@dataclass(frozen=True, kw_only=True)
class TranslationNumbers(SimilarityNumbers):
    """Numbers of `SimilarityTranslation`."""

    max_shift_voxels: Annotated[float, Range(0, 1e4)] = 32.0
    """Largest translation of the registor along each axis."""


@dataclass(frozen=True, kw_only=True)
class RigidNumbers(TranslationNumbers):
    """Numbers of `SimilarityRigid`."""

    max_rotation_deg: Annotated[float, Range(0, 180)] = 30.0
    """Largest angle of the registor."""


@dataclass(frozen=True, kw_only=True)
class AffineNumbers(RigidNumbers):
    """Numbers of `SimilarityAffine`."""

    max_log_stretch: Annotated[float, Range(0, 2)] = 0.2
    """Largest stretch of the registor: lengths change by a factor of at most exp(±0.2)."""


@objective("similarity_elastic")
class Similarity(Voxelwise):
    """L_r, L_g and L_p with one class of transforms; sub-classes name it."""

    numbers_type = SimilarityNumbers
    numbers: SimilarityNumbers
    has_companion = True
    companion: Registor
    transforms: Transforms = "elastic"
    warmup_share = 0.4
    companion_share = 0.1
    companion_learns_from_annotations = True

    def __init__(self, setup: ObjectiveSetup, voxel_loss: VoxelLoss) -> None:
        super().__init__(setup, voxel_loss)
        self.companion = build_registor(
            self.transforms,
            channels=setup.num_classes - 1,
            patch_size=setup.patch_size,
            spacing_mm=setup.spacing_mm,
            bounds=_bounds(self.numbers),
        )

    @classmethod
    def check(cls, numbers: Any, patch_size: Sequence[int], spacing_mm: Sequence[float]) -> None:
        check_registor_patch(patch_size)

    def describe(self) -> str:
        return f"registor, {self.companion.describe()}"

    def segmentor_loss(self, views: Sequence[View], phase: PhaseName) -> Losses:
        voxelwise = self.voxelwise(views)
        segmentation = voxelwise.total * len(views)
        if phase == SEGMENTOR:
            return Losses(segmentation, voxelwise.terms)
        predictions = [view.prediction() for view in views]
        with torch.no_grad():
            displacement = self.companion(*predictions)
            warped = warp(predictions[EASY], displacement)
            seen = (
                warp(torch.ones_like(predictions[EASY]), displacement) > SEEN
            )  # beyond the patch nothing is known
        term = similarity.similarity_loss(warped, predictions[HARD], seen)
        total = self.numbers.lambda_r * segmentation + self.numbers.lambda_p * term
        return Losses(total, {**voxelwise.terms, "similarity (L_p)": term})

    def companion_loss(self, views: Sequence[View], phase: PhaseName) -> Losses:
        annotations = [view.annotation(self.setup.num_classes) for view in views]
        if phase == COMPANION:
            seen = [self.move_masks(*annotations), annotations[HARD]]
        else:
            seen = [view.prediction() for view in views]
        warped = warp(seen[EASY], self.companion(*seen))
        loss = similarity.registration_loss(warped, annotations[HARD])
        return Losses(self.numbers.lambda_g * loss, {"registration (L_g)": loss})

    def move_masks(self, masks: Tensor, onto: Tensor) -> Tensor:
        """Masks (B, C, ...) under a fresh random deformation of the registor's class.

        Args:
            masks: those of the first image.
            onto: those of the second, on which the registor shall put them back: the shift that
                this takes stays within the registor's bounds. What the pair itself is turned or
                stretched is not known, so angle and stretch may come on top of it.
        """
        setup, centre = self.setup, centroid(masks)
        displacement = random_displacement(
            self.transforms,
            size=masks.shape[2:],
            spacing_mm=setup.spacing_mm,
            batch=len(masks),
            pitch=control_grid_pitch(setup.patch_size, setup.spacing_mm),
            bounds=_bounds(self.numbers),
            centre=centre,
            shift_before=centre - centroid(onto),
            device=masks.device,
        )
        return warp(masks, displacement)

    @torch.no_grad()
    def examine(self, views: Sequence[View], *, thoroughly: bool) -> dict[str, Tensor]:
        """Dice of the annotations' foreground: as it lies, after the registor, at best (D_S).

        D_S is found only if it is to be thorough.

        The mean over the patches of the batch in which both masks have foreground, nan if there is
        none.
        """
        first, second = (view.annotation(self.setup.num_classes) for view in views)
        warped = warp(first, self.companion(first, second)).amax(1, keepdim=True)
        first, second = first.amax(1, keepdim=True), second.amax(1, keepdim=True)
        figures = {IDENTITY: _dice(first, second), REGISTERED: _dice(warped > 0.5, second)}
        if thoroughly:
            figures[BEST] = self._best_dice(first, second)
        usable = _have_foreground(first, second) & torch.stack(
            list(figures.values())
        ).isfinite().all(0)
        return {name: value[usable].mean() for name, value in figures.items()}

    def _best_dice(self, first: Tensor, second: Tensor) -> Tensor:
        """D_S of each case within the registor's bounds, (B,), from masks (B, 1, ...)."""
        spacing, reach = self.setup.spacing_mm, DEFAULT_MAX_SHIFT_MM
        if isinstance(self.numbers, TranslationNumbers):
            reach = self.numbers.max_shift_voxels * max(spacing)
        masks_1, masks_2 = (masks[:, 0].cpu().bool().numpy() for masks in (first, second))
        best = [
            relative_similarity(
                mask_1, mask_2, spacing, transforms=self.transforms, max_shift_mm=reach
            ).dice
            for mask_1, mask_2 in zip(masks_1, masks_2, strict=True)
        ]
        return torch.tensor(best, device=first.device)

    def verdict(self, figures: Mapping[str, float]) -> list[str]:
        identity, registered, best = (
            figures.get(name, float("nan")) for name in (IDENTITY, REGISTERED, BEST)
        )
        if best > identity:
            share = (registered - identity) / (best - identity)
        else:  # there was no way to go
            share = 1.0 if registered >= best else float("nan")
        gate = self.numbers.registor_gate
        lines = [
            f"The registor on held-out annotations: Dice {identity:.3f} as they lie,"
            f" {registered:.3f} warped by the registor, {best:.3f} at best (D_S): {share:.0%} of"
            " the way."
        ]
        if not share >= gate:
            lines.append(
                f"WARNING: the registor has gone {share:.0%} of the way, less than registor_gate ="
                f" {gate:.0%}: it does not register well enough to teach the segmentor; train it"
                " longer (companion_epochs) or on larger patches."
            )
        return lines


@objective("similarity_translation")
class SimilarityTranslation(Similarity):
    """Translations, as for the paper's toy data."""

    numbers_type = TranslationNumbers
    transforms = "translation"


@objective("similarity_rigid")
class SimilarityRigid(Similarity):
    """Rotations and translations."""

    numbers_type = RigidNumbers
    transforms = "rigid"


@objective("similarity_affine")
class SimilarityAffine(Similarity):
    """Affine maps."""

    numbers_type = AffineNumbers
    transforms = "affine"


def _dice(first: Tensor, second: Tensor) -> Tensor:
    """Dice of each sample over its classes, (B,)."""
    first, second = first.flatten(1).float(), second.flatten(1).float()
    return 2 * (first * second).sum(1) / (first.sum(1) + second.sum(1))


def _have_foreground(first: Tensor, second: Tensor) -> Tensor:
    return (first.flatten(1).sum(1) > 0) & (second.flatten(1).sum(1) > 0)


def _bounds(numbers: SimilarityNumbers) -> Bounds:
    """The registor's bounds: those of the numbers that this class of transforms has."""
    bounds = {field.name for field in fields(Bounds)}
    return Bounds(**{name: value for name, value in asdict(numbers).items() if name in bounds})
