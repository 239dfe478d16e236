"""LiverHccSeg (Gross et al. 2023): four-phase T1 MRI of 17 patients, segmented by two raters.

The patients are of TCGA-LIHC, the raters are radiologists.

On disk: `TCGA-XX-XXXX/MM-DD-YYYY/` with `pre.nii.gz`, `art.nii.gz`, `pv.nii.gz`, `del.nii.gz`, the
other phases registered to the arterial one (`art_pre.nii.gz`, `art_pv.nii.gz`, `art_del.nii.gz`),
and masks on the arterial grid: `rater1_liver.nii.gz`, `rater1_tumor1.nii.gz`,
`rater1_tumor2.nii.gz`, ..., and the same of `rater2`. The registered phases may have directions and
origins of their own in their headers, so they are put onto the arterial grid by their scanner
coordinates.

A rater's files become one label map, 1 liver and 2 tumour: several tumours are united, and tumour
is liver too, also where the liver's mask leaves it out. Three patients have no visible tumour. One
trains on rater 1; rater 2 is kept beside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_liver_ext.dataset_conversion.folder_search import files_below, is_junk
from nnunet_liver_ext.dataset_conversion.image_reader import PlainReader
from nnunet_liver_ext.dataset_conversion.public_dataset import DatasetOption, PublicDataset
from nnunet_liver_ext.dataset_conversion.segmentation_tasks import LABELS, LIVER_AND_TUMOURS
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.space.images import Grid, array, image_like, stem
from nnunet_liver_ext.studies.study import Study

PHASES = {"art": "art", "pre": "art_pre", "pv": "art_pv", "del": "art_del"}
"""Files of the phases on (or registered to) the arterial one, without their ending."""
RATERS = ("rater1", "rater2")
"""The first one is trained on."""
MASK = re.compile(r"(?P<rater>rater[12])_(?:liver|tumou?r(?P<number>[0-9]*))", re.IGNORECASE)


def liverhccseg_studies(root: Path, *, phase: tuple[str, ...] = ()) -> list[Study]:
    """All examinations below a folder, sorted by patient and date.

    Those without a liver mask of rater 1 have no masks.

    Args:
        root: folder, searched at any depth.
        phase: the channels; the arterial phase alone if empty.

    Raises:
        InputError: there are none, or an examination is there twice.
    """
    folders: dict[tuple[str, str], Path] = {}
    for path in files_below(Path(root)):
        if path.name != "art.nii.gz":
            continue
        name = (path.parent.parent.name, path.parent.name)
        if name in folders:
            raise InputError(
                f"{path.parent}: this examination is there twice, also as {folders[name]}; keep"
                " one."
            )
        folders[name] = path.parent
    if not folders:
        raise InputError(
            f"{root}: holds no LiverHccSeg data; expected TCGA-XX-XXXX/MM-DD-YYYY/art.nii.gz, at"
            " any depth."
        )
    chosen = phases(phase)
    return [
        _study(patient, date, folder, chosen) for (patient, date), folder in sorted(folders.items())
    ]


def phases(chosen: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The channels for these phases: the arterial one, whose grid the masks have, comes first.

    Raises:
        InputError: an unknown phase, one that is named twice, or the arterial one is left out.
    """
    names = chosen or ("art",)
    unknown = [name for name in names if name not in PHASES]
    if unknown or len(set(names)) < len(names):
        raise InputError(f"--phase {' '.join(names)}: choose from {', '.join(PHASES)}, each once.")
    if "art" not in names:
        raise InputError(
            f"--phase {' '.join(names)}: take art too, the masks are drawn on the arterial phase."
        )
    return ("art", *(name for name in names if name != "art"))


class LiverHccSegReader(PlainReader):
    """Reads all masks of a rater as one label map: 1 liver, 2 tumour.

    The rater is that of the liver mask that is asked for.
    """

    def read_mask(self, path: Path, image: sitk.Image, image_path: Path) -> sitk.Image:
        labels = np.where(self._read_inside(path, image, image_path), LABELS["liver"], 0).astype(
            np.uint8
        )
        for tumour in find_tumour_files(path):
            labels[self._read_inside(tumour, image, image_path)] = LABELS["tumour"]
        return image_like(labels, Grid.from_image(image))

    def _read_inside(self, path: Path, image: sitk.Image, image_path: Path) -> np.ndarray:
        return array(super().read_mask(path, image, image_path)) > 0


def find_tumour_files(liver: Path) -> list[Path]:
    """The tumour masks of the rater whose liver mask this is, sorted by number."""
    numbered: list[tuple[int, Path]] = []
    for path in liver.parent.iterdir():
        match = MASK.fullmatch(stem(path)) if not is_junk(path.name) else None
        if match and match["number"] is not None and stem(liver).startswith(match["rater"]):
            numbered.append((int(match["number"] or 0), path))
    return [path for _, path in sorted(numbered)]


def _study(patient: str, date: str, folder: Path, chosen: tuple[str, ...]) -> Study:
    images = {name: folder / f"{PHASES[name]}.nii.gz" for name in chosen}
    livers = {rater: folder / f"{rater}_liver.nii.gz" for rater in RATERS}
    present = {rater: path for rater, path in livers.items() if path.is_file()}
    first, *others = RATERS
    return Study(
        patient,
        date,
        # tumour masks go with the images, so that a changed one is noticed; channels are the phases
        # alone
        {name: path for name, path in images.items() if path.is_file()}
        | {stem(path): path for liver in present.values() for path in find_tumour_files(liver)},
        {"art": present[first]} if first in present else {},
        {rater: {"art": present[rater]} for rater in others if rater in present},
    )


def _adapt_phases(dataset: PublicDataset, options: Mapping[str, Any]) -> PublicDataset:
    return replace(dataset, modalities=phases(tuple(options.get("phase") or ())))


DATASET = PublicDataset(
    key="liverhccseg",
    title="LiverHccSeg",
    content="17 four-phase T1 MRI with liver and, in 14 of them, tumours, by two raters",
    expects=(
        "TCGA-XX-XXXX/MM-DD-YYYY/art.nii.gz, rater1_liver.nii.gz, rater1_tumor1.nii.gz, ..., at any"
        " depth"
    ),
    licence="CC BY 4.0",
    citation=(
        "Gross et al., LiverHccSeg: A publicly available multiphasic MRI dataset with liver and HCC"
        " tumor segmentations and inter-rater agreement analysis, Data in Brief 51:109662, 2023,"
        " doi:10.1016/j.dib.2023.109662"
    ),
    url="https://zenodo.org/records/8179129",
    modalities=("art",),
    tasks=LIVER_AND_TUMOURS,
    studies=liverhccseg_studies,
    reader=LiverHccSegReader,
    options=(
        DatasetOption(
            name="phase",
            help="A channel: art, pre, pv or del, registered to art; repeat. [default: art]",
            choices=tuple(PHASES),
            multiple=True,
        ),
    ),
    adapt=_adapt_phases,
)
