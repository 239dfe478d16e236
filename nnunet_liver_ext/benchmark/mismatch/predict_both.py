"""How much a model relies on the auxiliary image: the drop in Dice when that is another patient's.

Couteaux et al. 2021, "Comparison of strategies", section 4, table 3. The paper does not say how the
mismatched image is put beside the other one; as its pairs are "aligned with their DICOM metadata",
the scanner coordinates decide here too, unless the two fields of view lie too far apart for that
(`mismatch.pairing.placed`). All else stays as it was with the matching image, see
`mismatch.prediction`. Nothing is post-processed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_liver_ext.atomic_write import atomic_write
from nnunet_liver_ext.benchmark.mismatch.partners import exchanged, other_studies
from nnunet_liver_ext.benchmark.mismatch.view_predictor import (
    ViewPredictor,
    auxiliary_channel,
    channel_of,
    in_the_same_frame,
)
from nnunet_liver_ext.console import progress_bar
from nnunet_liver_ext.errors import (
    CASE_FAILURES,
    CaseFailure,
    InputError,
    SomeCasesFailed,
    failure_reason,
)
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.inference.native import decide_on_native_grid, prepare_study
from nnunet_liver_ext.inference.prediction_json import describe_predictions
from nnunet_liver_ext.json_files import read_json
from nnunet_liver_ext.space.images import read_image, write_image
from nnunet_liver_ext.studies.study import Study

KINDS = ("matched", "mismatched")
PREDICTIONS = "predictions"
PLACEMENTS = "placements.json"


@dataclass(frozen=True)
class Pairing:
    """The studies that are predicted, and whose images take the places of theirs; the same for
    every model."""

    studies: tuple[Study, ...]
    """With both images and at least one mask, sorted by name."""
    others: Mapping[str, Study]
    """By name of the study."""
    seed: int
    left_out: tuple[str, ...]
    """Names of the studies without both images or without a mask."""

    @classmethod
    def of(cls, studies: Sequence[Study], modalities: Sequence[str], *, seed: int = 0) -> Pairing:
        """Who takes whose images.

        Args:
            studies: all that there are; those without a mask are none to predict, but lend their
                images.
            modalities: names of image 1 and image 2.
            seed: of the draw, 0 or more.

        Raises:
            InputError: fewer than two patients have both images, or no study has a mask.
        """
        paired = [study for study in studies if all(name in study.images for name in modalities)]
        others = other_studies(paired, seed=seed)
        used = sorted((study for study in paired if study.masks), key=lambda study: study.name)
        if not used:
            raise InputError("no study with both images has a mask to measure against.")
        left_out = sorted({study.name for study in studies} - {study.name for study in used})
        return cls(tuple(used), others, seed, tuple(left_out))


def predict_both(
    model: Model, pairing: Pairing, out: Path, *, overwrite: bool = False
) -> list[CaseFailure]:
    """Predicts every study with its own and with another patient's auxiliary image.

    Writes OUT/matched/predictions/NAME_T1.nii.gz and NAME_T2.nii.gz, the same below OUT/mismatched,
    and OUT/placements.json: for each mask whose image took the place of the auxiliary one and how
    it was put there. Studies of which all is there are left alone unless `overwrite`.

    Args:
        model: a loaded model.
        pairing: who takes whose images.
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
        _describe(model, pairing, out / kind / PREDICTIONS, kind, overwrite=overwrite)
    placements: dict[str, Any] = {} if overwrite else _read_placements(out)
    failures = []
    with progress_bar() as bar:
        for study in bar.track(pairing.studies, description=f"predicting {model.trainer}"):
            if not overwrite and study.name in placements and _is_done(model, study, out):
                continue
            try:
                placements[study.name] = _predict_study(
                    predictor, study, pairing.others[study.name], out
                )
            except CASE_FAILURES as error:
                failures.append(CaseFailure(study.name, failure_reason(error)))
                continue
            with atomic_write(out / PLACEMENTS) as unfinished:
                unfinished.write_text(json.dumps(placements, indent=1), encoding="utf-8")
    if len(failures) == len(pairing.studies):
        raise SomeCasesFailed(failures, len(pairing.studies))
    return failures


def _predict_study(
    predictor: ViewPredictor, study: Study, other: Study, out: Path
) -> dict[str, Any]:
    """Writes the masks of one study; by image that was segmented, what stood in for the auxiliary
    one."""
    model = predictor.model
    images = {name: read_image(study.images[name]) for name in model.modalities}
    prepared = prepare_study(model, images)
    matching, properties = predictor.preprocessed(prepared.channels, prepared)
    found = {
        ("matched", name): one
        for name, one in predictor.probabilities(matching, properties).items()
    }
    placements = {}
    for name in model.segmented:
        auxiliary = next(own for own in model.modalities if own != name)
        changed, put = exchanged(images, auxiliary, read_image(other.images[auxiliary]))
        channel = channel_of(model, auxiliary)
        replacement = auxiliary_channel(model, changed, auxiliary, prepared)
        data, _ = predictor.preprocessed(
            in_the_same_frame(prepared.channels, channel, replacement), prepared
        )
        mismatching = matching.clone()
        mismatching[channel] = data[channel]
        found["mismatched", name] = predictor.probabilities(mismatching, properties)[name]
        placements[name] = {
            "other_case": other.name,
            "other_patient": other.patient,
            "alignment": put.alignment,
            "covered": round(put.covered, 4),
        }
    for (kind, name), probabilities in found.items():
        mask = decide_on_native_grid(probabilities, prepared.grid, prepared.native[name]).mask
        write_image(mask, out / kind / PREDICTIONS / f"{study.name}_{name}.nii.gz")
    return placements


def _is_done(model: Model, study: Study, out: Path) -> bool:
    names = [f"{study.name}_{name}.nii.gz" for name in model.segmented]
    return all((out / kind / PREDICTIONS / name).exists() for kind in KINDS for name in names)


def _describe(model: Model, pairing: Pairing, folder: Path, kind: str, *, overwrite: bool) -> None:
    """Writes what the masks are of, and refuses to mix them with others."""
    others = {study.name: pairing.others[study.name].name for study in pairing.studies}
    description = {**model.describe(), "auxiliary_image": kind, "seed": pairing.seed}
    description |= {"others": others} if kind == "mismatched" else {}
    describe_predictions(description, model.class_names, folder, overwrite=overwrite)


def _read_placements(out: Path) -> dict[str, Any]:
    path = out / PLACEMENTS
    return read_json(path) if path.is_file() else {}
