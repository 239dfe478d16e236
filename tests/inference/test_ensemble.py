"""Several models as one: means of probabilities on the native grid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.inference.ensemble import Average, Ensemble
from nnunet_liver_ext.inference.load_model import load_model
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.inference.native_grids import PreparedStudy
from nnunet_liver_ext.inference.predict import predict_studies
from nnunet_liver_ext.postprocessing.largest_piece import Rule, Rules
from nnunet_liver_ext.space.images import array, read_image, read_mask
from nnunet_liver_ext.studies.study_layouts import read_studies
from tests.trained_models import T1_GRID, T2_GRID, random_probabilities, write_study

SINGLE, DUAL, PREREGISTERED = (
    "nnUNetTrainerSingleInput",
    "nnUNetTrainerDualInput",
    "nnUNetTrainerPreregistered",
)


@pytest.fixture(scope="module")
def models(model_folders) -> dict[str, Model]:
    return {
        name: load_model(
            folder, folds=("0",), device=torch.device("cpu"), mirroring=False, tile_step=1.0
        )
        for name, folder in model_folders.items()
    }


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    write_study(folder, "case")
    return folder


@pytest.fixture(scope="module")
def alone(models, studies, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Predictions of each model with probabilities."""
    out = tmp_path_factory.mktemp("alone")
    for name, model in models.items():
        predict_studies(model, read_studies(studies), out / name, probabilities=True)
    return {name: out / name for name in models}


def probabilities(folder: Path, modality: str) -> np.ndarray:
    return np.load(folder / f"case_{modality}.npz")["probabilities"]


def mask(folder: Path, modality: str) -> np.ndarray:
    return array(read_mask(folder / f"case_{modality}.nii.gz"))


def test_the_ensemble_is_the_mean_of_its_models(models, alone, studies, tmp_path: Path):
    predict_studies(
        [models[SINGLE], models[DUAL]], read_studies(studies), tmp_path / "out", probabilities=True
    )
    for modality in ("T1", "T2"):
        expected = (
            probabilities(alone[SINGLE], modality) + probabilities(alone[DUAL], modality)
        ) / 2
        np.testing.assert_allclose(probabilities(tmp_path / "out", modality), expected, atol=1e-6)
        np.testing.assert_array_equal(mask(tmp_path / "out", modality), expected.argmax(0))
    assert any(
        not np.array_equal(mask(alone[SINGLE], name), mask(alone[DUAL], name))
        for name in ("T1", "T2")
    )


def test_one_model_twice_is_that_model(models, alone, studies, tmp_path: Path):
    predict_studies([models[DUAL]] * 2, read_studies(studies), tmp_path, probabilities=True)
    for modality in ("T1", "T2"):
        np.testing.assert_array_equal(
            probabilities(tmp_path, modality), probabilities(alone[DUAL], modality)
        )
        np.testing.assert_array_equal(mask(tmp_path, modality), mask(alone[DUAL], modality))


def test_the_order_does_not_matter(models, studies, tmp_path: Path):
    trio = [models[SINGLE], models[DUAL], models[PREREGISTERED]]
    for name, given in (("a", trio), ("b", trio[::-1]), ("c", [trio[1], trio[2], trio[0]])):
        predict_studies(given, read_studies(studies), tmp_path / name, probabilities=True)
    for name in ("b", "c"):
        assert (tmp_path / name / "prediction.json").read_text() == (
            tmp_path / "a" / "prediction.json"
        ).read_text()
        for modality in ("T1", "T2"):
            np.testing.assert_array_equal(
                probabilities(tmp_path / name, modality), probabilities(tmp_path / "a", modality)
            )


def test_a_preregistered_model_takes_part_in_image_2_only(models, alone, studies, tmp_path: Path):
    predict_studies(
        [models[DUAL], models[PREREGISTERED]],
        read_studies(studies),
        tmp_path / "out",
        probabilities=True,
    )
    np.testing.assert_array_equal(
        probabilities(tmp_path / "out", "T1"), probabilities(alone[DUAL], "T1")
    )
    expected = (probabilities(alone[DUAL], "T2") + probabilities(alone[PREREGISTERED], "T2")) / 2
    np.testing.assert_allclose(probabilities(tmp_path / "out", "T2"), expected, atol=1e-6)
    description = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert description["averaged"] == {"T1": 1, "T2": 2}
    masks = {member["trainer"]: member["masks"] for member in description["ensemble"]}
    assert masks == {DUAL: ["T1", "T2"], PREREGISTERED: ["T2"]}
    assert len({member["weights_sha256"] for member in description["ensemble"]}) == 2


def test_an_ensemble_goes_on_where_it_was_and_is_not_mixed_with_its_models(
    models, studies, tmp_path: Path
):
    both, found, out = [models[SINGLE], models[DUAL]], read_studies(studies), tmp_path / "out"
    predict_studies(both, found, out)
    (out / "case_T2.nii.gz").unlink()
    predict_studies(both[::-1], found, out)
    assert (out / "case_T2.nii.gz").exists()
    before = (out / "case_T2.nii.gz").stat().st_mtime_ns
    predict_studies(both, found, out)
    assert (out / "case_T2.nii.gz").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="predictions of another model"):
        predict_studies(models[SINGLE], found, out)
    predict_studies(models[SINGLE], found, out, overwrite=True)
    assert "ensemble" not in json.loads((out / "prediction.json").read_text())


