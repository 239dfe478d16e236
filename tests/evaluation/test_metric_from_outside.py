"""A metric is one function of arrays and one entry: everything else follows from the entry.

Added here, outside the package: volumetric similarity, 1 − ||P| − |R|| / (|P| + |R|) (Taha and
Hanbury 2015), as good a citizen of tables, report and statistics as the surface Dice.
"""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.comparison.compare_models import compare_results
from nnunet_liver_ext.evaluation.comparison.terminal_summary import comparison_tables
from nnunet_liver_ext.evaluation.evaluate import evaluate
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.metric_entry import Metric
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.results.terminal import summary_table
from nnunet_liver_ext.evaluation.write_comparison import write_comparison
from tests.evaluation.conftest import block
from tests.evaluation.report.report_pages import Page
from tests.test_docs_tables import tables  # noqa: F401

CASES = tuple(f"P{number}" for number in range(8))
NAME, TITLE = "volumetric_similarity", "Volumetric similarity"
DEFINITION = "1 minus the share of the volumes' difference in their sum"


def volumetric_similarity(pred: np.ndarray, ref: np.ndarray) -> float:
    total = int(pred.sum()) + int(ref.sum())
    return 1 - abs(int(pred.sum()) - int(ref.sum())) / total if total else 1.0


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> Metric:
    metric = Metric(
        NAME,
        TITLE,
        "1",
        3,
        "volume",
        "higher",
        meaning="1 − ||P| − |R|| / (|P| + |R|)",
        source="Taha and Hanbury 2015",
        compute=lambda masks: volumetric_similarity(masks.prediction, masks.reference),
        bounds=(0.0, 1.0),
        summarised=True,
        on_card=True,
        shown_first=True,
        plotted_with="overlap",
        reference_line=0.5,
        reference_note="Dashed: one mask has three times the volume of the other.",
        flags_outliers=True,
        dice_like=True,
        depends_on=("tolerance_mm",),
        convention=DEFINITION,
        methods_sentence="Volumetric similarity was measured beside it.",
    )
    monkeypatch.setitem(METRICS, NAME, metric)
    return metric


def without_columns(count: int) -> np.ndarray:
    """The block of 8 columns without its last ones: volumetric similarity 1 − n / (16 − n)."""
    labels = block()
    labels[..., 12 - count : 12] = 0
    return labels


@pytest.fixture
def evaluated(entry, put, tmp_path) -> dict[str, Path]:
    """Folders of the results of two models: "good" leaves out 1 column, in one case 4; "poor" 2 to
    5 columns."""
    for number, case in enumerate(CASES):
        put(f"references/{case}", block())
        put(f"good/{case}", without_columns(4 if number == 7 else 1))
        put(f"poor/{case}", without_columns(5 if number == 7 else 2 + number % 3))
    for model in ("good", "poor"):
        evaluate(
            tmp_path / model,
            tmp_path / "references",
            tmp_path / f"results/{model}",
            processes=1,
            formats=("csv", "json", "html", "tex"),
        )
    return {model: tmp_path / f"results/{model}" for model in ("good", "poor")}


def printed(*parts) -> str:
    console = Console(width=250, record=True, file=io.StringIO())
    for part in parts:
        console.print(part)
    return " ".join(console.export_text().split())


def test_it_is_in_every_table_of_an_evaluation(evaluated):
    folder = evaluated["good"]
    table = pd.read_csv(folder / "results.csv")
    values = table[table.metric == NAME]
    assert list(values.value) == pytest.approx([1 - 1 / 15] * 7 + [1 - 4 / 12])
    assert set(values.unit.astype(str)) == {"1"}
    content = json.loads((folder / "results.json").read_text())
    (row,) = [row for row in content["summary"] if row["metric"] == NAME]
    assert row["mean"] == pytest.approx((7 * 14 / 15 + 8 / 12) / 8)
    assert content["conventions"][NAME] == DEFINITION
    assert TITLE in (folder / "summary.tex").read_text()
    assert "0.900 \\ensuremath{\\pm} 0.094" in (folder / "summary.tex").read_text()
    shown = printed(summary_table(table, tolerance_mm=2))
    assert "Volumetric" in shown
    assert "similarity" in shown


def test_it_is_measured_only_where_its_kind_is_wanted(entry, put, tmp_path):
    put("predictions/P0", block())
    put("references/P0", block())
    folders = (tmp_path / "predictions", tmp_path / "references")
    for only, there in ((("volume",), True), (("surface",), False)):
        table = evaluate(*folders, tmp_path / only[0], Options(only=only), processes=1)
        assert (NAME in set(table.metric)) == there


def test_results_without_it_are_measured_again(entry, put, tmp_path, monkeypatch):
    put("predictions/P0", block())
    put("references/P0", block())
    folders = (tmp_path / "predictions", tmp_path / "references", tmp_path / "out")
    monkeypatch.delitem(METRICS, NAME)
    assert NAME not in set(evaluate(*folders, processes=1).metric)
    monkeypatch.setitem(METRICS, NAME, entry)
    assert NAME in set(evaluate(*folders, processes=1, overwrite=True).metric)


def test_it_is_on_the_report(evaluated):
    page = Page.of(evaluated["good"] / "report.html")
    (card,) = page.all("article", "card")
    assert TITLE in card.text
    titles = [caption.text for caption in page.all("figcaption")]
    assert any(TITLE in title for title in titles)
    assert "Dashed: one mask has three times the volume of the other." in page.text
    assert any(TITLE in cell.text for cell in page.all("th"))
    assert "Volumetric similarity outlier" in page.text
    assert (
        "Volumetric similarity was measured beside it." in page.one("div", id="methods-text").text
    )
    assert DEFINITION in page.text


def test_models_are_compared_by_it(evaluated, tmp_path):
    compared = compare_results([evaluated["poor"], evaluated["good"]])
    (row,) = compared.table[compared.table.metric == NAME].to_dict("records")
    assert row["verdict"] == "better"
    assert row["p_value"] == 2 / 2**8
    assert (row["family"], row["smallest_difference"]) == ("volume", 0.005)
    write_comparison(compared, tmp_path / "comparison")
    for name in ("comparison.csv", "comparison.md", "comparison.tex", "report.html"):
        text = (tmp_path / "comparison" / name).read_text()
        assert (NAME if name == "comparison.csv" else TITLE) in text, name
    assert f"{TITLE} of" in printed(*comparison_tables(compared.table))


@pytest.mark.parametrize("entry_name", [NAME, "tolerance_mm"])
def test_other_conventions_of_it_are_refused(evaluated, entry_name):
    path = evaluated["good"] / "results.json"
    content = json.loads(path.read_text())
    if entry_name == NAME:
        content["conventions"][NAME] = "another definition"
    else:
        content["tolerance_mm"] = 5.0
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"{NAME} was measured differently"):
        compare_results([evaluated["poor"], evaluated["good"]], metrics=[NAME])


def test_the_documentation_lists_it(entry, tables):  # noqa: F811
    (line,) = [line for line in tables.metrics().splitlines() if NAME in line]
    assert line == (
        "| volume | `volumetric_similarity` | 1 | higher | 1 − \\|\\|P\\| − \\|R\\|\\| /"
        " (\\|P\\| + \\|R\\|) | Taha and Hanbury 2015 |"
    )
