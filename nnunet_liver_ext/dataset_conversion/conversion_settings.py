"""How cases of a dataset are converted, and what dataset.json says of it.

Three layouts: "pairs" (two images with a mask each, joined by the pair code), "preregistered"
(image 2, image 1 warped onto it, and the labels of image 2) and "images" (one image of one or more
channels, and one mask).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nnunet_liver_ext import __version__
from nnunet_liver_ext.dataset_json.conversion import Layout
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.pairing import PairLabels
from nnunet_liver_ext.space.common_grid import DEFAULT_SPACING, GridSpacing, Interpolation
from nnunet_liver_ext.space.intensities import NOT_NORMALISED, Intensities
from nnunet_liver_ext.studies.study import LIVER


@dataclass(frozen=True)
class ConversionSettings:
    """How cases of a dataset are converted.

    Raises:
        InputError: what does not go together: values used twice, a liver mask or intensities that
            the layout cannot have, a spacing of the other layout.
    """

    labels: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: {"liver": (1,)})
    """Values in the masks of each foreground class, in the order of the classes 1, 2, ..."""
    spacing: GridSpacing | None = None
    """Spacing of the grid; None is `DEFAULT_SPACING` for pairs and "native" for images."""
    interpolation: Interpolation = "bspline"
    preregister: bool = False
    allow_empty: bool = False
    ignored_labels: tuple[int, ...] | Literal["all"] = ()
    """Values in the masks that are background here (other organs); "all" that belong to no
    class."""
    modalities: tuple[str, ...] = ("T1", "T2")
    """Names of image 1 and image 2 of a pair, or of the channels of an image."""
    pairs: bool = True
    """Two images with a mask each; False: one mask for all images of a study, which share a
    grid."""
    organ: tuple[int, ...] | None = None
    """Images only: the liver mask becomes the last channel, for the loader alone. The values in the
    label map that make it up; () if it is a file of its own, `Study.masks["liver"]`, which is taken
    where a study has one."""
    intensities: Intensities = field(default_factory=Intensities)
    incomplete: bool = True
    """Take studies that lack one of their two images or masks."""
    task: str | None = None
    """Name of what is segmented, noted in dataset.json."""
    dataset: str | None = None
    """Key of a dataset of the catalogue, whose reader is used; None: the user's own files as they
    are."""
    reading: Mapping[str, Any] = field(default_factory=dict)
    """What options tell that reader (JSON), by the name of the option."""

    def __post_init__(self) -> None:
        self._check_labels()
        self._check_layout()
        if self.organ is not None and self.layout != "images":
            raise InputError("a liver mask as a channel is for single images; pairs have none.")
        if self.intensities.kind == "organ" and self.organ is None:
            raise InputError(
                "--intensities organ takes the intensities within the liver mask, and this dataset"
                " has none."
            )

    @property
    def layout(self) -> Layout:
        if not self.pairs:
            return "images"
        return "preregistered" if self.preregister else "pairs"

    @property
    def grid_spacing(self) -> GridSpacing:
        """The spacing asked for, or that of the layout."""
        if self.spacing is not None:
            return self.spacing
        return DEFAULT_SPACING if self.pairs else "native"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of one mask, background first."""
        return ("background", *self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def listed_ignored_labels(self) -> tuple[int, ...]:
        return () if self.ignored_labels == "all" else tuple(self.ignored_labels)

    @property
    def known_values(self) -> set[int]:
        """Values that a mask may hold."""
        values = {0, *self.listed_ignored_labels, *(self.organ or ())}
        return values.union(*self.labels.values())

    @property
    def pair(self) -> PairLabels:
        first, second = self.modalities
        return PairLabels((first, second), self.classes)

    @property
    def image_channels(self) -> tuple[str, ...]:
        """Modality of each image channel; with pre-registration image 2 comes first."""
        return self.modalities[::-1] if self.preregister else self.modalities

    @property
    def num_images(self) -> int:
        """Channels that are images."""
        return len(self.modalities)

    @property
    def num_channels(self) -> int:
        """Image channels, and the liver mask if there is one."""
        return self.num_images + (self.organ is not None)

    def to_json(self) -> dict[str, Any]:
        """The `conversion` entry of dataset.json, by which prediction puts images on their grid."""
        spacing = self.grid_spacing
        return {
            "layout": self.layout,
            "modalities": list(self.modalities),
            "spacing": spacing if isinstance(spacing, str) else list(spacing),
            "interpolation": self.interpolation,
            "preregistered": self.preregister,
            "intensities": self.intensities.to_json(),
            "task": self.task,
            "labels": {name: list(values) for name, values in self.labels.items()},
            "version": __version__,
        }

    def dataset_json(self, num_training: int) -> dict[str, Any]:
        """nnU-Net's dataset.json with our entries.

        These are `pair`, `preregistered` or `organ_mask`, and `conversion`.
        """
        content: dict[str, Any] = {
            "channel_names": {str(index): name for index, name in enumerate(self._channel_names())},
            "labels": {name: label for label, name in enumerate(self.classes)},
            "numTraining": num_training,
            "file_ending": ".nii.gz",
        }
        if self.layout == "pairs":
            content |= {"labels": self.pair.dataset_labels(), "pair": self.pair.to_json()}
        elif self.layout == "preregistered":
            content["preregistered"] = {"fixed": self.modalities[1], "moving": self.modalities[0]}
        elif self.organ is not None:
            content["organ_mask"] = {"name": LIVER, "channel": self.num_images}
        return content | {"conversion": self.to_json()}

    def _channel_names(self) -> list[str]:
        names = list(self.image_channels)
        if self.preregister:
            names[1] = f"{names[1]} warped"
        if self.intensities.channel_name is not None:
            names = [self.intensities.channel_name] * len(names)
        return names + [NOT_NORMALISED] * (self.organ is not None)

    def _check_labels(self) -> None:
        values = [
            0,
            *self.listed_ignored_labels,
            *(value for class_values in self.labels.values() for value in class_values),
        ]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise InputError(
                f"the mask value {twice[0]} is used twice; give each value to one class (0 is the"
                " background)."
            )
        if not self.labels or "background" in self.labels:
            raise InputError(
                "name the classes in the masks without the background, for example --label liver=1."
            )
        if 0 in (self.organ or ()):
            raise InputError(
                "0 is the background; the liver mask has other values, for example --organ-values"
                " 1+2."
            )

    def _check_layout(self) -> None:
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise InputError(
                f"modalities need different names, found {', '.join(self.modalities) or 'none'}."
            )
        if self.pairs and len(self.modalities) != 2:
            raise InputError(
                f"a pair has two images, not {len(self.modalities)} ({', '.join(self.modalities)})."
            )
        if self.pairs and self.spacing == "native":
            raise InputError(
                "spacing native is for single images; both images of a pair need one grid, take"
                " native-t1."
            )
        if not self.pairs and self.spacing == "native-t1":
            raise InputError(
                "spacing native-t1 is for pairs; take native for images on their own grid."
            )
        if not self.pairs and self.preregister:
            raise InputError(
                "--preregister is for pairs; single images have nothing to be registered to."
            )
