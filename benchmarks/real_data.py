"""The whole chain on real images: semi-synthetic pairs from a folder of real ones, then the demo's
steps on them.

    NNUNET_LIVER_REAL_DATA=FOLDER python benchmarks/real_data.py OUT patient|study

The T1 of each pair is the real file as it is, with all its quirks; its mask keeps the geometry that
the label file has. The T2 is made from it (docs/phantom.md, "Pairs from one real image"). "patient"
holds out one of the three images, with all studies made from it; "study" holds out one study of
each image, whose T1 the models have then seen. What came out is in docs/real-data.md.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from nnunet_liver_ext.benchmark.demo import DemoSettings, run_demo, write_csv
from nnunet_liver_ext.dataset_conversion.phantom import pair_from_image
from nnunet_liver_ext.space.images import (
    Grid,
    array,
    image_like,
    read_image,
    read_mask,
    write_image,
)
from nnunet_liver_ext.studies.study import Study

STUDIES_PER_IMAGE = 6


@dataclass(frozen=True)
class RealImage:
    """One image with its label map."""

    patient: str
    image: str
    labels: str
    liver: int


IMAGES = (
    RealImage("amos-mr", "mr_2mm_amos0540.nii.gz", "mr_2mm_amos0540_labels.nii.gz", 6),
    RealImage("totalsegmentator-ct", "ct_3mm.nii.gz", "ct_3mm_labels.nii.gz", 5),
    RealImage("totalsegmentator-mr", "mr_3mm.nii.gz", "mr_3mm_labels.nii.gz", 5),
)


def main() -> None:
    real, out, held_out = Path(os.environ["NNUNET_LIVER_REAL_DATA"]), Path(sys.argv[1]), sys.argv[2]
    by_study = {"patient": False, "study": True}[held_out]
    csv = make_studies(real, out / "studies", by_study=by_study)
    results = run_demo(
        DemoSettings(out=out, source=csv, hold_out=3 if by_study else 1, epochs=10), Console()
    )
    for trainer, table in results.items():
        dice = (
            table[table["metric"] == "dice"]
            .groupby("modality")["value"]
            .agg(["count", "mean", "min", "max"])
        )
        hd95 = table[table["metric"] == "hd95"].groupby("modality")["value"].mean()
        sys.stdout.write(f"{trainer}\n{dice.round(3)}\nHD95 mm {hd95.round(1).to_dict()}\n")


def make_studies(real: Path, folder: Path, *, by_study: bool) -> Path:
    """Writes the T2 images and the masks, and a CSV that names the real files themselves as T1."""
    studies = []
    for source in IMAGES:
        image, labels = read_image(real / source.image), read_mask(real / source.labels)
        mask = folder / f"{source.patient}_T1_mask.nii.gz"
        write_image(
            image_like((array(labels) == source.liver).astype(np.uint8), Grid.from_image(labels)),
            mask,
        )
        for seed in range(STUDIES_PER_IMAGE):
            name = f"{source.patient}_{seed}"
            pair = pair_from_image(image, labels, seed, liver_label=source.liver)
            files = {
                "T2": folder / f"{name}_T2.nii.gz",
                "T2 mask": folder / f"{name}_T2_mask.nii.gz",
            }
            write_image(pair.t2, files["T2"])
            write_image(pair.t2_mask, files["T2 mask"])
            images = {"T1": real / source.image, "T2": files["T2"]}
            patient = f"{seed}-{source.patient}" if by_study else source.patient
            studies.append(Study(patient, str(seed), images, {"T1": mask, "T2": files["T2 mask"]}))
    csv = folder / "studies.csv"
    write_csv(studies, csv)
    return csv


if __name__ == "__main__":
    main()
