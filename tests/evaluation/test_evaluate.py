"""The whole evaluation from folders to files, and the command."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.evaluation.evaluate import evaluate
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.results_table import read_results
from nnunet_liver_ext.pairing import PairLabels, encode_pair
from tests.evaluation.conftest import GRID, OTHER_GRID, T2_GRID, block
from tests.evaluation.report.report_pages import Page

SHIFTS = {"P001": (0, 4), "P002": (1, 3), "P003": (2, 2), "P004": (3, 1)}


@pytest.fixture
def four_pairs(tmp_path, put) -> Path:
    """Four cases; Dice is (8 - shift) / 8."""
    for case, shifts in SHIFTS.items():
        for modality, shift, grid in zip(("T1", "T2"), shifts, (GRID, T2_GRID), strict=True):
            put(f"predictions/{case}_{modality}", block(shift, grid=grid), grid)
            put(f"references/{case}_{modality}", block(grid=grid), grid)
            put(
                f"images/{case}_{modality}",
                np.random.default_rng(0).normal(100, 30, grid.size[::-1]).astype(np.float32),
                grid,
            )
    return tmp_path


def evaluate_root(root: Path, options: Options = Options(), **more) -> pd.DataFrame:
    return evaluate(root / "predictions", root / "references", root / "out", options, **more)


def test_the_three_files_and_their_numbers(four_pairs):
    table = evaluate_root(four_pairs, processes=1)
    assert sorted(path.name for path in (four_pairs / "out").glob("[!.]*")) == [
        "report.html",
        "results.csv",
        "results.json",
    ]
    for case, shifts in SHIFTS.items():
        dice = table[(table.case == case) & (table.metric == "dice")]
        assert list(dice.value) == pytest.approx([(8 - shift) / 8 for shift in shifts])
    pd.testing.assert_frame_equal(read_results(four_pairs / "out/results.csv"), table)


def test_nothing_written_knows_this_machine(four_pairs):
    evaluate_root(four_pairs, images=four_pairs / "images", processes=1)
    written = [path for path in (four_pairs / "out").rglob("*") if path.is_file()]
    assert len(written) == 3 + 8
    for path in written:
        assert str(four_pairs) not in path.read_text()


def test_several_processes_give_the_same(four_pairs):
    one = evaluate_root(four_pairs, processes=1)
    two = evaluate_root(four_pairs, processes=2, overwrite=True, fresh=True)
    pd.testing.assert_frame_equal(one, two)


def test_results_are_not_overwritten_unasked(four_pairs):
    evaluate_root(four_pairs, processes=1)
    with pytest.raises(InputError, match=r"results.csv exists: .* --overwrite"):
        evaluate_root(four_pairs)
    evaluate_root(four_pairs, Options(tolerance_mm=0.5), overwrite=True)
    assert json.loads((four_pairs / "out/results.json").read_text())["tolerance_mm"] == 0.5


def test_bad_options_are_refused_before_anything_is_written(four_pairs):
    for options in ({"processes": 0}, {"images": four_pairs / "none"}):
        with pytest.raises(InputError):
            evaluate_root(four_pairs, **options)
    assert not (four_pairs / "out").exists()
    (four_pairs / "out").write_text("")
    with pytest.raises(InputError, match="is a file"):
        evaluate_root(four_pairs)


def test_problems_are_listed_everywhere_and_the_others_evaluated(four_pairs, put):
    put("predictions/P002_T1", block(grid=OTHER_GRID), OTHER_GRID)
    (four_pairs / "predictions/P003_T2.nii.gz").unlink()
    put("predictions/P009_T1", block())
    put("predictions/P001_T1", block() * 0)
    with pytest.raises(SomeCasesFailed, match="2 of 8 cases") as error:
        evaluate_root(four_pairs, processes=1)
    assert [failure.case for failure in error.value.failures] == ["P002 T1", "P003 T2"]
    assert read_results(four_pairs / "out/results.csv").groupby(["case", "modality"]).ngroups == 6
    content = json.loads((four_pairs / "out/results.json").read_text())
    report = Page.of(four_pairs / "out/report.html").text
    for case, words in (("P002 T1", "different grids"), ("P003 T2", "no prediction")):
        assert any(
            failure["case"] == case and words in failure["reason"]
            for failure in content["failures"]
        )
        assert re.search(f"{case}: [^\n]*{words}", report)
    assert [note["case"] for note in content["notes"]] == ["P009 T1"]
    assert "P009 T1: P009_T1.nii.gz has no reference" in report
    assert "P001, T1 label 1: the prediction is empty" in report


def test_if_no_case_can_be_evaluated_nothing_is_written(tmp_path, put):
    put("predictions/P001_T1", block(grid=OTHER_GRID), OTHER_GRID)
    put("references/P001_T1", block())
    with pytest.raises(SomeCasesFailed, match="1 of 1"):
        evaluate_root(tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_report_has_a_picture_of_each_image(four_pairs):
    evaluate_root(four_pairs, images=four_pairs / "images", processes=1)
    page = Page.of(four_pairs / "out/report.html")
    assert [image.attributes["alt"][:8] for image in page.all("img")] == [
        f"{case}, T{n}" for case in SHIFTS for n in (1, 2)
    ]
    assert "without its image" not in page.html
    assert len(page.all("path", "ref")) == len(page.all("path", "pred")) == 8
    reference, prediction = (
        page.all("path", css)[6].attributes["d"] for css in ("ref", "pred")
    )  # of P004 T1
    first = re.compile(r"M(\d+)")
    assert int(first.match(prediction)[1]) > int(
        first.match(reference)[1]
    )  # is moved to the patient's left


def test_without_images_the_pictures_are_grey_and_say_so(four_pairs):
    evaluate_root(four_pairs, processes=1)
    assert (four_pairs / "out/report.html").read_text().count("without its image") == 8


def test_a_missing_image_is_a_note_and_a_damaged_one_costs_its_picture(four_pairs):
    (four_pairs / "images/P001_T1.nii.gz").unlink()
    path = four_pairs / "images/P004_T1.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    evaluate_root(four_pairs, images=four_pairs / "images", processes=1)
    page = Page.of(four_pairs / "out/report.html")
    assert len(page.all("img")) == 7
    assert "No picture: P004_T1.nii.gz: cannot be read" in page.text
    notes = json.loads((four_pairs / "out/results.json").read_text())["notes"]
    assert notes[0]["case"] == "P001 T1"


def test_names_from_files_are_escaped(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/<b>&_T1", block())
    evaluate_root(tmp_path)
    html = (tmp_path / "out/report.html").read_text()
    assert "<b>&_" not in html
    assert "&lt;b&gt;&amp;" in html


def test_joint_maps_with_nnunet_images_end_to_end(tmp_path, put):
    pair = PairLabels(("T1", "T2"), ("background", "liver"))
    for case, shift in (("A", 1), ("B", 0)):
        put(f"predictions/{case}", encode_pair(block(shift), block()))
        put(f"references/{case}", encode_pair(block(), block()))
        for channel in ("0000", "0001"):
            put(f"imagesTs/{case}_{channel}", block().astype(np.float32))
    description = {"pair": pair.to_json(), "labels": pair.dataset_labels()}
    (tmp_path / "predictions/dataset.json").write_text(json.dumps(description))
    table = evaluate_root(tmp_path, images=tmp_path / "imagesTs")
    dice = table[table.metric == "dice"].set_index(["case", "modality", "class"]).value
    assert dice["A", "T1", "liver"] == pytest.approx(7 / 8)
    assert dice["A", "T2", "liver"] == 1
    page = Page.of(tmp_path / "out/report.html")
    assert len(page.all("img")) == 4
    assert "without its image" not in page.text


def test_plain_maps_end_to_end(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/case_1", block())
    put("images/case_1_0000", block().astype(np.float32))
    table = evaluate_root(tmp_path, images=tmp_path / "images")
    assert set(table.modality) == {"image"}
    assert "without its image" not in (tmp_path / "out/report.html").read_text()


def arguments(root: Path) -> list[str]:
    return [
        "evaluate",
        "-p",
        str(root / "predictions"),
        "-r",
        str(root / "references"),
        "-o",
        str(root / "out"),
    ]


def test_the_command_prints_a_summary(four_pairs):
    result = CliRunner().invoke(
        app,
        [*arguments(four_pairs), "--processes", "1", "--tolerance", "1"],
        env={"COLUMNS": "120"},
    )
    assert result.exit_code == 0
    assert "T1 label 1" in result.output
    assert "0.812" in result.output  # mean Dice of shifts 0, 1, 2, 3
    assert "Surface Dice within 1 mm" in result.output


def test_the_command_fails_after_the_summary_if_a_prediction_is_missing(four_pairs):
    (four_pairs / "predictions/P003_T2.nii.gz").unlink()
    result = CliRunner().invoke(app, arguments(four_pairs), env={"COLUMNS": "120"})
    assert isinstance(
        result.exception, SomeCasesFailed
    )  # which `main` turns into its message and exit code 1
    assert "T1 label 1" in result.output
    assert (four_pairs / "out/results.csv").exists()
