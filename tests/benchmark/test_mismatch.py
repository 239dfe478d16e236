"""Another patient's auxiliary image: who gets whose, where it is put, and what the masks lose by
it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
from typer.testing import CliRunner

from nnunet_liver_ext.benchmark.mismatch.drop_tables import drops
from nnunet_liver_ext.benchmark.mismatch.mismatch_test import mismatch_test
from nnunet_liver_ext.benchmark.mismatch.partners import Partners, draw_lenders
from nnunet_liver_ext.benchmark.mismatch.placement import covered_share, place_image
from nnunet_liver_ext.benchmark.mismatch.predict_both import predict_both
from nnunet_liver_ext.benchmark.mismatch.view_predictor import SeparateViews, replace_channel
from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.inference.load_model import load_model
from nnunet_liver_ext.inference.model import Model
from nnunet_liver_ext.inference.predict import predict_studies
from nnunet_liver_ext.space.images import Grid, array, image_like, read_mask, write_image
from nnunet_liver_ext.studies.study import Study
from nnunet_liver_ext.studies.study_layouts import read_studies
from tests.conftest import blob_pair
from tests.trained_models import T1_GRID, T2_GRID

SINGLE, DUAL, PREREGISTERED = (
    "nnUNetTrainerSingleInput",
    "nnUNetTrainerDualInput",
    "nnUNetTrainerPreregistered",
)
FAR_AWAY_MM = (700.0, -400.0, 90.0)
PLAIN = (1, 0, 0, 0, 1, 0, 0, 0, 1)
ONLY_OVERLAP = Options(only=("overlap",))
QUICKLY = {"processes": 1, "formats": ("csv", "json")}


def moved(grid: Grid, by_mm: tuple[float, ...]) -> Grid:
    return Grid(
        grid.size, grid.spacing, tuple((np.array(grid.origin) + by_mm).tolist()), grid.direction
    )


def write_patient(
    folder: Path, name: str, seed: int, *, by_mm: tuple[float, ...] = (0, 0, 0), margin: int = 0
) -> dict:
    """Images and masks of one study, moved in space; `margin` slices at the ends of both images are
    zero."""
    row = {"patient": name.partition("_")[0], "study": name.partition("_")[2]}
    for index, (modality, grid) in enumerate((("T1", T1_GRID), ("T2", T2_GRID))):
        images, masks = blob_pair(seed, grid.size[::-1])
        if margin:
            images[index][:margin] = images[index][-margin:] = 0
        for kind, values in (("", images[index]), ("_mask", masks[index].astype(np.uint8))):
            row[f"{modality.lower()}{kind}"] = f"{name}_{modality}{kind}.nii.gz"
            write_image(
                image_like(values, moved(grid, by_mm)), folder / row[f"{modality.lower()}{kind}"]
            )
    return row


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four studies of three patients; one lies far away, one has empty slices."""
    folder = tmp_path_factory.mktemp("patients")
    rows = [
        write_patient(folder, "anna_1", 1),
        write_patient(folder, "anna_2", 2, margin=3),
        write_patient(folder, "bert_1", 3, by_mm=FAR_AWAY_MM),
        write_patient(folder, "carl_1", 4),
    ]
    pd.DataFrame(rows).to_csv(folder / "studies.csv", index=False)
    return folder / "studies.csv"


@pytest.fixture(scope="module")
def models(model_folders) -> dict[str, Model]:
    return {
        name: load_model(
            folder, folds=("0",), device=torch.device("cpu"), mirroring=False, tile_step=1.0
        )
        for name, folder in model_folders.items()
    }


@pytest.fixture(scope="module")
def tested(models, csv, tmp_path_factory: pytest.TempPathFactory):
    """The whole test with two models: its folder and what came out."""
    out = tmp_path_factory.mktemp("tested")
    partners = Partners.draw(read_studies(csv), ("T1", "T2"), seed=5)
    given = {"single": models[SINGLE], "dual": models[DUAL]}
    return out, mismatch_test(given, partners, out, ONLY_OVERLAP, **QUICKLY)


