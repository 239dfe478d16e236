"""What raters, lesions, fat images and images add to the results, through the whole evaluation."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.evaluate import run_evaluation
from nnunet_liver_ext.evaluation.metric_catalogue import computed_metrics
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.results_table import read_results
from tests.evaluation.conftest import GRID, OTHER_GRID, block

LABELS = {"background": 0, "liver": 1, "tumour": 2}


def evaluated(root, options=Options(), references="references", **more):
    if isinstance(references, str):
        references = root / references
    return run_evaluation(
        root / "predictions", references, root / "out", options, processes=1, overwrite=True, **more
    )


def values(evaluation, case="A", name="1"):
    rows = evaluation.table[(evaluation.table.case == case) & (evaluation.table["class"] == name)]
    return dict(zip(rows.metric, rows.value, strict=True))


def liver_with(*tumours, shift=0):
    """The block with tumours of 2 x 2 x 2 voxels; each is the x of its first column."""
    labels = block(shift)
    for x in tumours:
        labels[3:5, 5:7, x : x + 2] = 2
    return labels


def describe(folder, **labels):
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


# ---------------------------------------------------------------------- raters


def three_raters(root, put):
    put("predictions/A", block(1))
    for rater, shift in (("anna", 0), ("ben", 2), ("cleo", 4)):
        put(f"{rater}/A", block(shift))
    return {rater: root / rater for rater in ("anna", "ben", "cleo")}


def test_the_mean_over_raters_and_what_they_think_of_each_other(tmp_path, put):
    evaluation = evaluated(tmp_path, references=three_raters(tmp_path, put))
    found = values(evaluation)
    to_raters, among = [7 / 8, 7 / 8, 5 / 8], [6 / 8, 4 / 8, 6 / 8]
    assert found["dice"] == pytest.approx(np.mean(to_raters))
    assert found["hd"] == pytest.approx(np.mean([1.5, 1.5, 4.5]))
    assert found["rater_dice"] == pytest.approx(np.mean(among))
    assert found["uncertainty_aware_score"] == pytest.approx(
        1 - 0.1 * (1 - np.mean(to_raters)) / (1 - np.mean(among))
    )
    raters = pd.read_csv(tmp_path / "out/raters.csv")
    assert list(raters["first"] + "-" + raters["second"]) == [
        "prediction-anna",
        "prediction-ben",
        "prediction-cleo",
        "anna-ben",
        "anna-cleo",
        "ben-cleo",
    ]
    assert list(raters.dice) == pytest.approx(to_raters + among)


def test_pairs_are_compared_with_raters_who_drew_both_images(tmp_path, put):
    for modality, shift in (("T1", 0), ("T2", 0)):
        put(f"predictions/A_{modality}", block(shift))
    put("anna/A_T1", block())
    put("anna/B_T1", block())
    for modality, mask in (
        ("T1", block()),
        ("T2", np.where(np.arange(24) < 10, block(), 0).astype(np.uint8)),
    ):
        put(f"ben/A_{modality}", mask)
    how = Options(similarity="translation")
    for order in (("anna", "ben"), ("ben", "anna")):
        evaluation = evaluated(
            tmp_path, how, references={rater: tmp_path / rater for rater in order}
        )
        pair = values(evaluation)
        assert pair["relative_similarity_prediction"] == 1
        assert pair["relative_similarity_reference"] == pytest.approx(
            2 * 6 / (6 + 8)
        )  # ben's alone


def test_pairs_have_the_mean_over_raters(tmp_path, put):
    for modality in ("T1", "T2"):
        put(f"predictions/A_{modality}", block())
        put(f"anna/A_{modality}", block())
    for modality, width in (("T1", 8), ("T2", 4)):
        put(f"ben/A_{modality}", np.where(np.arange(24) < 4 + width, block(), 0).astype(np.uint8))
    raters = {rater: tmp_path / rater for rater in ("anna", "ben")}
    pair = values(evaluated(tmp_path, Options(similarity="translation"), references=raters))
    assert pair["relative_similarity_reference"] == pytest.approx((1 + 2 * 4 / (4 + 8)) / 2)


def test_nobody_is_called_prediction(tmp_path, put):
    raters = three_raters(tmp_path, put)
    with pytest.raises(InputError, match="a rater cannot be called 'prediction'"):
        evaluated(tmp_path, references={"prediction": raters["anna"], "ben": raters["ben"]})


def test_a_rater_who_left_a_case_out_is_named_and_the_others_count(tmp_path, put):
    raters = three_raters(tmp_path, put)
    put("predictions/B", block())
    put("anna/B", block())
    evaluation = evaluated(tmp_path, references=raters)
    assert [(note.case, note.reason) for note in evaluation.notes] == [
        ("B", "has no mask of rater ben; measured against the others."),
        ("B", "has no mask of rater cleo; measured against the others."),
    ]
    found = values(evaluation, "B")
    assert found["dice"] == 1
    assert "rater_dice" not in found


def test_raters_on_different_grids_are_refused(tmp_path, put):
    raters = three_raters(tmp_path, put)
    put("ben/A", block(grid=OTHER_GRID), OTHER_GRID)
    with pytest.raises(InputError, match="masks of the raters are on different grids"):
        evaluated(tmp_path, references=raters)


def test_one_rater_has_no_rater_measures(tmp_path, put):
    put("predictions/A", block(1))
    put("references/A", block())
    evaluation = evaluated(tmp_path)
    assert not {"rater_dice", "uncertainty_aware_score"} & values(evaluation).keys()
    assert not (tmp_path / "out/raters.csv").exists()


# ---------------------------------------------------------------------- lesions


def test_lesions_are_found_missed_and_invented(tmp_path, put):
    put("predictions/A", liver_with(5, 9))
    put("references/A", liver_with(5, 7))
    describe(tmp_path / "references", **LABELS)
    evaluation = evaluated(tmp_path, Options(lesions=("tumour",)))
    found = values(evaluation, name="tumour")
    counts = [
        found[f"lesion_{name}"] for name in ("true_positives", "false_positives", "false_negatives")
    ]
    # the tumours touch along x: reference columns 5-8, prediction 5-6 and 9-10
    assert (found["lesions_reference"], found["lesions_prediction"]) == (1, 2)
    assert counts == [1, 1, 0]
    assert (found["lesion_recall"], found["lesion_precision"]) == (1, 0.5)
    liver = 4 * 8 * 8
    assert found["burden_reference"] == pytest.approx(100 * 16 / liver)
    assert found["burden_prediction"] == pytest.approx(100 * 16 / liver)
    assert "lesion_f1" not in values(evaluation, name="liver")
    rows = pd.read_csv(tmp_path / "out/lesions.csv", keep_default_na=False)
    assert list(rows.found) == ["hit", "false"]
    assert rows.dice[0] == pytest.approx(2 * 8 / (16 + 8))
    millilitres = 16 * 6.75 / 1000
    assert float(rows.reference_mm[0]) == pytest.approx(
        (6 * millilitres * 1000 / math.pi) ** (1 / 3)
    )


def test_no_lesion_at_all_is_no_exception(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/A", liver_with())
    describe(tmp_path / "references", **LABELS)
    found = values(evaluated(tmp_path, Options(lesions=("tumour",))), name="tumour")
    assert (found["dice"], found["lesions_reference"], found["burden_reference"]) == (1, 0, 0)
    assert math.isnan(found["lesion_f1"])


def test_an_unknown_class_of_lesions_is_refused(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/A", liver_with())
    describe(tmp_path / "references", **LABELS)
    with pytest.raises(
        InputError,
        match="there is no class cyst to measure lesion by lesion; there are liver, tumour",
    ):
        evaluated(tmp_path, Options(lesions=("cyst",)))
    assert not (tmp_path / "out").exists()


def test_a_class_of_lesions_that_no_case_has_is_named(tmp_path, put):
    put("predictions/A", liver_with(5))
    put("references/A", liver_with(5))
    evaluation = evaluated(tmp_path, Options(lesions=("2", "7")))
    assert [(note.case, note.reason) for note in evaluation.notes] == [
        ("7", "no case has this class, so there are no lesions.")
    ]
    assert values(evaluation, name="2")["lesion_f1"] == 1


def test_the_detection_of_all_cases_together_and_by_size(tmp_path, put):
    large = block(0)  # 4 x 8 x 8 voxels of 6.75 mm^3: 14.9 mm
    large[large > 0] = 2
    for case, prediction, reference in (
        ("A", liver_with(5, 9), liver_with(5)),  # a hit and a false lesion of 8 voxels, 4.7 mm
        ("B", large, large),  # a hit
        ("C", liver_with(), liver_with(5)),  # a miss
    ):
        put(f"predictions/{case}", prediction)
        put(f"references/{case}", reference)
    describe(tmp_path / "references", **LABELS)
    evaluated(tmp_path, Options(lesions=("tumour",)))
    rows = json.loads((tmp_path / "out/results.json").read_text())["detection"]
    names = ("true_positives", "false_positives", "false_negatives")
    counts = {row["size"]: [row[name] for name in names] for row in rows}
    assert counts == {
        "all": [2, 1, 1],
        "0 to 10": [1, 1, 1],
        "10 to 20": [1, 0, 0],
        "20 and more": [0, 0, 0],
    }
    assert rows[0]["recall"] == pytest.approx(2 / 3)
    assert rows[0]["false_positives_per_case_median"] == 0
    assert rows[3]["recall"] is None


def test_raters_detect_each_other(tmp_path, put):
    for name, tumours in (("predictions", (5,)), ("anna", (5,)), ("ben", (5, 9))):
        put(f"{name}/A", liver_with(*tumours))
        describe(tmp_path / name, **LABELS)
    evaluated(
        tmp_path,
        Options(lesions=("tumour",)),
        references={name: tmp_path / name for name in ("anna", "ben")},
    )
    rows = pd.read_csv(tmp_path / "out/raters.csv")
    rows = rows[rows["class"] == "tumour"].set_index(["first", "second"])
    assert list(rows.recall) == [
        1,
        0.5,
        0.5,
    ]  # of prediction and anna, prediction and ben, anna and ben
    assert list(rows.precision) == [1, 1, 1]


def test_the_burden_is_a_share_of_the_organ_alone(tmp_path, put):
    labels = liver_with(5)
    labels[12:14] = 3  # a large spleen
    for side in ("predictions", "references"):
        put(f"{side}/A", labels)
    describe(tmp_path / "references", **LABELS, spleen=3)
    found = values(evaluated(tmp_path, Options(lesions=("tumour",))), name="tumour")
    assert found["burden_reference"] == pytest.approx(100 * 8 / 256)
    other = values(evaluated(tmp_path, Options(lesions=("tumour",), organ="spleen")), name="tumour")
    assert other["burden_reference"] == pytest.approx(100 * 8 / (8 + 2 * 20 * 24))


def test_tumours_without_an_organ_have_no_burden(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/A", np.where(liver_with(5) == 2, 2, 0).astype(np.uint8))
    describe(tmp_path / "references", background=0, tumour=2)
    found = values(evaluated(tmp_path, Options(lesions=("tumour",))), name="tumour")
    assert found["lesion_f1"] == 1
    assert not [name for name in found if name.startswith("burden")]


def test_cases_without_a_lesion_count_without_class_names_too(tmp_path, put):
    for case, prediction, reference in (("A", (5, 9), ()), ("B", (), ()), ("C", (), ())):
        put(f"predictions/{case}", liver_with(*prediction))
        put(f"references/{case}", liver_with(*reference))
    evaluation = evaluated(tmp_path, Options(lesions=("2",)))
    false = evaluation.table[evaluation.table.metric == "lesion_false_positives"]
    assert list(false.value) == [2, 0, 0]
    assert (
        len(
            evaluation.table[
                (evaluation.table.metric == "pieces") & (evaluation.table["class"] == "2")
            ]
        )
        == 3
    )
    row, *_ = json.loads((tmp_path / "out/results.json").read_text())["detection"]
    assert (row["cases"], row["false_positives_per_case_median"]) == (3, 0)


def test_false_positives_are_counted_in_the_cases_of_each_rater(tmp_path, put):
    for case in ("A", "B", "C"):
        put(f"predictions/{case}", liver_with(5))
        put(f"anna/{case}", liver_with())
    put("ben/A", liver_with(5))
    for name in ("predictions", "anna", "ben"):
        describe(tmp_path / name, **LABELS)
    raters = {name: tmp_path / name for name in ("anna", "ben")}
    evaluated(tmp_path, Options(lesions=("tumour",)), references=raters)
    rows = json.loads((tmp_path / "out/results.json").read_text())["detection"]
    every = {
        row["rater"]: (row["cases"], row["false_positives_per_case_median"])
        for row in rows
        if row["size"] == "all"
    }
    assert every == {"anna": (3, 1), "ben": (1, 0)}


# ---------------------------------------------------------------------- fat fraction


def fat_image(value=8.0, rim=40.0):
    """Percent: `value` in the block, `rim` along its border in x."""
    percent = np.full(GRID.size[::-1], value, np.float32)
    percent[:, :, :5], percent[:, :, 11:] = rim, rim
    return percent


def test_fat_fractions_of_prediction_and_reference(tmp_path, put):
    put("predictions/A", block(1))
    put("references/A", block())
    put("fat/A", fat_image())
    found = values(evaluated(tmp_path, fat=tmp_path / "fat"))
    assert found["fat_mean_reference"] == pytest.approx((2 * 40 + 6 * 8) / 8)
    assert found["fat_mean_prediction"] == pytest.approx((2 * 40 + 6 * 8) / 8)
    assert found["fat_median_reference"] == 8
    with_margin = values(evaluated(tmp_path, Options(fat_margin_mm=1.5), fat=tmp_path / "fat"))
    assert with_margin["fat_mean_reference"] == pytest.approx(8)
    assert with_margin["fat_mean_prediction"] == pytest.approx((5 * 8 + 40) / 6)
    assert with_margin["fat_mean_difference"] == pytest.approx(32 / 6)


@pytest.mark.parametrize(
    ("scale", "reason"),
    [(0.01, "seems to be a fraction: multiply it by 100"), (10, "no percentage")],
)
def test_a_fat_image_that_is_not_in_percent_is_named_and_the_rest_measured(
    tmp_path, put, scale, reason
):
    put("predictions/A", block())
    put("references/A", block())
    put("fat/A", fat_image(rim=30) * scale)
    evaluation = evaluated(tmp_path, fat=tmp_path / "fat")
    (note,) = evaluation.notes
    assert note.reason.startswith("the fat fraction was not measured: ")
    assert reason in note.reason
    found = values(evaluation)
    assert found["dice"] == 1
    assert "fat_mean_reference" not in found


def test_a_fat_image_that_ends_within_the_liver_is_named(tmp_path, put):
    put("predictions/A", block())
    put("references/A", block())
    half = type(GRID)((24, 20, 4), GRID.spacing, GRID.origin, GRID.direction)
    put("fat/A", np.full(half.size[::-1], 20, np.float32), half)
    evaluation = evaluated(tmp_path, fat=tmp_path / "fat")
    (note,) = evaluation.notes
    assert (
        "the fat fraction was not measured: fat_percent is nan or infinite in 128 voxels of the"
        " mask" in note.reason
    )
    assert "fat_mean_reference" not in values(evaluation)


def test_a_case_without_fat_image_is_named(tmp_path, put):
    for case in ("A", "B"):
        put(f"predictions/{case}", block())
        put(f"references/{case}", block())
    put("fat/A", fat_image())
    evaluation = evaluated(tmp_path, fat=tmp_path / "fat")
    assert [(note.case, note.reason) for note in evaluation.notes] == [
        ("B", "no image of the fat fraction was found.")
    ]


# ---------------------------------------------------------------------- plausibility, grids,
# conventions, patients


def test_pieces_and_sides_of_the_prediction(tmp_path, put):
    pred = block()
    pred[10, 1, 1:3] = 1
    put("predictions/A", pred)
    put("references/A", block())
    found = values(evaluated(tmp_path))
    assert found["pieces"] == 2
    assert found["share_outside_largest_piece"] == pytest.approx(100 * 2 / 258)
    assert found["share_on_the_left"] == pytest.approx(0)
    assert "share_outside_the_body" not in found


def test_the_body_comes_from_the_image(tmp_path, put):
    put("predictions/A", block(8))
    put("references/A", block())
    image = np.random.default_rng(0).normal(3, 1, GRID.size[::-1]).astype(np.float32)
    image[:, 2:18, 2:16] = 400
    put("images/A", image)
    found = values(evaluated(tmp_path, images=tmp_path / "images"))
    # columns 12 to 19 of which the body has 12 to 15, and a rim of smoothing
    assert 20 <= found["share_outside_the_body"] <= 50
    assert found["share_on_the_left"] == 100


def test_a_damaged_image_is_named_and_the_rest_measured(tmp_path, put):
    put("predictions/A", block())
    put("references/A", block())
    put("images/A", block().astype(np.float32)).write_bytes(b"damaged")
    evaluation = evaluated(tmp_path, images=tmp_path / "images")
    (note,) = evaluation.notes
    assert note.reason.startswith("the body was not found: A.nii.gz: cannot be read")
    assert values(evaluation)["dice"] == 1


def test_predictions_on_another_grid_are_resampled_if_asked(tmp_path, put):
    shifted = type(GRID)(
        GRID.size, GRID.spacing, (GRID.origin[0] - 3.0, *GRID.origin[1:]), GRID.direction
    )
    put(
        "predictions/A", block(2), shifted
    )  # two columns of 1.5 mm further, on a grid that begins two columns earlier
    put("references/A", block())
    with pytest.raises(InputError, match=r"different grids .* \(--resample reference\)"):
        evaluated(tmp_path)
    assert values(evaluated(tmp_path, Options(resample=True)))["dice"] == 1


def test_the_four_values_of_chaos(tmp_path, put):
    pred, ref = block(), block()
    pred[:, :, :12], ref[:, :, :12] = 1, 1  # cut off by the volume
    pred[:, :, 12] = 1
    put("predictions/A", pred)
    put("references/A", ref)
    found = values(evaluated(tmp_path, Options(convention="chaos")))
    assert found["chaos_dice"] == pytest.approx(2 * 12 / 25)
    assert found["chaos_ravd"] == pytest.approx(100 / 12)
    assert (found["chaos_assd"], found["chaos_mssd"]) == (pytest.approx(1.5), pytest.approx(1.5))
    assert found["hd"] == found["chaos_mssd"]
    standard = values(evaluated(tmp_path))
    assert not [name for name in standard if name.startswith("chaos")]
    assert standard["asd"] < 1.5  # the faces where the volume ends count, and are 0 mm apart


@pytest.mark.parametrize(
    ("only", "more"),
    [
        (("overlap",), set()),
        (("volume",), {name for name in computed_metrics() if "volume" in name}),
        (("surface",), {"surface_dice", "hd", "hd95", "asd", "masd"}),
        (("plausibility",), {"pieces", "share_outside_largest_piece", "share_on_the_left"}),
    ],
)
def test_only_what_is_wanted_is_measured(tmp_path, put, only, more):
    put("predictions/A", block(1))
    put("references/A", block())
    everything = values(evaluated(tmp_path))
    found = values(evaluated(tmp_path, Options(only=only)))
    always = {"dice", "iou", "volume_prediction", "volume_reference"}
    assert found.keys() == always | more
    assert found == {name: everything[name] for name in found}


def test_patients_of_studies_and_of_cases(tmp_path, put):
    for case in ("anna_1", "anna_2"):
        put(f"predictions/{case}_T1", block())
        put(f"images/{case}", block().astype(np.float32))
        put(f"masks/{case}", block())
    rows = [f"anna,{n},images/anna_{n}.nii.gz,masks/anna_{n}.nii.gz" for n in (1, 2)]
    (tmp_path / "studies.csv").write_text("patient,study,t1,t1_mask\n" + "\n".join(rows))
    evaluation = evaluated(tmp_path, references="studies.csv")
    assert set(evaluation.table.patient) == {"anna"}
    assert set(evaluation.table.case) == {"anna_1", "anna_2"}
    pd.testing.assert_frame_equal(read_results(tmp_path / "out/results.csv"), evaluation.table)
    put("references/anna_1_T1", block())
    assert set(evaluated(tmp_path).table.patient) == {"anna_1"}


def test_results_without_patients_are_read(tmp_path):
    (tmp_path / "results.csv").write_text(
        "case,modality,class,metric,value,unit\n007,T1,liver,dice,0.5,1\n"
    )
    table = read_results(tmp_path / "results.csv")
    assert list(table.iloc[0]) == ["007", "007", "T1", "liver", "dice", 0.5, "1"]


# ---------------------------------------------------------------------- formats


def test_only_the_formats_that_are_wanted_are_written(tmp_path, put):
    put("predictions/A", block(1))
    put("references/A", block())
    evaluation = evaluated(tmp_path, formats=("tex",))
    assert (
        sorted(path.name for path in (tmp_path / "out").glob("[!.]*"))
        == evaluation.written
        == ["results.csv", "summary.tex"]
    )
    table = (tmp_path / "out/summary.tex").read_text()
    assert r"label 1 & 1 & 0.875 \ensuremath{\pm} -- &" in " ".join(table.split())
    assert r"\toprule" in table
    with pytest.raises(InputError, match="there is no format pdf; there are csv, json, html, tex"):
        evaluated(tmp_path, formats=("pdf",))


# ---------------------------------------------------------------------- the command


def test_the_command_takes_raters_lesions_and_fat(tmp_path, put):
    for name, tumours in (("predictions", (5,)), ("anna", (5,)), ("ben", (8,))):
        put(f"{name}/A", liver_with(*tumours))
        describe(tmp_path / name, **LABELS)
    put("fat/A", fat_image())
    arguments = [
        "evaluate",
        "-p",
        tmp_path / "predictions",
        "-o",
        tmp_path / "out",
        "--lesions",
        "tumour",
    ]
    arguments += [
        "-r",
        f"anna={tmp_path / 'anna'}",
        "-r",
        tmp_path / "ben",
        "--fat",
        tmp_path / "fat",
    ]
    result = CliRunner().invoke(
        app, [str(argument) for argument in arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert "lesions.csv" in result.output
    assert set(pd.read_csv(tmp_path / "out/raters.csv").second) == {"anna", "R2"}
    found = read_results(tmp_path / "out/results.csv")
    f1 = found[(found.metric == "lesion_f1") & (found["class"] == "tumour")].value
    assert list(f1) == [pytest.approx(0.5)]  # found by one rater's measure, not by the other's


def test_nothing_of_an_earlier_evaluation_is_left(tmp_path, put):
    for name in ("predictions", "references"):
        put(f"{name}/A", liver_with(5))
        describe(tmp_path / name, **LABELS)
    evaluated(tmp_path, Options(lesions=("tumour",)), formats=("csv", "json", "html", "tex"))
    (tmp_path / "out/mine.txt").write_text("kept")
    evaluation = evaluated(tmp_path, formats=("csv",))
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "mine.txt",
        "results.csv",
    ]
    assert evaluation.written == ["results.csv"]


def test_a_wholly_wrong_prediction_counts_as_zero(tmp_path, put):
    put("predictions/A", block(label=2))
    put("references/A", block())
    put("predictions/B", liver_with(5))
    put("references/B", liver_with(5))
    evaluation = evaluated(tmp_path)
    assert [(note.case, note.reason) for note in evaluation.notes] == [
        ("A", "prediction and reference have no label in common.")
    ]
    assert values(evaluation, "A", "1")["dice"] == values(evaluation, "A", "2")["dice"] == 0
    for path in (tmp_path / "predictions/B.nii.gz", tmp_path / "references/B.nii.gz"):
        path.unlink()
    with pytest.raises(
        InputError, match=r"no label in common in any case; name the references' with --label"
    ):
        evaluated(tmp_path)


def test_labels_are_given_for_references_that_name_them_otherwise(tmp_path, put):
    put("predictions/A", block())
    describe(tmp_path / "predictions", background=0, liver=1)
    put("references/A", block(label=6))
    describe(tmp_path / "references", background=0, spleen=1, liver=6)
    assert values(evaluated(tmp_path, reference_classes={"liver": (6,)}), name="liver")["dice"] == 1


@pytest.mark.parametrize("order", [("liver", "tumour"), ("tumour", "liver")])
def test_the_order_of_overlapping_labels_does_not_matter(tmp_path, put, order):
    for name in ("predictions", "references"):
        put(f"{name}/A", liver_with(5))
    describe(tmp_path / "predictions", background=0, liver=[1, 2], tumour=2)
    labels = {"liver": (1, 2), "tumour": (2,)}
    evaluation = evaluated(tmp_path, reference_classes={name: labels[name] for name in order})
    assert {name: values(evaluation, name=name)["dice"] for name in labels} == {
        "liver": 1,
        "tumour": 1,
    }


@pytest.mark.parametrize("label", ["liver", "=3", "liver=0", "liver=one"])
def test_labels_that_say_nothing_are_refused(label):
    result = CliRunner().invoke(
        app, ["evaluate", "-p", "x", "-r", "y", "-o", "z", "--label", label]
    )
    assert result.exit_code == 2
    assert f"--label {label}: write NAME=VALUE" in " ".join(result.output.split())


def test_a_label_that_is_given_twice_is_refused():
    labels = ["--label", "liver=6", "--label", "liver=7"]
    result = CliRunner().invoke(app, ["evaluate", "-p", "x", "-r", "y", "-o", "z", *labels])
    assert result.exit_code == 2
    assert "liver is given twice" in " ".join(result.output.split())


def test_only_overlap_leaves_pairs_alone(tmp_path, put):
    for side in ("predictions", "references"):
        for modality in ("T1", "T2"):
            put(f"{side}/A_{modality}", block())
    assert set(
        evaluated(tmp_path, Options(similarity="elastic", only=("overlap",))).table.modality
    ) == {"T1", "T2"}
    assert json.loads((tmp_path / "out/results.json").read_text())["empty_masks"] == []


def test_the_conventions_say_what_lies_beyond_the_volume(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/A", block())
    for convention, beyond in (("standard", "background"), ("chaos", "more of the mask")):
        evaluated(tmp_path, Options(convention=convention))
        said = json.loads((tmp_path / "out/results.json").read_text())["conventions"]["surface"]
        assert said.endswith(f"beyond the volume is {beyond}")


@pytest.mark.parametrize(
    "option", [("--seed", "1"), ("--fold", "0"), ("--no-mirroring",), ("--device", "cpu")]
)
def test_options_of_the_mismatch_test_are_not_ignored(option):
    result = CliRunner().invoke(app, ["evaluate", "-p", "x", "-r", "y", "-o", "z", *option])
    assert result.exit_code == 2
    assert f"No such option: {option[0]}" in " ".join(result.output.split())


def test_two_raters_of_one_name_are_refused(tmp_path):
    result = CliRunner().invoke(app, ["evaluate", "-p", "x", "-o", "y", "-r", "a=b", "-r", "a=c"])
    assert result.exit_code == 2
    assert "two raters a" in result.output
