"""Rare classes: a model that never predicts one must not come out first."""

import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.evaluation.absent_objects import (
    Presence,
    count_presence,
    leave_out_absent,
)
from nnunet_liver_ext.evaluation.crossval.best_model import find_best
from nnunet_liver_ext.evaluation.evaluate import evaluate, run_evaluation
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS, measure
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.latex import summary_latex
from nnunet_liver_ext.evaluation.results.results_table import read_results, summarise
from nnunet_liver_ext.evaluation.results.terminal import summary_table
from nnunet_liver_ext.evaluation.statistics.paired_comparison import compare_paired
from nnunet_liver_ext.evaluation.statistics.sentences import comparison_sentence
from nnunet_liver_ext.evaluation.tidy_table import COLUMNS
from tests.evaluation.conftest import GRID, block

CASES, WITH_TUMOUR = 20, 2
NOTHING = np.zeros(GRID.size[::-1], bool)


def rows_of(masks, name="tumour"):
    """A table of results from (prediction, reference) of each case."""
    return pd.DataFrame(
        [
            (f"P{n:02d}", f"P{n:02d}", "image", name, metric, value, METRICS[metric].unit)
            for n, (pred, ref) in enumerate(masks)
            for metric, value in measure(pred, ref, GRID.spacing_mm).items()
        ],
        columns=list(COLUMNS),
    )


def tumours(shift, *, invented=0):
    """2 of 20 cases have a tumour, predicted shifted by columns (Dice (8 - n) / 8) or, for None,
    not at all; `invented` of the others get a false one."""
    there = block() > 0
    predicted = NOTHING if shift is None else block(shift) > 0
    others = [(there if n < invented else NOTHING, NOTHING) for n in range(CASES - WITH_TUMOUR)]
    return rows_of([(predicted, there)] * WITH_TUMOUR + others)


def monai_mean(masks):
    """MONAI's own: a Dice without reference is nan and is left out."""
    import torch
    from monai.metrics import DiceMetric

    metric = DiceMetric(include_background=True, reduction="mean", ignore_empty=True)
    for pred, ref in masks:
        metric(torch.tensor(pred[None, None]).float(), torch.tensor(ref[None, None]).float())
    return float(metric.aggregate())


def mean(table, metric="dice", empty="exclude"):
    summary = summarise(leave_out_absent(table, empty)).set_index("metric")
    return summary.loc[metric, "mean"]


def test_the_mean_is_over_the_cases_with_the_class():
    blind, finds, invents = tumours(None), tumours(2), tumours(2, invented=3)
    assert [mean(table) for table in (blind, finds, invents)] == [0, 0.75, 0.75]
    assert [mean(table, empty="one") for table in (blind, finds, invents)] == pytest.approx(
        [18 / 20, (2 * 0.75 + 18) / 20, (2 * 0.75 + 15) / 20]
    )
    key = ("image", "tumour")
    assert count_presence(blind)[key] == Presence(20, 2, missed=2, false_positives=0)
    assert count_presence(invents)[key] == Presence(20, 2, missed=0, false_positives=3)


def test_it_is_monais_mean_without_empty_references():
    masks = [(block(n) > 0, block() > 0) for n in range(4)]
    masks += [(NOTHING, NOTHING), (block() > 0, NOTHING), (NOTHING, block() > 0)]
    expected = (1 + 7 / 8 + 6 / 8 + 5 / 8 + 0) / 5
    assert mean(rows_of(masks)) == pytest.approx(expected)
    pytest.importorskip("monai")
    assert monai_mean(masks) == pytest.approx(expected)


def test_it_is_nnunets_order_of_the_models():
    """nnU-Net leaves cases out in which both are empty (nan), and takes the mean of the others."""
    from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn

    def nnunet_mean(shift):
        pred = NOTHING if shift is None else block(shift) > 0
        values = []
        for ref in [block() > 0] * WITH_TUMOUR + [NOTHING] * (CASES - WITH_TUMOUR):
            tp, fp, fn, _ = compute_tp_fp_fn_tn(ref, pred if ref.any() else NOTHING, None)
            values.append(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan)
        return np.nanmean(values)

    assert [mean(tumours(shift)) for shift in (None, 2)] == [nnunet_mean(None), nnunet_mean(2)]


