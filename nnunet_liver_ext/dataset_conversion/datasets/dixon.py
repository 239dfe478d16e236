"""Water and fat images of one's own Dixon scans, as images of the fat fraction.

On disk: a CSV (patient, study, water, fat, mask), or a folder with `NAME_water.nii.gz`,
`NAME_fat.nii.gz` and `NAME_mask.nii.gz` side by side or a sub-folder for each study, as files or
DICOM folders (see `read_image_studies`). Water and fat have one grid. The fat fraction in percent
is the channel by default; water or fat can be a channel beside it, or both without it. The raw
dataset's images of the fat fraction are what `nnunet_liver evaluate --fat` reads.

With a margin the masks are eroded within their slices, as those that the fat fraction is measured
in (`margin`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.image_reader import PlainReader
from nnunet_liver_ext.dataset_conversion.label_options import (
    IGNORE_OTHER_LABELS,
    LABEL,
    parse_label_options,
)
from nnunet_liver_ext.dataset_conversion.mask_erosion import check_margin, erode_in_plane
from nnunet_liver_ext.dataset_conversion.public_dataset import (
    DatasetOption,
    PublicDataset,
    SegmentationTask,
)
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.fat_fraction import fat_fraction_percent
from nnunet_liver_ext.space.images import Grid, array, image_like, read_image
from nnunet_liver_ext.studies.study import LIVER, Study
from nnunet_liver_ext.studies.study_layouts import read_image_studies

WATER, FAT, FRACTION = "water", "fat", "fat fraction"
CHANNELS = ("fat-fraction", WATER, FAT)
"""The channels as the option names them."""


@dataclass
class DixonReader(PlainReader):
    """Reads or computes images of the fat fraction, and masks without their margin."""

    margin_mm: float = 0.0
    labels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Values of the classes, each of which loses its own margin."""
    water_and_fat: dict[Path, tuple[Path | None, Path | None]] = field(default_factory=dict)
    """What the image of the fat fraction is made of that is asked for by a path."""

    def read_image(self, path: Path) -> sitk.Image:
        return self._fat_fraction(path) if path in self.water_and_fat else read_image(path)

    def read_mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        mask = super().read_mask(path, image, image_path)
        if self.margin_mm == 0:
            return mask
        values, grid = array(mask), Grid.from_image(mask)
        for class_values in self.labels.values():
            inside = np.isin(values, class_values)
            kept = erode_in_plane(inside, grid.spacing_mm, self.margin_mm)
            if inside.any() and not kept.any():
                raise InputError(
                    f"{path}: nothing is left of the mask after a margin of {self.margin_mm:g} mm;"
                    " take a smaller one."
                )
            if np.array_equal(kept, inside) and inside.any():
                raise InputError(
                    f"{path}: a margin of {self.margin_mm:g} mm takes nothing off the mask, whose"
                    f" voxels are {min(grid.spacing_mm[1:]):g} mm apart in a slice; take a larger"
                    " one."
                )
            values[inside & ~kept] = 0
        return image_like(values, grid)

    def _fat_fraction(self, path: Path) -> sitk.Image:
        water_path, fat_path = self.water_and_fat[path]
        if water_path is None or fat_path is None:
            raise InputError(
                f"{path}: has no {WATER if water_path is None else FAT} image beside it; the fat"
                " fraction needs both."
            )
        water, fat = read_image(water_path), read_image(fat_path)
        grid = Grid.from_image(water)
        if not Grid.from_image(fat).matches(grid):
            raise InputError(
                f"{fat_path}: is not on the grid of {water_path.name} ({Grid.from_image(fat)};"
                f" water: {grid})."
            )
        if not array(water).any() and not array(fat).any():
            raise InputError(
                f"{water_path}, {fat_path}: the water and the fat image are 0 everywhere."
            )
        if np.array_equal(array(water), array(fat)):
            raise InputError(
                f"{fat_path}: is the same image as {water_path}; one of them is not what its name"
                " says."
            )
        try:
            return image_like(fat_fraction_percent(array(water), array(fat)), grid)
        except InputError as error:
            raise InputError(f"{water_path}, {fat_path}: {error}") from None


