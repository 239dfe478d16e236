"""How conversion put a model's images onto a grid (dataset.json), for prediction to repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nnunet_liver_ext.dataset_json.organ_mask import OrganMask
from nnunet_liver_ext.pairing import PairLabels

if TYPE_CHECKING:
    from nnunet_liver_ext.space.common_grid import GridSpacing, Interpolation
    from nnunet_liver_ext.space.intensities import Intensities

Layout = Literal["pairs", "preregistered", "images"]


@dataclass(frozen=True)
class Conversion:
    """How the images of a dataset became channels: the `conversion` entry of dataset.json."""

    layout: Layout
    modalities: tuple[str, ...]
    """Names of the images of a study: both of a pair, or the channels of an image."""
    spacing: GridSpacing
    interpolation: Interpolation
    intensities: Intensities
    organ: OrganMask | None
    """The organ mask that is needed beside the images."""

    @classmethod
    def from_dataset_json(cls, dataset_json: Mapping[str, Any]) -> Conversion:
        """Reads the entry; without one, images stay as they are and are named as their channels."""
        from nnunet_liver_ext.space.common_grid import DEFAULT_SPACING, parse_spacing
        from nnunet_liver_ext.space.intensities import Intensities

        entry = dataset_json.get("conversion", {})
        layout = read_layout(dataset_json)
        spacing = entry.get("spacing", "native" if layout == "images" else DEFAULT_SPACING)
        return cls(
            layout,
            _modalities(dataset_json, layout),
            parse_spacing(spacing),
            entry.get("interpolation", "bspline"),
            Intensities.from_json(entry.get("intensities")),
            OrganMask.from_dataset_json(dataset_json),
        )

    @property
    def channels(self) -> tuple[str, ...]:
        """Image of each channel; of pre-registered pairs image 2 comes first."""
        return self.modalities[::-1] if self.layout == "preregistered" else self.modalities


def read_layout(dataset_json: Mapping[str, Any]) -> Layout:
    """What a dataset holds: pairs, T2 with a registered T1, or ordinary images."""
    if "pair" in dataset_json:
        return "pairs"
    return "preregistered" if "preregistered" in dataset_json else "images"


def _modalities(dataset_json: Mapping[str, Any], layout: Layout) -> tuple[str, ...]:
    if layout == "pairs":
        pair = PairLabels.from_dataset_json(dataset_json)
        return () if pair is None else pair.modalities
    if layout == "preregistered":
        return dataset_json["preregistered"]["moving"], dataset_json["preregistered"]["fixed"]
    names = dataset_json.get("conversion", {}).get("modalities")
    if names is None:
        channels = dataset_json.get("channel_names") or dataset_json["modality"]
        names = [name for _, name in sorted(channels.items(), key=lambda entry: int(entry[0]))]
        names = names[: len(names) - (OrganMask.from_dataset_json(dataset_json) is not None)]
        if len(set(names)) < len(names):
            names = [
                f"{name}_{index:04d}" for index, name in enumerate(names)
            ]  # nnU-Net lets channels share a name
    return tuple(names)
