import json
import math

import numpy as np
import pytest

from nnunet_liver_ext.errors import CaseFailure, InputError
from nnunet_liver_ext.evaluation.files.find_label_maps import ImageKey
from nnunet_liver_ext.evaluation.measuring.one_case import CaseResult
from nnunet_liver_ext.evaluation.metric_catalogue import computed_metrics, measure
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.results_json import write_json
from nnunet_liver_ext.evaluation.results.results_table import (
    read_results,
    results_table,
    summarise,
    write_csv,
)
from nnunet_liver_ext.evaluation.tidy_table import empty_masks
from tests.evaluation.conftest import block


def results(*pairs, modality="T1", names=None):
    return [
        CaseResult(
            ImageKey(names[index] if names else f"P{index + 1:03d}", modality),
            {"liver": measure(pred != 0, ref != 0, (3.0, 1.5, 1.5))},
        )
        for index, (pred, ref) in enumerate(pairs)
    ]


def test_the_table_is_tidy():
    table = results_table(results((block(2), block()), (block(4), block())))
    assert list(table.columns) == [
        "case",
        "patient",
        "modality",
        "class",
        "metric",
        "value",
        "unit",
    ]
    assert len(table) == 2 * len(computed_metrics())
    dice = table[table.metric == "dice"]
    assert list(dice.value) == pytest.approx([0.75, 0.5])
    assert set(table[table.metric == "hd"].unit) == {"mm"}
    assert not table.isna().any().any()


def test_summary_by_hand():
    table = results_table(results((block(0), block()), (block(2), block()), (block(6), block())))
    row = summarise(table).set_index("metric").loc["dice"]
    assert (row.cases, row.infinite) == (3, 0)
    assert row["mean"] == pytest.approx((1 + 0.75 + 0.25) / 3)
    assert row["std"] == pytest.approx(np.std([1, 0.75, 0.25], ddof=1))
    assert (row["median"], row["min"], row["max"]) == pytest.approx((0.75, 0.25, 1))


def test_infinite_values_are_counted_and_in_no_mean():
    table = results_table(results((block(2), block()), (block() * 0, block())))
    summary = summarise(table).set_index("metric")
    assert summary.loc["hd", "cases"] == 2
    assert summary.loc["hd", "infinite"] == 1
    assert summary.loc["hd", "mean"] == summary.loc["hd", "max"] == pytest.approx(3)
    assert math.isnan(summary.loc["hd", "std"])
    assert summary.loc["dice", "mean"] == pytest.approx(0.75 / 2)


def test_empty_masks_are_flagged():
    nothing = block() * 0
    table = results_table(
        results((nothing, block()), (block(), nothing), (nothing, nothing), (block(), block()))
    )
    assert [(row["case"], row["empty"]) for row in empty_masks(table)] == [
        ("P001", "prediction"),
        ("P002", "reference"),
        ("P003", "both"),
    ]


def test_the_csv_is_read_as_it_was_written(tmp_path):
    table = results_table(results((block(2), block()), (block() * 0, block()), names=["007", "NA"]))
    write_csv(table, tmp_path / "results.csv")
    again = read_results(tmp_path / "results.csv")
    assert list(again.case) == list(table.case)
    np.testing.assert_array_equal(again.value, table.value)
    assert "inf" in (tmp_path / "results.csv").read_text()


def test_other_csv_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such results"):
        read_results(tmp_path / "results.csv")
    (tmp_path / "results.csv").write_text("case,dice\nP001,1\n")
    with pytest.raises(InputError, match="has the columns case, dice"):
        read_results(tmp_path / "results.csv")


def test_the_json_is_plain_and_complete(tmp_path):
    table = results_table(results((block() * 0, block())))
    path = tmp_path / "results.json"
    write_json(
        table,
        path,
        options=Options(tolerance_mm=3),
        failures=[CaseFailure("P002 T1", "why")],
        notes=[CaseFailure("P003 T1", "what")],
    )

    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content["tolerance_mm"] == 3
    assert content["failures"] == [{"case": "P002 T1", "reason": "why"}]
    assert content["notes"] == [{"case": "P003 T1", "reason": "what"}]
    assert content["empty_masks"] == [
        {"case": "P001", "modality": "T1", "class": "liver", "empty": "prediction"}
    ]
    assert {"nnunet_liver_ext", "scipy", "numpy"} <= content["versions"].keys()
    hd = next(row for row in content["summary"] if row["metric"] == "hd")
    assert (hd["infinite"], hd["mean"]) == (1, None)
