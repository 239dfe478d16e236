"""The two masks of a pair beside each other: blocks that are shifted, or that lack one of their
eight columns."""

import json

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.evaluate import evaluate
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.pair_summary import summarise_pairs
from nnunet_liver_ext.evaluation.results.results_table import read_results
from tests.evaluation.conftest import BLOCK_ML, GRID, T2_GRID, block


def narrow(columns):
    labels = block()
    labels[:, :, 4 + columns :] = 0
    return labels


def dice_of_columns(columns):
    return 2 * columns / (8 + columns)


@pytest.fixture
def put_pair(put):
    def write(case, predictions, references):
        for side, masks in (("predictions", predictions), ("references", references)):
            for modality, mask in zip(("T1", "T2"), masks, strict=True):
                put(f"{side}/{case}_{modality}", mask)

    return write


def evaluated(root, **options):
    how = Options(**{"similarity": "translation", **options})
    return evaluate(root / "predictions", root / "references", root / "out", how, processes=1)


def test_the_numbers_of_one_pair(tmp_path, put_pair):
    put_pair("A", (block(3), block(-2)), (block(), narrow(6)))
    table = evaluated(tmp_path)
    rows = table[table.modality == "T1-T2"].set_index("metric")
    assert dict(rows.value) == pytest.approx(
        {
            "relative_similarity_prediction": 1,
            "relative_similarity_reference": dice_of_columns(6),
            "relative_similarity_gain": 1 - dice_of_columns(6),
            "pair_dice_prediction": 3 / 8,
            "pair_dice_reference": dice_of_columns(6),
            "warped_dice": 6 / 7,  # 8 columns, moved onto the second, cover its 6
            "pair_volume_difference_prediction": 0,
            "pair_volume_difference_reference": BLOCK_ML * 2 / 8,
        }
    )
    assert list(rows.unit) == ["1"] * 6 + ["ml"] * 2
    assert set(rows["class"]) == {"1"}