def study(patient: str, name: str, *images: str, masks: bool = True) -> Study:
    files = {image: Path(f"{patient}_{name}_{image}") for image in images or ("T1", "T2")}
    return Study(patient, name, files, {"T1": Path("mask")} if masks else {})


# ---------------------------------------------------------------- who gets whose image


@pytest.mark.parametrize("number", [2, 3, 7])
def test_nobody_gets_his_own_image_and_everybodys_is_given(number: int):
    studies = [study(f"p{n}", visit) for n in range(number) for visit in ("a", "b")]
    for seed in range(10):
        others = draw_lenders(studies, seed=seed)
        pairs = {own.patient: others[own.name].patient for own in studies}
        assert all(own != other for own, other in pairs.items())
        assert set(pairs.values()) == set(pairs)
        assert all(others[own.name].study == own.study for own in studies)


def test_the_draw_depends_on_seed_and_studies_only():
    studies = [study(f"p{n}", "a") for n in range(6)]
    draws = [draw_lenders(studies, seed=seed) for seed in range(5)]
    assert draw_lenders(studies[::-1], seed=3) == draws[3]
    assert len({tuple(own.patient for own in draw.values()) for draw in draws}) > 1


def test_of_a_patient_with_fewer_studies_some_come_twice():
    studies = [study("p1", name) for name in "abc"] + [study("p2", "x"), study("p2", "y")]
    others = draw_lenders(studies, seed=0)
    assert [others[f"p1_{name}"].study for name in "abc"] == ["x", "y", "x"]
    assert [others[f"p2_{name}"].study for name in "xy"] == ["a", "b"]


def test_one_patient_is_too_few():
    with pytest.raises(
        InputError, match="there is one patient with both images; mismatched pairs need two"
    ):
        Partners.draw([study("p1", "a"), study("p1", "b"), study("p2", "a", "T1")], ("T1", "T2"))
    with pytest.raises(InputError, match="no study with both images has a mask"):
        Partners.draw([study("p1", "a", masks=False), study("p2", "a", masks=False)], ("T1", "T2"))


def test_a_study_without_masks_lends_its_images():
    partners = Partners.draw(
        [study("p1", "a"), study("p2", "a", masks=False), study("p3", "a", "T2")], ("T1", "T2")
    )
    assert [study.name for study in partners.studies] == ["p1_a"]
    assert partners.lender["p1_a"].patient == "p2"
    assert partners.left_out == ("p2_a", "p3_a")


# ---------------------------------------------------------------- where it is put


def test_the_covered_share_by_hand():
    grid = Grid((10, 10, 10), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), PLAIN)
    assert covered_share(grid, grid) == 1
    assert covered_share(grid, moved(grid, (10, 0, 0))) == 0.5
    assert covered_share(grid, moved(grid, (10, 10, -10))) == 0.125
    assert covered_share(grid, moved(grid, (30, 0, 0))) == 0
    turned = Grid(grid.size, grid.spacing, (18.0, 0.0, 0.0), (-1, 0, 0, 0, 1, 0, 0, 0, 1))
    assert covered_share(grid, turned) == 1


def test_scanner_coordinates_decide_unless_they_are_too_far_apart():
    image = image_like(
        np.arange(np.prod(T1_GRID.size), dtype=np.float32).reshape(T1_GRID.size[::-1]), T1_GRID
    )
    beside = place_image(image, T2_GRID)
    assert (beside.alignment, beside.image is image) == ("scanner", True)
    assert beside.covered > 0.7
    far = place_image(image_like(array(image), moved(T1_GRID, FAR_AWAY_MM)), T2_GRID)
    assert far.alignment == "centre"
    np.testing.assert_allclose(
        Grid.from_image(far.image).corners().mean(0), T2_GRID.corners().mean(0), atol=1e-4
    )
    np.testing.assert_array_equal(array(far.image), array(image))
    assert far.covered > 0.7


