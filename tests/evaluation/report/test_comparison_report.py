"""The page of a comparison of models, without a browser."""

import pandas as pd
import pytest

from nnunet_liver_ext.evaluation.report import write_comparison_report
from nnunet_liver_ext.evaluation.statistics.paired_comparison import compare_paired
from nnunet_liver_ext.evaluation.statistics.sentences import comparison_sentence
from nnunet_liver_ext.evaluation.statistics.stability import ranking_stability, run_to_run
from tests.evaluation.report.report_pages import Page, livers
from tests.evaluation.report.test_evaluation_report import leads_everywhere, rows_of, stands_alone

DICES = {
    "single": [0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.90, 0.0],
    "dual": [0.93, 0.94, 0.95, 0.96, 0.96, 0.97, 0.92, 0.9],
    "third": [0.90, 0.92, 0.91, 0.93, 0.95, 0.94, 0.91, 0.9],
}
METRICS = ["dice", "hd95", "volume_difference"]


def tables_of(*models):
    """T2 a little worse than T1; a missed liver is missed in both."""
    dices = {
        name: [(dice, dice - 0.01 if dice else 0.0) for dice in DICES[name]] for name in models
    }
    return {
        name: livers({f"P{n}": both for n, both in enumerate(own)}) for name, own in dices.items()
    }


def stacked(tables):
    return pd.concat(
        [table.assign(model=model) for model, table in tables.items()], ignore_index=True
    )


def page_of(folder, tables, **more) -> Page:
    path = folder / "comparison.html"
    comparison = compare_paired(stacked(tables), metrics=METRICS, resamples=200)
    write_comparison_report(tables, comparison, path, **more)
    return Page.of(path)


@pytest.fixture
def page(tmp_path) -> Page:
    return page_of(tmp_path, tables_of("single", "dual"))


def test_the_page_stands_alone(page):
    stands_alone(page)
    leads_everywhere(page)
    assert "Research use only" in page.text
    assert not page.all("img")


def test_every_comparison_is_a_sentence_with_its_verdict(tmp_path, page):
    comparison = compare_paired(
        stacked(tables_of("single", "dual")), metrics=METRICS, resamples=200
    )
    sentences = [
        one.text
        for one in page.all("li")
        if any(verdict.within(one) for verdict in page.all("span", "verdict"))
    ]
    assert len(sentences) == len(comparison) == 6
    for row, text in zip(comparison.to_dict("records"), sentences, strict=True):
        assert text == f"{row['verdict']} {comparison_sentence(row)}"


def test_means_are_over_the_cases_that_all_models_have(page):
    row = next(row for row in page.all("tr") if row.text.strip().startswith("HD95 [mm], T1 liver"))
    cells = [cell.text for cell in page.all("td") if cell.within(row)]
    own = [40 * (1 - dice) for dice in DICES["single"][:7]]
    assert cells[:3] == ["7", "1", f"{sum(own) / 7:.2f}"]


def test_every_case_has_a_column_for_each_model_and_difference(page):
    rows = rows_of(page, "cases")
    assert len(rows) == 8 * 2 * 3
    heads = [
        head.text
        for head in page.all("th", scope="col")
        if head.within(page.one("table", id="table-cases"))
    ]
    assert heads[-3:] == ["single", "dual", "dual − single"]
    dice = [
        row
        for row in rows
        if row.attributes["data-metric"] == "Dice" and row.attributes["data-case"] == "P0"
    ]
    cells = [cell for cell in page.all("td") if cell.within(dice[0])]
    assert [cell.text for cell in cells[-3:]] == ["0.900", "0.930", "0.030"]
    assert cells[-1].attributes["class"] == "gain"
    options = [option.text for option in page.all("option")]
    assert "HD95 [mm]" in options
    assert "|Volume difference| [ml]" in options


def test_less_is_a_gain_where_less_is_better_and_infinite_values_have_a_difference(page):
    rows = [row for row in rows_of(page, "cases") if row.attributes["data-metric"] == "HD95 [mm]"]
    by_case = {(row.attributes["data-case"], row.attributes["data-modality"]): row for row in rows}
    cells = [
        [cell for cell in page.all("td") if cell.within(by_case[case, "T1"])][-3:]
        for case in ("P0", "P7")
    ]
    assert [cell.text for cell in cells[0]] == ["4.0", "2.8", "−1.2"]
    assert cells[0][2].attributes["class"] == "gain"
    assert [cell.text for cell in cells[1]] == ["∞", "4.0", "−∞"]


def test_a_case_that_a_model_lacks_has_no_difference(tmp_path):
    tables = tables_of("single", "dual")
    tables["dual"] = tables["dual"][tables["dual"].case != "P1"]
    page = page_of(tmp_path, tables)
    row = next(row for row in rows_of(page, "cases") if row.attributes["data-case"] == "P1")
    assert [cell.text for cell in page.all("td") if cell.within(row)][-3:] == ["0.910", "", ""]


def test_plots_have_a_box_for_each_model_and_lead_to_the_cases(page):
    plot = next(plot for plot in page.all("figure", "plot") if plot.text.strip().startswith("Dice"))
    boxes = [box for box in page.all("g", "box") if box.within(plot)]
    assert [box.attributes["class"] for box in boxes] == ["box c0", "box c1"] * 2
    anchors = {row.attributes["data-anchor"] for row in rows_of(page, "cases")}
    links = [link.attributes["href"][1:] for link in page.all("a") if link.within(plot)]
    assert set(links) == anchors


def test_forest_plots_say_which_side_is_better(page):
    forests = page.all("figure", "broad")
    assert len(forests) == 3
    assert "dual is better →" in forests[0].text
    assert "← dual is better" in forests[1].text


def test_rankings_runs_notes_and_settings(tmp_path):
    tables = tables_of("single", "dual", "third")
    table = stacked(tables)
    folds = {f"P{n}": n % 2 for n in range(8)}
    page = page_of(
        tmp_path,
        tables,
        ranking=ranking_stability(table, "dice", resamples=200),
        runs=run_to_run(tables, folds, metrics=["dice"]),
        notes=["the checkpoint <x> was chosen on these cases."],
        settings={"resamples": 200, "seed": 5},
    )
    ranking = page.one("section", id="ranking").text
    assert "Kendall" in ranking
    assert "1 (" in ranking
    assert "Run to run" in page.text
    assert "the checkpoint <x> was chosen" in page.one("section", "notes").text
    methods = page.one("div", id="methods-text").text
    assert "200 resamples, seed 5" in methods
    assert "Wiesenfarth" in methods
    assert "single, dual, third" in methods
    assert "Dice 0.005" in methods


def test_without_ranking_there_is_no_such_section(page):
    assert not page.all("section", id="ranking")
    assert "Wiesenfarth" not in page.text


def test_names_of_models_are_escaped(tmp_path):
    tables = dict(zip(("<i>a", "b&"), tables_of("single", "dual").values(), strict=True))
    page = page_of(tmp_path, tables)
    assert "<i>" not in page.html
    assert "<i>a" in page.text


def test_optimistic_models_are_marked(tmp_path):
    tables = tables_of("single", "dual")
    comparison = compare_paired(stacked(tables), metrics=METRICS, resamples=200)
    path = tmp_path / "comparison.html"
    write_comparison_report(tables, comparison.assign(optimistic_a=False, optimistic_b=True), path)
    assert "dual*" in Page.of(path).text
    assert "optimistic" in Page.of(path).text