def test_what_is_a_quantity_of_every_case_stays():
    table = leave_out_absent(tumours(2, invented=3))
    there = table[table.value.notna()].metric.value_counts()
    assert {there[name] for name in ("dice", "hd", "surface_dice", "masd")} == {WITH_TUMOUR}
    assert {there[name] for name in ("volume_prediction", "volume_difference")} == {CASES}


def test_without_volumes_nothing_is_left_out():
    table = tumours(None)
    known = leave_out_absent(table[~table.metric.str.startswith("volume")])
    assert known.value.notna().all()
    assert count_presence(table[table.metric == "dice"]) == {}


def printed(table, **more):
    console = Console(width=220, record=True, file=io.StringIO())
    console.print(summary_table(table, tolerance_mm=2, **more))
    return " ".join(console.export_text().split())


def test_terminal_and_latex_state_where_the_class_is():
    table = tumours(2, invented=3)
    shown = printed(table)
    assert "2 of 20" in shown
    assert "3 of 18" in shown
    assert "0.750" in shown
    assert "over the cases whose reference has the object" in shown
    assert "two empty masks as Dice 1" in printed(table, empty="one")
    text = summary_latex(table)
    assert "& 2 of 20 & 3 of 18 & 0.750" in text
    assert "False positives" in text
    everywhere = rows_of([(block(1) > 0, block() > 0)] * 3)
    assert "False" not in printed(everywhere) + summary_latex(everywhere)


@pytest.fixture
def rare(put, tmp_path):
    """Six cases with a liver (1), one with a tumour (2); it is found, and invented in P5."""
    labels = '{"labels": {"background": 0, "liver": 1, "tumour": 2}}'
    for n in range(6):
        ref, pred = block(0), block(1)
        if n == 0:
            ref[3, 4:8, 6:10] = pred[3, 4:8, 7:11] = 2  # Dice 0.75
        if n == 5:
            pred[3, 4:6, 7:9] = 2
        put(f"refs/P{n}", ref)
        put(f"preds/P{n}", pred)
    for folder in ("refs", "preds"):
        (tmp_path / folder / "dataset.json").write_text(labels)
    return tmp_path


def test_results_and_report_follow(rare):
    result = run_evaluation(rare / "preds", rare / "refs", rare / "out", processes=1)
    content = json.loads((rare / "out" / "results.json").read_text())
    assert {
        "modality": "image",
        "class": "tumour",
        "cases": 6,
        "in_reference": 1,
        "missed": 0,
        "false_positives": 1,
    } in content["presence"]
    dice = next(
        row for row in content["summary"] if (row["class"], row["metric"]) == ("tumour", "dice")
    )
    assert (dice["cases"], dice["undefined"], dice["mean"]) == (6, 5, 0.75)
    assert content["options"]["empty"] == "exclude"
    page = (rare / "out" / "report.html").read_text()
    assert "1 of 6 cases" in page
    assert "false positives 1 of 5" in page
    assert "a false positive; in no mean of overlap and distance" in page
    assert "counts as right" not in page
    values = result.table.query("metric == 'dice' and `class` == 'tumour'").value
    assert sorted(values) == [0, 0.75, 1, 1, 1, 1]  # those of single cases are as they were


def test_both_empty_may_count_as_one(rare):
    command = ["evaluate", "-p", str(rare / "preds"), "-r", str(rare / "refs"), "--processes", "1"]
    run = CliRunner().invoke(app, [*command, "-o", str(rare / "one"), "--empty", "one"])
    assert run.exit_code == 0, run.output
    content = json.loads((rare / "one" / "results.json").read_text())
    dice = next(
        row for row in content["summary"] if (row["class"], row["metric"]) == ("tumour", "dice")
    )
    assert dice["mean"] == pytest.approx((0.75 + 4) / 6)
    assert "counts as right" in (rare / "one" / "report.html").read_text()
    with pytest.raises(InputError, match="empty must be one of exclude, one"):
        Options(empty="zero")  # type: ignore[arg-type]


def test_overlap_alone_still_says_where_the_class_is(rare):
    evaluate(rare / "preds", rare / "refs", rare / "out", Options(only=("overlap",)), processes=1)
    table = read_results(rare / "out" / "results.csv")
    assert set(table.metric) == {"dice", "iou", "volume_prediction", "volume_reference"}
    assert count_presence(table)["image", "tumour"].in_reference == 1


