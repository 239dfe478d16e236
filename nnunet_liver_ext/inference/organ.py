"""The organ mask that a tumour model needs, found by another model in the same image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import SimpleITK as sitk

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.inference.ensemble import Average, Ensemble
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.inference.native_grids import probabilities_on_common_grid
from nnunet_liver_ext.space.components import largest_component
from nnunet_liver_ext.space.images import Grid, array, image_like


@dataclass(frozen=True)
class OrganFinder:
    """A model, or the mean of several, that segments the organ in an image of the tumour model."""

    models: Ensemble
    organ: str
    image: str
    """The image whose mask is the organ's."""

    @classmethod
    def of(cls, models: Model | Sequence[Model], tumours: Ensemble) -> OrganFinder:
        """The finder for tumour models.

        Raises:
            InputError: the tumour models need no organ mask, or these models take other images or
                have no such class.
        """
        finder = Ensemble.of(models)
        if tumours.organ is None:
            raise InputError(
                "the model needs no organ mask, so there is nothing for a second model to find."
            )
        missing = sorted(set(finder.modalities) - set(tumours.modalities))
        if missing:
            raise InputError(
                f"the model that finds the {tumours.organ} takes {', '.join(finder.modalities)},"
                f" but the studies have {', '.join(tumours.modalities)}."
            )
        if tumours.organ not in finder.class_names:
            raise InputError(
                f"the model that finds the {tumours.organ} has no such class; it has"
                f" {', '.join(finder.class_names[1:])}."
            )
        if finder.organ is not None:
            raise InputError(
                f"the model that finds the {tumours.organ} needs an organ mask itself; take another"
                " one."
            )
        return cls(finder, tumours.organ, next(iter(finder.segmented)))

    def find(self, images: Mapping[str, sitk.Image]) -> sitk.Image:
        """The largest piece of the organ with its lesions, 0 or 1 on the image's own grid.

        A liver model that has tumours as another class would leave holes where they are.

        Raises:
            InputError: nothing was found, or an image is missing.
        """
        average = Average()
        for model, prepared in zip(self.models.models, self.models.prepare(images), strict=True):
            average.add(probabilities_on_common_grid(model, prepared), prepared)
        mask = average.finish()[self.image].mask
        labels = array(mask)
        organ = labels == self.models.class_names.index(self.organ)
        if not organ.any():
            raise InputError(f"no {self.organ} was found, so there is nowhere to look for tumours.")
        return image_like(
            largest_component(labels > 0 if self._has_lesions else organ), Grid.from_image(mask)
        )

    @property
    def _has_lesions(self) -> bool:
        """Whether all other classes are parts of the organ."""
        others = [name for name in self.models.class_names[1:] if name != self.organ]
        return bool(others) and all(
            "tumo" in name.lower() or "lesion" in name.lower() for name in others
        )

    def describe(self) -> dict[str, Any]:
        """What the organ masks can be told by."""
        return self.models.describe()
