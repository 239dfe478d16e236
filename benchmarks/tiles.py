"""What stock nnU-Net's sliding window costs networks that take whole volumes: their masks beside
the exact ones.

    python benchmarks/tiles.py MODEL STUDIES [--mirroring]

MODEL is a model folder, STUDIES a CSV or folder with images and masks. Each study is predicted by
this package (the whole volume at once, exact) and in nnU-Net's overlapping windows with Gaussian
weights, all else equal. Printed: the voxels that differ as a share of the foreground of both, the
Dice between the two, and the Dice of each with the reference.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from rich.console import Console
from rich.table import Table

from nnunet_liver_ext.evaluation.metrics import dice
from nnunet_liver_ext.inference.load_model import load_model
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.inference.study_prediction import predict_study
from nnunet_liver_ext.space.images import array, read_image, read_mask
from nnunet_liver_ext.studies.file_names import list_files
from nnunet_liver_ext.studies.study import Study
from nnunet_liver_ext.studies.study_layouts import select_studies


def masks_of(model: Model, study: Study, label: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact mask, tiled mask and reference of the first image, bool (z, y, x)."""
    images = {name: read_image(study.images[name]) for name in model.modalities}
    if model.conversion.organ is not None:
        images[model.conversion.organ.name] = read_mask(study.masks[model.conversion.organ.name])
    name, exact_predictor = model.segmented[0], type(model.predictor)
    exact = predict_study(model, images).arrays[name] > 0
    model.predictor.__class__ = nnUNetPredictor  # the same object with nnU-Net's own windows
    try:
        tiled = predict_study(model, images).arrays[name] > 0
    finally:
        model.predictor.__class__ = exact_predictor
    return exact, tiled, array(read_mask(study.masks[name])) == label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("studies", type=Path)
    parser.add_argument("--label", type=int, default=1, help="of the class in the reference masks")
    parser.add_argument("--mirroring", action="store_true")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(
        arguments.model, device=device, mirroring=arguments.mirroring, postprocessing=False
    )
    table = Table(title=arguments.model.name)
    for column in (
        "study",
        "voxels that differ",
        "Dice, exact to tiled",
        "Dice, exact",
        "Dice, tiled",
    ):
        table.add_column(column, justify="left" if column == "study" else "right")
    for study in select_studies(list_files(arguments.studies), model.modalities)[0]:
        named = dict(zip(model.modalities, study.images.values(), strict=True))
        masks = {
            model.segmented[0] if key in study.images else key: path
            for key, path in study.masks.items()
        }
        exact, tiled, reference = masks_of(
            model, Study(study.patient, study.study, named, masks), arguments.label
        )
        differing = (exact != tiled).sum() / max(1, (exact | tiled).sum())
        numbers = (dice(exact, tiled), dice(exact, reference), dice(tiled, reference))
        table.add_row(study.name, f"{differing:.2%}", *(f"{number:.4f}" for number in numbers))
    Console(width=125).print(table)


if __name__ == "__main__":
    main()