def models():
    livers = rows_of([(block(1) > 0, block() > 0)] * CASES, "liver")
    return {
        "blind": pd.concat([livers, tumours(None)], ignore_index=True),
        "finds": pd.concat([livers, tumours(2, invented=3)], ignore_index=True),
    }


def test_a_cross_validation_prefers_the_model_that_finds_them():
    by_model = {name: {0: table} for name, table in models().items()}
    best = find_best(by_model)
    assert best.name == "finds"
    assert best.scores == pytest.approx({"finds": (7 / 8 + 0.75) / 2, "blind": (7 / 8 + 0) / 2})
    assert best.sentences()[-1] == (
        "tumour is in the reference of 2 of 20 cases, over which its means are; false positives in"
        " the others: blind 0 of 18, finds 3 of 18."
    )
    assert find_best(by_model, empty="one").name == "blind"  # 18 · 1 against 15 · 1 + 2 · 0.75
    nothing = {name: {0: rows_of([(NOTHING, NOTHING)] * 3)} for name in ("a", "b")}
    with pytest.raises(InputError, match="no reference has any of the classes"):
        find_best(nothing)


def test_a_comparison_leaves_the_others_out_and_counts_them():
    both = pd.concat([table.assign(model=name) for name, table in models().items()])
    rows = compare_paired(both, "blind", metrics=["dice", "hd"]).query("`class` == 'tumour'")
    row = rows[rows.metric == "dice"].iloc[0]
    assert (row.cases, row.mean_a, row.mean_b) == (2, 0, 0.75)
    assert (row.absent, row.false_positives_a, row.false_positives_b) == (18, 0, 3)
    assert (row.not_finite, row.missing) == (0, 0)
    assert (
        "Left out of the means: 18 cases without it in the reference (false positives blind: 0,"
        " finds: 3)." in comparison_sentence(row)
    )
    one = compare_paired(both, "blind", metrics=["dice"], empty="one").query("`class` == 'tumour'")
    assert (one.cases.item(), one.absent.item()) == (20, 0)
    assert one.mean_difference.item() == pytest.approx((2 * 0.75 - 3) / 20)


def test_the_command_compare_says_it(tmp_path):
    for name, table in models().items():
        (tmp_path / name).mkdir()
        table.to_csv(tmp_path / name / "results.csv", index=False, na_rep="nan")
    command = ["compare", str(tmp_path / "blind"), str(tmp_path / "finds"), "-o"]
    run = CliRunner().invoke(app, [*command, str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "tumour is in the reference of 2 of 20 cases, over which its means are" in text
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content["empty"] == "exclude"
    run = CliRunner().invoke(app, [*command, str(tmp_path / "one"), "--empty", "one"])
    assert run.exit_code == 0, run.output
    assert "two empty masks as Dice 1" in (tmp_path / "one" / "comparison.md").read_text()


@pytest.mark.parametrize(("label", "dtype"), [(255, np.uint8), (-1, np.int16), (65535, np.uint16)])
def test_a_stray_label_is_named_and_no_class(put, tmp_path, label, dtype):
    for n in range(4):
        ref = block(0).astype(dtype)
        if n == 2:
            ref[0, 0, :3] = label
        put(f"refs/P{n}", ref)
        put(f"preds/P{n}", block(1))
    with pytest.raises(SomeCasesFailed, match="P2") as error:
        evaluate(tmp_path / "preds", tmp_path / "refs", tmp_path / "out", processes=1)
    (failure,) = error.value.failures
    assert failure.reason.startswith(
        f"the reference (0.02 ml) holds the label {label}, which is no class."
    )
    table = read_results(tmp_path / "out" / "results.csv")
    assert set(table["class"]) == {"1"}
    assert set(table["case"]) == {"P0", "P1", "P3"}


def test_masks_of_0_and_255_are_masks(put, tmp_path):
    for n in range(2):
        put(f"refs/P{n}", block(0, label=255))
        put(f"preds/P{n}", block(1, label=255))
    table = evaluate(tmp_path / "preds", tmp_path / "refs", tmp_path / "out", processes=1)
    assert list(table[table.metric == "dice"].value) == [7 / 8] * 2
