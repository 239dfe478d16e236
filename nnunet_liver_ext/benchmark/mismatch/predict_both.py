"""Masks of each study beside its own and beside another patient's auxiliary image.

The paper does not say how the mismatched image is put beside the other one; as its pairs are
"aligned with their DICOM metadata", the scanner coordinates decide here too, unless the two fields
of view lie too far apart for that (`placement`). All else stays as it was with the matching image,
see `view_predictor`. Nothing is post-processed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.benchmark.mismatch.partners import Partners
from nnunet_liver_ext.benchmark.mismatch.placement import exchange_image
from nnunet_liver_ext.benchmark.mismatch.view_predictor import (
    ViewPredictor,
    auxiliary_channel,
    channel_index,
    replace_channel,
)
from nnunet_liver_ext.console import print_notes, progress_bar
from nnunet_liver_ext.errors import (
    CASE_FAILURES,
    CaseFailure,
    SomeCasesFailed,
    failure_reason,
)
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.inference.native_grids import decide_on_native_grid, prepare_study
from nnunet_liver_ext.inference.prediction_json import describe_predictions
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.space.images import read_image, write_image
from nnunet_liver_ext.space.study_images import check_study_images
from nnunet_liver_ext.studies.study import Study

KINDS = ("matched", "mismatched")
PREDICTIONS = "predictions"
PLACEMENTS = "placements.json"


def predict_both(
    model: Model, partners: Partners, out: Path, *, overwrite: bool = False
) -> list[CaseFailure]:
    """Predicts every study with its own and with another patient's auxiliary image.

    Writes OUT/matched/predictions/NAME_T1.nii.gz and NAME_T2.nii.gz, the same below OUT/mismatched,
    and OUT/placements.json: for each mask whose image took the place of the auxiliary one and how
    it was put there. Studies of which all is there are left alone unless `overwrite`.

    Args:
        model: a loaded model.
        partners: who takes whose images.
        out: folder of this model's results.
        overwrite: predict again what is there.

    Returns:
        Studies that could not be predicted, and why.

    Raises:
        InputError: `out` holds predictions of another model or with other partners, or the model
            cannot be asked.
    """
    predictor = ViewPredictor(model)
    for kind in KINDS:
        _describe(model, partners, out / kind / PREDICTIONS, kind, overwrite=overwrite)
    placements: dict[str, Any] = {} if overwrite else _read_placements(out)
    failures = []
    with progress_bar() as bar:
        for study in bar.track(partners.studies, description=f"predicting {model.trainer}"):
            if not overwrite and study.name in placements and _is_done(model, study, out):
                continue
            try:
                placements[study.name] = _predict_study(
                    predictor, study, partners.lender[study.name], out
                )
            except CASE_FAILURES as error:
                failures.append(CaseFailure(study.name, failure_reason(error)))
                continue
            with atomic_write(out / PLACEMENTS) as unfinished:
                unfinished.write_text(json.dumps(placements, indent=1), encoding="utf-8")
    if len(failures) == len(partners.studies):
        raise SomeCasesFailed(failures, len(partners.studies))
    return failures


def _predict_study(
    predictor: ViewPredictor, study: Study, lender: Study, out: Path
) -> dict[str, Any]:
    """Writes the masks of one study, and says by segmented image what stood in for the other."""
    model = predictor.model
    files = {name: study.images[name] for name in model.modalities}
    images = {name: read_image(path) for name, path in files.items()}
    print_notes({study.name: check_study_images(images, files, unregistered=True)})
    prepared = prepare_study(model, images)
    matching, properties = predictor.preprocess(prepared.channels, prepared)
    matched = predictor.predict_views(matching, properties)
    mismatched, placements = {}, {}
    for name in model.segmented:
        auxiliary = next(other for other in model.modalities if other != name)
        exchanged, placement = exchange_image(
            images, auxiliary, read_image(lender.images[auxiliary])
        )
        channel = channel_index(model, auxiliary)
        replacement = auxiliary_channel(model, exchanged, auxiliary, prepared)
        channels = replace_channel(prepared.channels, channel, replacement)
        data, _ = predictor.preprocess(channels, prepared)
        mismatching = matching.clone()
        mismatching[channel] = data[channel]
        mismatched[name] = predictor.predict_views(mismatching, properties)[name]
        placements[name] = {
            "other_case": lender.name,
            "other_patient": lender.patient,
            "alignment": placement.alignment,
            "covered": round(placement.covered, 4),
        }
    for kind, views in zip(KINDS, (matched, mismatched), strict=True):
        for name, probabilities in views.items():
            native = prepared.native[name]
            mask = decide_on_native_grid(probabilities, prepared.grid, native).mask
            write_image(mask, out / kind / PREDICTIONS / f"{study.name}_{name}.nii.gz")
    return placements


def _is_done(model: Model, study: Study, out: Path) -> bool:
    names = [f"{study.name}_{name}.nii.gz" for name in model.segmented]
    return all((out / kind / PREDICTIONS / name).exists() for kind in KINDS for name in names)


def _describe(
    model: Model, partners: Partners, folder: Path, kind: str, *, overwrite: bool
) -> None:
    """Writes what the masks are of, and refuses to mix them with others."""
    description = {**model.describe(), "auxiliary_image": kind, "seed": partners.seed}
    description |= {"others": partners.lender_names()} if kind == "mismatched" else {}
    describe_predictions(description, model.class_names, folder, overwrite=overwrite)


def _read_placements(out: Path) -> dict[str, Any]:
    path = out / PLACEMENTS
    return read_json(path) if path.is_file() else {}