def test_the_crop_stays_that_of_the_matching_pair():
    rng = np.random.default_rng(0)
    matching = np.zeros((2, 8, 9, 10), np.float32)
    matching[0, 2:6, 3:7, 1:5] = matching[1, 3:7, 2:6, 2:8] = 1
    for other in (
        np.zeros((8, 9, 10)),
        rng.random((8, 9, 10)),
        np.pad(np.ones((1, 1, 1)), ((4, 3), (4, 4), (4, 5))),
    ):
        changed = replace_channel(matching, 1, other.astype(np.float32))
        assert (
            crop_to_nonzero(changed)[2] == crop_to_nonzero(matching)[2] == [[2, 7], [2, 7], [1, 8]]
        )
        np.testing.assert_array_equal(changed[0], matching[0])
        box = (slice(2, 7), slice(2, 7), slice(1, 8))
        np.testing.assert_allclose(changed[1][box], other[box], atol=1e-30)
    with pytest.raises(InputError, match="both images are empty"):
        replace_channel(np.zeros((2, 3, 3, 3), np.float32), 1, np.ones((3, 3, 3), np.float32))


def test_views_are_those_of_the_strategy(models):
    strategy = models[DUAL].predictor.network.eval()
    x = torch.randn((1, 2, 16, 32, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        stacked = SeparateViews(strategy)(x)
        joint = strategy(x).softmax(1)
    first, second = stacked[:, :2].softmax(1), stacked[:, 2:].softmax(1)
    torch.testing.assert_close(joint[:, 3], first[:, 1] * second[:, 1])
    torch.testing.assert_close(joint[:, 1], first[:, 1] * second[:, 0])


# ---------------------------------------------------------------- what it changes


def masks(out: Path, model: str, kind: str) -> dict[str, np.ndarray]:
    return {
        path.name: array(read_mask(path))
        for path in sorted((out / model / kind / "predictions").glob("*.nii.gz"))
    }


def test_a_single_input_model_drops_by_exactly_nothing(tested):
    out, result = tested
    matched, mismatched = masks(out, "single", "matched"), masks(out, "single", "mismatched")
    assert len(matched) == 8
    assert all(mask.any() for mask in matched.values())
    for name, mask in matched.items():
        np.testing.assert_array_equal(mismatched[name], mask)
    own = result.table[result.table.model == "single"]
    assert (own["drop"] == 0).all()
    summary = result.summary[(result.summary.model == "single") & (result.summary.metric == "dice")]
    assert list(summary.mean_difference) == [0, 0]
    assert list(summary.verdict) == ["too few", "too few"]  # three patients


def test_a_model_that_sees_both_images_does_not_stay_the_same(tested):
    out, result = tested
    matched, mismatched = masks(out, "dual", "matched"), masks(out, "dual", "mismatched")
    assert any(not np.array_equal(mismatched[name], mask) for name, mask in matched.items())
    own = result.table[(result.table.model == "dual") & (result.table.metric == "dice")]
    assert len(own) == 8
    assert (own["drop"] != 0).any()
    np.testing.assert_allclose(own["drop"], own["matched"] - own["mismatched"])


def test_matched_masks_are_those_of_predict(tested, models, csv, tmp_path: Path):
    out, _ = tested
    predict_studies(models[DUAL], read_studies(csv), tmp_path)
    for name, mask in masks(out, "dual", "matched").items():
        expected = array(read_mask(tmp_path / name))
        assert (
            mask != expected
        ).mean() < 0.01  # float16 rounds joint logits and those of one image differently


def test_the_files_say_who_stood_in_and_how(tested, csv):
    out, result = tested
    table = pd.read_csv(out / "mismatch.csv")
    assert list(table.columns) == [
        *(
            "model",
            "case",
            "patient",
            "modality",
            "class",
            "metric",
            "unit",
            "matched",
            "mismatched",
            "drop",
        ),
        *("other_case", "other_patient", "alignment", "covered"),
    ]
    assert (table.patient != table.other_patient).all()
    by_case = table.groupby(["case", "model"]).other_case.unique()
    assert all(len(others) == 1 for others in by_case)
    assert list(by_case.xs("single", level="model").map(list)) == list(
        by_case.xs("dual", level="model").map(list)
    )
    far = (table.patient == "bert") | (table.other_patient == "bert")
    assert set(table.alignment[far]) == {"centre"}
    assert set(table.alignment[~far]) <= {"scanner"}
    assert (table.covered > 0.5).all()
    content = json.loads((out / "mismatch.json").read_text())
    assert content["seed"] == 5
    assert content["others"] == dict(table.groupby("case").other_case.first())
    summary = {(row["model"], row["modality"], row["metric"]): row for row in content["summary"]}
    dice = result.table.query("model == 'dual' and modality == 'T2' and metric == 'dice'")
    assert summary["dual", "T2", "dice"]["mean_drop"] == pytest.approx(dice["drop"].mean())
    assert summary["dual", "T2", "dice"]["mean_matched"] == pytest.approx(dice["matched"].mean())
    assert summary["dual", "T2", "dice"]["low"] is None
    for path in (*out.glob("mismatch.*"), *out.rglob("results.*")):
        assert str(csv.parent) not in path.read_text()


def test_a_preregistered_model_is_tested_on_its_fixed_image(models, csv, tmp_path: Path):
    partners = Partners.draw(read_studies(csv), ("T1", "T2"))
    result = mismatch_test(
        {"pre": models[PREREGISTERED]}, partners, tmp_path, ONLY_OVERLAP, **QUICKLY
    )
    assert set(result.table.modality) == {"T2"}
    matched, mismatched = masks(tmp_path, "pre", "matched"), masks(tmp_path, "pre", "mismatched")
    assert len(matched) == 4
    assert any(not np.array_equal(mismatched[name], mask) for name, mask in matched.items())
    assert not result.failures


def test_what_is_there_is_kept_and_other_partners_are_not_mixed_in(models, csv, tmp_path: Path):
    partners = Partners.draw(read_studies(csv), ("T1", "T2"), seed=5)
    assert predict_both(models[SINGLE], partners, tmp_path) == []
    files = sorted(tmp_path.rglob("*.nii.gz"))
    before = {path: path.stat().st_mtime_ns for path in files}
    gone = tmp_path / "mismatched" / "predictions" / "carl_1_T2.nii.gz"
    gone.unlink()
    predict_both(models[SINGLE], partners, tmp_path)
    again = {path for path in files if path.stat().st_mtime_ns != before[path]}
    assert again == {path for path in files if path.name.startswith("carl_1")}
    other = next(
        drawn
        for seed in range(20)
        if (drawn := Partners.draw(read_studies(csv), ("T1", "T2"), seed=seed)).lender
        != partners.lender
    )
    for model, their_partners in ((models[SINGLE], other), (models[DUAL], partners)):
        with pytest.raises(
            InputError, match="of another model, of other studies or with other options"
        ):
            predict_both(model, their_partners, tmp_path)
    predict_both(models[SINGLE], other, tmp_path, overwrite=True)


def test_results_are_not_overwritten_unasked(tested, models, csv):
    out, _ = tested
    with pytest.raises(InputError, match=r"mismatch.csv exists"):
        mismatch_test(
            {"single": models[SINGLE]}, Partners.draw(read_studies(csv), ("T1", "T2")), out
        )


def test_a_study_that_cannot_be_predicted_is_listed(models, csv, tmp_path: Path):
    studies = read_studies(csv)
    broken = tmp_path / "broken_T1.nii.gz"
    broken.write_bytes(studies[0].images["T1"].read_bytes()[:3000])
    bad = Study("dora", "1", {**studies[0].images, "T1": broken}, studies[0].masks)
    partners = Partners.draw([*studies, bad], ("T1", "T2"), seed=1)
    borrower = next(
        study for study in partners.studies if partners.lender[study.name].patient == "dora"
    )
    result = mismatch_test(
        {"single": models[SINGLE]}, partners, tmp_path / "out", ONLY_OVERLAP, **QUICKLY
    )
    failed = {failure.case for failure in result.failures}
    assert failed >= {"single: dora_1", f"single: {borrower.name}"}
    assert set(result.table.case) == {study.name for study in partners.studies} - {
        case.split(": ")[1] for case in failed
    }
    with pytest.raises(SomeCasesFailed, match="damaged or incomplete"):
        result.raise_for_failures()
    only_bad = Partners((bad,), {bad.name: studies[0]}, 0, ())
    with pytest.raises(SomeCasesFailed, match="1 of 1"):
        predict_both(models[SINGLE], only_bad, tmp_path / "bad")


def test_a_model_of_another_trainer_is_refused(models, csv, tmp_path: Path):
    from dataclasses import replace
    from types import SimpleNamespace

    foreign = replace(
        models[SINGLE],
        predictor=SimpleNamespace(network=torch.nn.Identity()),
        trainer="nnUNetTrainer",
    )
    with pytest.raises(InputError, match="a model of nnUNetTrainer cannot be asked"):
        predict_both(foreign, Partners.draw(read_studies(csv), ("T1", "T2")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def results(**values: float) -> pd.DataFrame:
    rows = [
        {
            "case": case,
            "patient": case,
            "modality": "T1",
            "class": "liver",
            "metric": metric,
            "value": value,
            "unit": "1",
        }
        for name, value in values.items()
        for case, metric in [name.split("_", 1)]
    ]
    return pd.DataFrame(rows)


def test_drops_by_hand():
    inf = np.inf
    matched = results(
        a_dice=0.9, a_hd=inf, a_volume_difference=-4.0, a_volume_reference=9.0, b_dice=0.8, b_hd=3.0
    )
    mismatched = results(
        b_dice=0.9, b_hd=inf, a_dice=0.7, a_hd=inf, a_volume_difference=6.0, c_dice=1.0
    )
    found = drops(matched, mismatched).set_index(["case", "metric"])["drop"]
    assert found["a", "dice"] == pytest.approx(0.2)
    assert found["b", "dice"] == pytest.approx(-0.1)
    assert np.isnan(found["a", "hd"])
    assert found["b", "hd"] == -inf
    assert found["a", "volume_difference"] == -2
    assert len(found) == 5


def test_the_command(model_folders, csv, tmp_path: Path):
    given = [
        "mismatch",
        f"single={model_folders[SINGLE]}",
        "-i",
        str(csv),
        "-o",
        str(tmp_path / "out"),
    ]
    quick = ["-f", "0", "--no-mirroring", "--tile-step", "1", "--device", "cpu", "--processes", "1"]
    result = CliRunner().invoke(app, [*given, *quick], env={"COLUMNS": "150"})
    assert result.exit_code == 0, result.output
    assert "another patient's" in result.output
    row = next(line for line in result.output.splitlines() if "T1 liver" in line)
    assert "0.000" in row
    again = CliRunner().invoke(app, [*given, *quick])
    assert isinstance(again.exception, InputError)
    assert CliRunner().invoke(app, [*given[:2], "-o", str(tmp_path / "x")]).exit_code == 2
    assert CliRunner().invoke(app, [*given, "-r", str(csv)]).exit_code == 2
    assert (
        sitk.ReadImage(str(tmp_path / "out/single/matched/predictions/anna_1_T1.nii.gz")).GetSize()
        == T1_GRID.size
    )