def test_two_grids_are_brought_together(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/A_T1", block())
        put(f"{side}/A_T2", block(grid=T2_GRID), T2_GRID)
    table = evaluated(tmp_path).set_index("metric").value
    volumes = [block().sum() * np.prod(grid.spacing_mm) / 1000 for grid in (GRID, T2_GRID)]
    smaller_inside = 2 * volumes[0] / sum(volumes)
    assert table["relative_similarity_prediction"] == table["relative_similarity_reference"]
    assert table["relative_similarity_reference"] == pytest.approx(smaller_inside, abs=0.02)
    assert table["pair_volume_difference_reference"] == pytest.approx(volumes[0] - volumes[1])


def test_masks_without_scanner_coordinates_are_not_laid_over_each_other(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/A_T1", block())
        path = put(f"{side}/A_T2", block(grid=T2_GRID), T2_GRID)
        mask = nibabel.load(path)
        mask.set_qform(None, 0)
        mask.set_sform(None, 0)
        nibabel.save(mask, path)
    table = evaluated(tmp_path)
    assert set(table.modality) == {"T1", "T2"}
    (note,) = json.loads((tmp_path / "out" / "results.json").read_text())["notes"]
    assert "A_T2.nii.gz: gives no scanner coordinates" in json.dumps(note)


def test_the_summary_counts_and_tests(tmp_path, put_pair):
    put_pair("A", (block(), block(1)), (block(), narrow(5)))
    put_pair("B", (block(), narrow(7)), (block(), narrow(4)))
    put_pair("C", (block(), narrow(6)), (block(), block()))
    put_pair("D", (block(), 0 * block()), (block(), narrow(5)))
    put_pair("E", (0 * block(), 0 * block()), (block(), block()))
    table = evaluated(tmp_path, similarity="elastic")
    (row,) = summarise_pairs(table)
    assert (row["modality"], row["class"], row["pairs"], row["excluded"]) == ("T1-T2", "1", 5, 2)
    assert row["gain"] == pytest.approx(row["prediction"] - row["reference"])
    values = table.pivot_table(index="case", columns="metric", values="value").loc[["A", "B", "C"]]
    pred, ref = values.relative_similarity_prediction, values.relative_similarity_reference
    assert row["prediction"] == pytest.approx(pred.mean())
    assert row["reference"] == pytest.approx(ref.mean())
    assert np.isnan(row.pop("p_value"))  # three patients are too few for a test
    content = json.loads((tmp_path / "out/results.json").read_text())
    assert content["similarity"] == {"transforms": "elastic", "pairs": [{**row, "p_value": None}]}
    again = read_results(tmp_path / "out/results.csv")
    np.testing.assert_array_equal(again.value, table.value)
    assert "Agreement of both masks of a pair" in (tmp_path / "out/report.html").read_text()


def test_pairs_that_do_not_differ_have_no_p(tmp_path, put_pair):
    put_pair("A", (block(), block(1)), (block(2), block()))
    (row,) = summarise_pairs(evaluated(tmp_path))
    assert np.isnan(row["p_value"])
    assert (
        json.loads((tmp_path / "out/results.json").read_text())["similarity"]["pairs"][0]["p_value"]
        is None
    )


def test_half_a_pair_and_plain_maps_have_no_similarity(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/A_T1", block())
        put(f"{side}/B", block())
    assert set(evaluated(tmp_path).modality) == {"T1", "image"}
    assert "Agreement" not in (tmp_path / "out/report.html").read_text()


def test_a_lone_image_beside_pairs_is_named(tmp_path, put, put_pair):
    put_pair("A", (block(), block(1)), (block(2), block()))
    for side in ("predictions", "references"):
        put(f"{side}/B_T2", block())
    evaluated(tmp_path)
    notes = json.loads((tmp_path / "out/results.json").read_text())["notes"]
    assert notes == [
        {
            "case": "B T2",
            "reason": "the other image of the pair is missing: no relative similarity.",
        }
    ]


def test_unknown_classes_of_transforms_are_refused(tmp_path, put_pair):
    put_pair("A", (block(), block()), (block(), block()))
    with pytest.raises(
        InputError,
        match="similarity must be one of translation, rigid, affine, elastic, not 'bent'",
    ):
        evaluated(tmp_path, similarity="bent")


@pytest.mark.parametrize(
    ("options", "shown"),
    [(["--similarity", "translation"], True), (["--similarity", "none"], False)],
)
def test_the_command_shows_it(tmp_path, put_pair, options, shown):
    put_pair("A", (block(), block()), (block(), narrow(6)))
    folders = [f"{tmp_path}/{name}" for name in ("predictions", "references", "out")]
    arguments = [
        "evaluate",
        "-p",
        folders[0],
        "-r",
        folders[1],
        "-o",
        folders[2],
        "--processes",
        "1",
        *options,
    ]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    assert result.exit_code == 0
    assert ("Relative similarity of the masks of a pair (translation)" in result.output) == shown


# --- before and after


def pair_values(table):
    return table[table.modality == "T1-T2"].set_index("metric").value


def test_the_dice_as_it_lies_on_two_grids_is_that_of_the_boxes(tmp_path, put):
    """Boxes of 12 x 12 x 12 and 16 x 16 x 24 mm that share 8.25 x 9.75 x 6.5 mm, to within half a
    voxel of the common grid; their best Dice after a shift would be 0.44."""
    for side in ("predictions", "references"):
        put(f"{side}/A_T1", block())
        put(f"{side}/A_T2", block(grid=T2_GRID), T2_GRID)
    values = pair_values(evaluated(tmp_path))
    shared = 2 * 8.25 * 9.75 * 6.5 / (12**3 + 16 * 16 * 24)
    assert values["pair_dice_prediction"] == pytest.approx(shared, abs=0.035)
    assert values["pair_dice_reference"] == values["pair_dice_prediction"]


def test_a_perfect_prediction_is_warped_as_well_as_it_is_similar(tmp_path, put_pair):
    put_pair("A", (block(), narrow(5)), (block(), narrow(5)))
    values = pair_values(evaluated(tmp_path, similarity="elastic"))
    assert values["warped_dice"] == values["relative_similarity_prediction"]
    assert values["pair_dice_reference"] == pytest.approx(dice_of_columns(5))


def test_the_mask_that_a_registor_has_moved_is_measured_where_it_lies(tmp_path, put, put_pair):
    put_pair("A", (block(3), block()), (block(3), narrow(6)))
    put_pair("B", (block(3), block()), (block(3), block()))
    assert "registered_dice" not in set(evaluated(tmp_path).metric)
    for case in ("A", "B"):
        put(f"predictions/{case}_T1_on_T2", narrow(7))
    how = Options(similarity="translation")
    folders = [tmp_path / name for name in ("predictions", "references", "out")]
    table = evaluate(*folders, how, processes=1, overwrite=True)  # what is cached is too old
    registered = table[table.metric == "registered_dice"].set_index("case").value
    assert registered["A"] == pytest.approx(2 * 6 / (7 + 6))
    assert registered["B"] == pytest.approx(2 * 7 / (7 + 8))
    (row,) = summarise_pairs(table)
    assert row["registered_dice"] == pytest.approx(registered.mean())
    assert "First registered" in (tmp_path / "out/report.html").read_text()


def test_a_moved_mask_on_another_grid_is_said(tmp_path, put, put_pair):
    put_pair("A", (block(3), block()), (block(3), block()))
    put("predictions/A_T1_on_T2", block(grid=T2_GRID), T2_GRID)
    evaluated(tmp_path)
    (note,) = json.loads((tmp_path / "out/results.json").read_text())["notes"]
    assert "different grids" in note["reason"]
    assert str(tmp_path) not in note["reason"]


def test_before_and_after_are_the_mean_over_raters(tmp_path, put):
    for modality, mask in (("T1", block(2)), ("T2", block())):
        put(f"predictions/A_{modality}", mask)
    for rater, columns in (("anna", 8), ("ben", 4)):
        put(f"{rater}/A_T1", block(2))
        put(f"{rater}/A_T2", narrow(columns))
    raters = {name: tmp_path / name for name in ("anna", "ben")}
    how = Options(similarity="translation")
    table = evaluate(tmp_path / "predictions", raters, tmp_path / "out", how, processes=1)
    values = pair_values(table)
    assert values["warped_dice"] == pytest.approx((1 + dice_of_columns(4)) / 2)
    assert values["pair_dice_reference"] == pytest.approx((6 / 8 + 2 * 2 / (8 + 4)) / 2)


@pytest.mark.parametrize("side", ["predictions", "references"])
def test_without_a_mask_there_is_no_dice_of_a_pair(tmp_path, put_pair, side):
    masks = {"predictions": (block(), block()), "references": (block(), block())}
    put_pair("A", *(masks | {side: (0 * block(), 0 * block())}).values())
    values = pair_values(evaluated(tmp_path))
    empty = {"predictions": "pair_dice_prediction", "references": "pair_dice_reference"}
    assert np.isnan(values[empty[side]])
    assert np.isnan(values["warped_dice"])
    assert values[(set(empty.values()) - {empty[side]}).pop()] == 1


def test_terminal_and_report_have_them(tmp_path, put_pair):
    put_pair("A", (block(3), block(-2)), (block(), narrow(6)))
    folders = [f"{tmp_path}/{name}" for name in ("predictions", "references", "out")]
    options = ["--similarity", "translation", "--processes", "1"]
    result = CliRunner().invoke(
        app,
        ["evaluate", "-p", folders[0], "-r", folders[1], "-o", folders[2], *options],
        env={"COLUMNS": "200"},
    )
    assert result.exit_code == 0
    shown = result.output[result.output.index("Relative similarity of the masks") :]
    for number in ("0.375", "0.857"):
        assert number in shown
    page = (tmp_path / "out/report.html").read_text()
    assert "First warped" in page
    assert "how far the organ has moved" in page