def dixon_studies(root: Path, **reading: Any) -> list[Study]:
    """Water and fat images of a CSV or a folder, with masks on the water image's grid.

    Args:
        root: CSV or folder.
        reading: options of the entry, none of which changes what is found.

    Raises:
        InputError: as `read_image_studies`.
    """
    return read_image_studies(root, modalities=(WATER, FAT))


def parse_channels(channels: Sequence[str]) -> tuple[str, ...]:
    """Names of the channels that the option asks for; the fat fraction alone if it asks for none.

    Raises:
        InputError: an unknown channel, one that is named twice, or all three.
    """
    chosen = tuple(channels) or (CHANNELS[0],)
    if not set(chosen) <= set(CHANNELS) or len(set(chosen)) < len(chosen):
        raise InputError(
            f"--channel {' --channel '.join(chosen)}: choose from {', '.join(CHANNELS)}, each once."
        )
    if len(chosen) == 3:
        raise InputError(
            "--channel: of fat-fraction, water and fat give two at most, the third follows from"
            " them."
        )
    return tuple(FRACTION if channel == CHANNELS[0] else channel for channel in chosen)


def _studies(
    root: Path, *, reader: DixonReader, names: tuple[str, ...], **reading: Any
) -> list[Study]:
    """The studies with the channels asked for; the reader learns which images a fraction needs."""
    return [_select_channels(study, reader, names) for study in dixon_studies(root)]


def _select_channels(study: Study, reader: DixonReader, names: tuple[str, ...]) -> Study:
    images = dict(study.images)
    if FRACTION in names:
        # a path stands for one image, so that of the image that is no channel itself stands for the
        # fat fraction
        source = FAT if FAT in images and FAT not in names else WATER
        path = images[source if source in images else next(iter(images))]
        reader.water_and_fat[path] = (images.get(WATER), images.get(FAT))
        images = {FRACTION: path, **images}
    masks = {
        names[0] if key == WATER else key: path
        for key, path in study.masks.items()
        if key in (WATER, LIVER)
    }
    return Study(study.patient, study.study, images, masks)


def _adapt(dataset: PublicDataset, options: Mapping[str, Any]) -> PublicDataset:
    """The entry for its options."""
    names = parse_channels(options.get("channel") or ())
    margin = float(options.get("margin") or 0.0)
    check_margin(margin)
    task = parse_label_options(
        options.get("label") or (), ignore_others=bool(options.get("ignore_other_labels"))
    )
    reader = DixonReader(margin, task.labels)
    return replace(
        dataset,
        modalities=names,
        tasks={options.get("task") or next(iter(dataset.tasks)): task},
        studies=partial(_studies, reader=reader, names=names),
        reader=lambda: reader,
        reading={"margin": margin},
        remark=(
            f"Masks keep a margin of {margin:g} mm to the border, within slices." if margin else ""
        ),
    )


DATASET = PublicDataset(
    key="dixon",
    title="Dixon water and fat",
    content="your own Dixon scans: images of the fat fraction from water and fat images",
    expects=(
        "NAME_water.nii.gz, NAME_fat.nii.gz and NAME_mask.nii.gz, or a CSV (patient, study, water,"
        " fat, mask)"
    ),
    licence="your own data",
    citation="your own data",
    url="",
    modalities=(WATER, FAT),
    tasks={"liver": SegmentationTask(labels={"liver": (1,)})},
    studies=dixon_studies,
    reader=DixonReader,
    options=(
        DatasetOption(
            name="channel",
            help="A channel: fat-fraction, water or fat; repeat for two. [default: fat-fraction]",
            choices=CHANNELS,
            multiple=True,
        ),
        DatasetOption(
            name="margin",
            help=(
                "What the masks lose along the border within a slice, mm, for masks of the fat"
                " fraction."
            ),
            default=0.0,
            type=float,
            metavar="MM",
        ),
        LABEL,
        IGNORE_OTHER_LABELS,
    ),
    dataset_name="Dixon",
    adapt=_adapt,
)