def test_models_converted_alike_share_a_common_grid(models, studies):
    images = {name: read_image(path) for name, path in read_studies(studies)[0].images.items()}
    ensemble = Ensemble.of([models[SINGLE], models[DUAL], models[PREREGISTERED]])
    prepared = dict(
        zip((model.trainer for model in ensemble.models), ensemble.prepare(images), strict=True)
    )
    assert prepared[SINGLE] is prepared[DUAL]
    assert prepared[PREREGISTERED] is not prepared[DUAL]
    other = replace(
        models[DUAL],
        dataset_json={**models[DUAL].dataset_json, "conversion": {"spacing": [3, 3, 6]}},
    )
    coarse, fine = Ensemble((other, models[DUAL])).prepare(images)
    assert coarse.grid.spacing == (3, 3, 6)
    assert fine.grid.spacing == (1.5, 1.5, 3)


def test_a_lone_image_needs_models_that_take_it(models, studies, tmp_path: Path):
    lone = [replace(study, images={"T1": study.images["T1"]}) for study in read_studies(studies)]
    with pytest.raises(SomeCasesFailed, match="has no T2 image, and nnUNetTrainerDualInput needs"):
        predict_studies([models[SINGLE], models[DUAL]], lone, tmp_path / "out")
    predict_studies([models[SINGLE]] * 2, lone, tmp_path / "single")
    assert [path.name for path in (tmp_path / "single").glob("*.nii.gz")] == ["case_T1.nii.gz"]


def with_classes(model: Model, *names: str) -> Model:
    labels = {name: label for label, name in enumerate(names)}
    return replace(model, dataset_json={**model.dataset_json, "labels": labels})


def test_models_that_do_not_go_together(models):
    with pytest.raises(
        InputError,
        match=r"models of other classes cannot be averaged: .* has background, liver, .*spleen",
    ):
        Ensemble.of(
            [models[PREREGISTERED], with_classes(models[PREREGISTERED], "background", "spleen")]
        )
    swapped = {
        **models[PREREGISTERED].dataset_json,
        "preregistered": {"fixed": "T1", "moving": "T2"},
    }
    with pytest.raises(
        InputError, match=r"models of other images cannot be averaged: .* has T1, T2, .* has T2, T1"
    ):
        Ensemble.of([models[DUAL], replace(models[PREREGISTERED], dataset_json=swapped)])
    with pytest.raises(InputError, match="a deformation is of one model"):
        Ensemble.of([models[DUAL], replace(models[SINGLE], registors=(torch.nn.Identity(),))])
    with pytest.raises(InputError, match="at least one model"):
        Ensemble.of([])


def rules(*kept: str) -> Rules:
    return Rules(
        tuple(Rule(name, "liver", 1, name in kept, 0, 1, 1, 1, 0) for name in ("T1", "T2"))
    )


def test_a_rule_needs_all_models_that_segment_the_image(models):
    first, second = (
        replace(models[DUAL], rules=rules("T1", "T2")),
        replace(models[SINGLE], rules=rules("T2")),
    )
    ensemble = Ensemble.of([first, second, models[PREREGISTERED]])
    assert (ensemble.kept("T1"), ensemble.kept("T2")) == ((), ())
    ensemble = Ensemble.of([first, second])
    assert (ensemble.kept("T1"), ensemble.kept("T2")) == ((), (1,))
    assert ensemble.describe()["postprocessing"] == ["T2 liver"]
    ensemble = Ensemble.of([first, replace(models[PREREGISTERED], rules=rules("T2"))])
    assert (ensemble.kept("T1"), ensemble.kept("T2")) == ((1,), (1,))


def test_the_average_by_hand():
    average, grids = Average(), {"T1": T1_GRID, "T2": T2_GRID}
    first, second = (
        random_probabilities(T1_GRID.size[::-1], 2),
        np.full((2, *T1_GRID.size[::-1]), 0.5, np.float32),
    )
    average.add({"T1": first}, PreparedStudy(np.zeros(1), T1_GRID, grids))
    average.add({"T1": second, "T2": second}, PreparedStudy(np.zeros(1), T1_GRID, {"T1": T1_GRID}))
    found = average.finish()
    assert list(found) == ["T1"]
    np.testing.assert_allclose(found["T1"].probabilities, (first + second) / 2, atol=1e-6)
    np.testing.assert_array_equal(array(found["T1"].mask), first.argmax(0))


def test_the_command(model_folders, studies, tmp_path: Path):
    two = ["-m", str(model_folders[SINGLE]), "-m", str(model_folders[DUAL])]
    command = [
        "predict",
        *two,
        "-i",
        str(studies),
        "-o",
        str(tmp_path / "out"),
        "-f",
        "0",
        "--no-mirroring",
        "--tile-step",
        "1",
    ]
    result = CliRunner().invoke(app, [*command, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    description = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert {member["trainer"] for member in description["ensemble"]} == {SINGLE, DUAL}
    assert str(tmp_path) not in json.dumps(description)
