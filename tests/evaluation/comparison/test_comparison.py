"""Comparing folders of results, from files to files, and the command."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError
from nnunet_liver_ext.evaluation.comparison.compare_models import compare_results
from nnunet_liver_ext.evaluation.comparison.results_folders import (
    default_names,
    read_folds,
    read_patients,
    read_table,
)
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.report.plots.forest_plots import forest_rows
from nnunet_liver_ext.evaluation.results.latex import escaped_latex
from nnunet_liver_ext.evaluation.results.results_table import read_results
from nnunet_liver_ext.evaluation.write_comparison import write_comparison

GAINS = (0.01, 0.02, 0.03, 0.015, 0.012, 0.018, 0.022, 0.025)
MEASURED = {"tolerance_mm": 2.0, "conventions": {"surface": "inner border", "hd": "maximum"}}


@pytest.fixture
def results(tmp_path):
    """results("A", gain=1) writes a folder A/evaluation with eight cases of four patients; Dice is
    0.9 + gain · GAINS."""

    def write(
        name,
        gain=0.0,
        *,
        measured=MEASURED,
        patients=True,
        cases=8,
        change=lambda table: table,
        folder="evaluation",
    ):
        rows = [
            (
                f"P{n // 2}_S{n % 2}",
                f"P{n // 2}",
                modality,
                "liver",
                metric,
                value,
                METRICS[metric].unit,
            )
            for n, own in enumerate(GAINS[:cases])
            for modality in ("T1", "T2")
            for metric, value in (
                ("dice", 0.9 + gain * own),
                ("surface_dice", 0.8 + gain * own),
                ("hd", 20 - 100 * gain * own),
                ("volume_prediction", 1500.0),
                ("volume_difference", (-1) ** n * (50 - 1000 * gain * own)),
            )
        ]
        table = change(
            pd.DataFrame(
                rows, columns=["case", "patient", "modality", "class", "metric", "value", "unit"]
            ).astype({"value": float})
        )
        path = tmp_path / name / folder
        path.mkdir(parents=True)
        (table if patients else table.drop(columns="patient")).to_csv(
            path / "results.csv", index=False, na_rep="nan"
        )
        if measured is not None:
            (path / "results.json").write_text(json.dumps(measured))
        return path

    return write


def compare(*arguments, **environment):
    return CliRunner().invoke(
        app, ["compare", *map(str, arguments)], env={"COLUMNS": "140", **environment}
    )


def plain(text: str) -> str:
    return " ".join(text.split())


# --- reading


def test_both_forms_of_results_are_read(results):
    with_patients, without = (
        read_table(results("A") / "results.csv"),
        read_table(results("B", patients=False) / "results.csv"),
    )
    assert list(without.columns) == ["case", "modality", "class", "metric", "value", "unit"]
    pd.testing.assert_frame_equal(with_patients.drop(columns="patient"), without)


def test_what_evaluate_reads_is_read_in_the_same_way(results):
    def odd(table):
        return table.assign(
            case=[
                "007" if case == "P0_S0" else "NA" if case == "P0_S1" else case
                for case in table["case"]
            ]
        )

    path = results(
        "A",
        change=lambda table: odd(table).assign(
            value=table["value"].where(table["metric"] != "hd", math.inf)
        ),
    )
    table = read_table(path / "results.csv")
    assert {"007", "NA"} < set(table["case"])
    assert np.isinf(table["value"][table["metric"] == "hd"]).all()
    if "patient" in read_results(path / "results.csv").columns:
        pd.testing.assert_frame_equal(table, read_results(path / "results.csv"))


def test_files_that_are_no_results_are_refused(tmp_path, results):
    path = results("A") / "results.csv"
    path.write_text("case,dice\nP001,1\n")
    with pytest.raises(
        InputError, match=r"results.csv: has the columns case, dice; modality, class"
    ):
        read_table(path)
    header = "case,modality,class,metric,value,unit\n"
    path.write_text(header + "P1,T1,liver,dice,0.9,1\nP1,T1,liver,dice,0.9,1\n")
    with pytest.raises(InputError, match="P1, T1, liver, dice is in it twice"):
        read_table(path)
    path.write_text(header + "P1,T1,liver,dice,high,1\n")
    with pytest.raises(InputError, match="'high' in the column value is no number"):
        read_table(path)
    with pytest.raises(InputError, match=r"none.csv: no such results"):
        compare_results([path, tmp_path / "none.csv"])


def test_names_come_from_the_folders_that_differ():
    def names(*files):
        return default_names([Path("/data") / file for file in files])

    assert names("single/results.csv", "dual/results.csv") == ["single", "dual"]
    assert names("single/evaluation/results.csv", "dual/evaluation/results.csv") == [
        "single",
        "dual",
    ]
    assert names("a/x/evaluation/results.csv", "b/x/evaluation/results.csv") == ["a", "b"]
    assert names("single.csv", "dual.csv") == ["single", "dual"]
    with pytest.raises(InputError, match="given twice"):
        names("a/results.csv", "a/results.csv")


def test_names_that_are_given(results):
    paths = [results("A"), results("B")]
    assert compare_results(paths, names=["x", "y"]).settings["models"] == ["x", "y"]
    for names in (["x"], ["x", "x"], ["x", ""]):
        with pytest.raises(InputError, match="--names"):
            compare_results(paths, names=names)


def test_patients_from_the_results_from_a_file_and_unknown(results, tmp_path):
    paths = [results("A", patients=False), results("B", 1, patients=False)]
    unknown = compare_results(paths)
    assert set(unknown.table["patients"]) == {8}
    assert "each case counts as a patient of its own" in unknown.notes[0]
    file = tmp_path / "patients.csv"
    file.write_text(
        "case,patient,age\n" + "".join(f"P{n // 2}_S{n % 2},X{n // 4},50\n" for n in range(8)),
        encoding="utf-8-sig",
    )
    given = compare_results(paths, patients=file)
    assert set(given.table["patients"]) == {2}
    assert given.notes == []
    assert set(compare_results([results("C"), results("D", 1)]).table["patients"]) == {4}
    file.write_text("case,patient\nP0_S0,X\n")
    with pytest.raises(InputError, match=r"--patients: case P0_S1 has no row \(7 such cases\)"):
        compare_results(paths, patients=file)
    file.write_text("case,patient\nP0_S0,X\nP0_S0,Y\n")
    with pytest.raises(InputError, match=r"patients.csv: case P0_S0 has the patients X and Y"):
        read_patients(file)
    file.write_text("case,patient\nP0_S0,\n")
    with pytest.raises(InputError, match="has no name"):
        read_patients(file)


def test_a_case_may_bear_its_patients_name(results, tmp_path):
    paths = [results("A"), results("B", 1)]
    file = tmp_path / "patients.csv"
    file.write_text(
        "case,patient\n" + "".join(f"P{n // 2}_S{n % 2},P{n // 2}_S0\n" for n in range(8))
    )
    assert read_patients(file)["P0_S0"] == "P0_S0"
    given = compare_results(paths, patients=file)
    assert set(given.table["patients"]) == {4}
    assert given.notes == []


def test_other_references_are_noted(results):
    def with_reference(volume):
        def change(table):
            rows = table[table.metric == "volume_prediction"].assign(
                metric="volume_reference", value=volume
            )
            return pd.concat([table, rows], ignore_index=True)

        return change

    same = [
        results("A", change=with_reference(1400.0)),
        results("B", 1, change=with_reference(1400.0)),
    ]
    assert compare_results(same).notes == []
    other = compare_results([same[0], results("C", 1, change=with_reference(1300.0))])
    assert other.notes == [
        "the references are not the same for all models: their volumes differ in 8 of the cases"
        " (P0_S0), so differences are not of the predictions alone."
    ]


def test_results_of_other_raters_are_refused(results):
    paths = [
        results(name, measured={**MEASURED, "raters": raters})
        for name, raters in (("A", ["anna", "ben"]), ("B", [""]))
    ]
    with pytest.raises(InputError, match="was measured differently: raters is"):
        compare_results(paths)


def test_results_of_other_cases_are_refused(results):
    other = results("B", change=lambda table: table.assign(case="X" + table["case"]))
    with pytest.raises(InputError, match=r"no case in common \(A: P0_S0, B: XP0_S0\)"):
        compare_results([results("A"), other])
    with pytest.raises(InputError, match="results of two or more models"):
        compare_results([other])


def test_other_case_sets_are_compared_where_they_meet(results):
    row = compare_results([results("A"), results("B", 1, cases=6)]).table.iloc[0]
    assert (row["cases"], row["missing"]) == (6, 2)


# --- how it was measured


def test_another_tolerance_is_refused_for_the_surface_dice_only(results):
    paths = [results("A"), results("B", 1, measured=MEASURED | {"tolerance_mm": 1.0})]
    with pytest.raises(
        InputError,
        match=r"surface_dice was measured differently: tolerance_mm is 2.0 for A and 1.0 for B",
    ):
        compare_results(paths)
    assert set(compare_results(paths, metrics=["dice", "hd"]).table["metric"]) == {"dice", "hd"}


def test_another_convention_is_refused_for_what_depends_on_it(results):
    other = {
        "tolerance_mm": 2.0,
        "options": {"convention": "chaos"},
        "conventions": {"hd": "mean of the two maxima"},
    }
    paths = [results("A"), results("B", 1, measured=other)]
    with pytest.raises(
        InputError,
        match="hd was measured differently: hd is 'maximum' for A and 'mean of the two maxima'",
    ):
        compare_results(paths)
    compare_results(paths, metrics=["dice", "surface_dice"])
    paths.append(results("C", measured={"options": {"convention": "standard"}}))
    with pytest.raises(
        InputError, match="surface_dice was measured differently: convention is 'chaos' for B"
    ):
        compare_results(paths, metrics=["surface_dice"])


def test_unknown_conventions_are_a_note(results):
    compared = compare_results([results("A"), results("B", 1, measured=None)])
    assert any("how B was measured is not known" in note for note in compared.notes)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("results.json", "checkpoint_chosen_on_these_cases"),
        ("results.json", "checkpoint_was_chosen_on_these_cases"),
        ("summary.json", "checkpoint_was_chosen_on_these_cases"),
    ],
)
def test_a_checkpoint_chosen_on_these_cases_is_labelled(results, tmp_path, file, key):
    paths = [results("A"), results("B", 1)]
    content = MEASURED if file == "results.json" else {}
    (paths[1] / file).write_text(json.dumps(content | {key: True}))
    compared = compare_results(paths)
    assert not compared.table["optimistic_a"].any()
    assert compared.table["optimistic_b"].all()
    write_comparison(compared, tmp_path / "out")
    text = (tmp_path / "out/comparison.md").read_text()
    assert "Optimistic for B: the checkpoint was chosen on these cases." in text
    assert "| B* − A |" in text
    assert "B* \\ensuremath{-} A" in (tmp_path / "out/comparison.tex").read_text()


# --- what is written


def test_the_files_and_their_numbers(results, tmp_path):
    compared = compare_results([results("A"), results("B", 1)])
    files = write_comparison(compared, tmp_path / "out")
    assert sorted(files) == sorted(path.name for path in (tmp_path / "out").iterdir())
    written = pd.read_csv(tmp_path / "out/comparison.csv")
    dice = written[(written["metric"] == "dice") & (written["modality"] == "T1")].iloc[0]
    assert dice["mean_difference"] == pytest.approx(np.mean(GAINS))
    assert (dice["patients"], dice["cases"], dice["verdict"]) == (4, 8, "too few")
    volume = written[written["metric"] == "volume_difference"].iloc[0]
    assert volume["mean_difference"] == pytest.approx(-1000 * np.mean(GAINS))
    assert "volume_prediction" not in set(written["metric"])
    settings = json.loads((tmp_path / "out/comparison.json").read_text())
    assert (settings["unit"], settings["seed"], settings["resamples"]) == ("patient", 0, 10_000)
    assert settings["smallest_difference"] == {
        "dice": 0.005,
        "surface_dice": 0.005,
        "hd": 0,
        "volume_difference": 0,
    }
    assert "scipy" in settings["versions"]
    for path in (tmp_path / "out").iterdir():
        assert path.suffix == ".png" or str(tmp_path) not in path.read_text()


def test_latex_has_escaped_names_and_booktabs(results, tmp_path):
    compared = compare_results([results("A"), results("B", 1)], names=["50%_A&B", "{x}^2~#$\\"])
    write_comparison(compared, tmp_path / "out")
    text = (tmp_path / "out/comparison.tex").read_text()
    assert "50\\%\\_A\\&B" in text
    assert "\\{x\\}\\textasciicircum{}2\\textasciitilde{}\\#\\$\\textbackslash{}" in text
    assert all(rule in text for rule in ("\\toprule", "\\midrule", "\\bottomrule"))
    body = text[text.index("\\begin") :]
    assert body.isascii()
    columns = body[body.index("tabular}{") + 9 : body.index("\n") - 1]
    assert all(
        line.count(" & ") == len(columns) - 1 for line in body.splitlines() if line.endswith("\\\\")
    )
    assert all(escaped_latex(f"{one.title} [{one.unit}]").isascii() for one in METRICS.values())
    assert escaped_latex("−1 <2|") == r"\ensuremath{-}1 \ensuremath{<}2\ensuremath{|}"


def test_markdown_tables_keep_their_columns(results, tmp_path):
    write_comparison(
        compare_results([results("A"), results("B", 1)], names=["a|b", "c"]), tmp_path / "out"
    )
    lines = [
        line
        for line in (tmp_path / "out/comparison.md").read_text().splitlines()
        if line.startswith("|")
    ]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert len(lines) == 2 + 8


def test_the_rows_of_the_forest_plot(results):
    compared = compare_results(
        [results("A"), results("B", 1, patients=False), results("C", 2)], baseline="A"
    ).table
    rows = forest_rows(compared)
    assert list(rows["label"][:2]) == ["Dice, T1 liver: B", "Dice, T1 liver: C"]
    assert list(rows["difference"]) == list(compared["mean_difference"])
    assert rows["smallest_difference"].iloc[0] == 0.005
    assert set(rows[["family", "unit"]].itertuples(index=False, name=None)) == {
        ("overlap", "1"),
        ("surface", "1"),
        ("surface", "mm"),
        ("volume", "ml"),
    }


def test_the_picture_grows_with_the_rows_and_shows_what_is_significant(results, tmp_path):
    def eight(table):
        return table.assign(patient=table["case"])

    paths = [results("A", change=eight), results("B", 1, change=eight)]
    write_comparison(compare_results(paths), tmp_path / "two")
    write_comparison(compare_results([*paths, results("C", -1, change=eight)]), tmp_path / "three")
    two, three = (
        Image.open(tmp_path / name / "comparison.png").convert("RGB") for name in ("two", "three")
    )
    assert three.height > two.height
    for picture, colours in ((two, [(15, 98, 201)]), (three, [(15, 98, 201), (180, 35, 24)])):
        for colour in colours:
            assert (np.abs(np.asarray(picture, int) - colour).sum(-1) < 5).sum() > 500


def test_nothing_to_compare_is_still_written(results, tmp_path):
    unknown = results("B", change=lambda table: table.assign(value=math.nan))
    compared = compare_results([results("A"), unknown], metrics=["hd"])
    write_comparison(compared, tmp_path / "out")
    assert set(compared.table["verdict"]) == {"no pairs"}
    assert "no case can be compared" in (tmp_path / "out/comparison.md").read_text()


def test_a_model_without_any_mask_is_still_written(results, tmp_path):
    infinite = results("B", change=lambda table: table.assign(value=math.inf))
    compared = compare_results([results("A"), infinite], metrics=["hd"])
    write_comparison(compared, tmp_path / "out")
    assert set(compared.table["verdict"]) == {"too few"}  # four patients
    assert set(compared.table["worse"]) == {8}
    assert "no case has masks of both" in (tmp_path / "out/comparison.md").read_text()


# --- the command


def test_the_command_prints_tables_and_sentences(results, tmp_path):
    def eight(table):
        return table.assign(patient=table["case"])

    out = tmp_path / "out"
    result = compare(
        results("A", change=eight), results("B", 1, change=eight), "-o", out, "--metrics", "dice,hd"
    )
    assert result.exit_code == 0
    text = plain(result.output)
    assert "B − A" in text
    assert "Dice of T1 liver: B is 0.019 higher than A on average (95 % CI 0.01" in text
    assert (
        "8 patients, 8 cases; p = 0.008 after Benjamini-Hochberg). B is better in 8, tied in 0 and"
        " worse in 0 cases." in text
    )
    assert "HD of T2 liver (lower is better): B is 1.90 mm lower than A" in text
    assert "Surface Dice" not in text
    assert f"Written to {out}" in text
    endings = ("csv", "json", "md", "png", "tex")
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"comparison.{one}" for one in endings),
        "report.html",
    ]


def test_too_few_patients_are_a_sentence(results, tmp_path):
    result = compare(results("A"), results("B", 1), "-o", tmp_path / "out", "--metrics", "dice")
    assert result.exit_code == 0
    assert "(4 patients, 8 cases). Too few for a test, which needs 6 patients" in plain(
        result.output
    )
    by_case = compare(
        results("C"),
        results("D", 1),
        "-o",
        tmp_path / "by_case",
        "--metrics",
        "dice",
        "--unit",
        "case",
    )
    assert (
        "4 patients, 8 cases; p = 0.008 after Benjamini-Hochberg, cases taken as independent)"
        in plain(by_case.output)
    )


def test_a_comparison_is_not_overwritten_unasked(results, tmp_path):
    paths = [results("A"), results("B", 1)]
    assert compare(*paths, "-o", tmp_path / "out").exit_code == 0
    before = (tmp_path / "out/comparison.csv").read_bytes()
    refused = compare(*paths, "-o", tmp_path / "out", "--metrics", "dice")
    assert isinstance(
        refused.exception, InputError
    )  # which `main` turns into its message and exit code 1
    assert "comparison.csv exists: choose another folder, or replace it with --overwrite." in str(
        refused.exception
    )
    assert (tmp_path / "out/comparison.csv").read_bytes() == before
    assert (
        compare(*paths, "-o", tmp_path / "out", "--metrics", "dice", "--overwrite").exit_code == 0
    )
    assert set(pd.read_csv(tmp_path / "out/comparison.csv")["metric"]) == {"dice"}
    with pytest.raises(InputError, match="is a file"):
        write_comparison(compare_results(paths), paths[0] / "results.csv")


def test_a_comparison_that_breaks_off_leaves_no_table_of_an_earlier_one(
    results, tmp_path, monkeypatch
):
    compared = compare_results([results("A"), results("B", 1)])
    write_comparison(compared, tmp_path / "out")

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("nnunet_liver_ext.evaluation.write_comparison.write_forest_picture", full)
    with pytest.raises(OSError, match="no space"):
        write_comparison(compared, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out/comparison.csv").exists()


def test_baseline_names_and_smallest_differences(results, tmp_path):
    paths = [results("A"), results("B", 1), results("C", 2)]
    arguments = [*paths, "-o", tmp_path / "out", "--names", "x, y, z", "--baseline", "y"]
    result = compare(*arguments, "--smallest-difference", "0.02", "--smallest-difference", "hd=1.9")
    assert result.exit_code == 0
    table = pd.read_csv(tmp_path / "out/comparison.csv")
    assert set(table[["model_a", "model_b"]].itertuples(index=False, name=None)) == {
        ("y", "x"),
        ("y", "z"),
    }
    assert dict(zip(table["metric"], table["smallest_difference"], strict=True)) == {
        "dice": 0.02,
        "surface_dice": 0.02,
        "hd": 1.9,
        "volume_difference": 0,
    }
    ranking = pd.read_csv(tmp_path / "out/ranking.csv")
    assert list(ranking["model"][ranking["metric"] == "hd"][:3]) == ["z", "y", "x"]
    assert "Ranking" in result.output
    wrong = compare(*arguments, "--smallest-difference", "small")
    assert wrong.exit_code == 2
    assert "METRIC=NUMBER" in wrong.output
    assert isinstance(
        compare(*paths, "-o", tmp_path / "no", "--baseline", "y").exception, InputError
    )
    assert not (tmp_path / "no").exists()


def test_runs_of_one_cross_validation(results, tmp_path):
    cases = [f"P{n // 2}_S{n % 2}" for n in range(8)]
    splits = tmp_path / "splits_final.json"
    splits.write_text(
        json.dumps([{"train": cases[4:], "val": cases[:4]}, {"train": cases[:4], "val": cases[4:]}])
    )
    paths = [results("run_1"), results("run_2", 1)]
    result = compare(*paths, "-o", tmp_path / "out", "--splits", splits)
    assert result.exit_code == 0
    assert "Run to run" in result.output
    table = pd.read_csv(tmp_path / "out/run_to_run.csv")
    dice = table[(table["metric"] == "dice") & (table["modality"] == "T1")].set_index("fold")
    assert dice.loc["0", "difference"] == pytest.approx(np.mean(GAINS[:4]))
    assert dice.loc["all", "difference"] == pytest.approx(np.mean(GAINS))
    assert compare(*paths, "-o", tmp_path / "out", "--overwrite").exit_code == 0
    assert not (tmp_path / "out/run_to_run.csv").exists()


def test_splits_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "splits_final.json"
    for text in ("{", '{"val": 1}', "[1]"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"is no splits_final.json"):
            read_folds(path)
    path.write_text(json.dumps([{"val": ["A"]}, {"val": ["A"]}]))
    with pytest.raises(InputError, match="case A is in the validation sets of the folds 0 and 1"):
        read_folds(path)
    with pytest.raises(InputError, match=r"is no splits_final.json"):
        read_folds(tmp_path / "none.json")


def test_help_is_there_and_names_every_option():
    result = compare("--help")
    assert result.exit_code == 0
    for option in (
        "--baseline",
        "--names",
        "--metrics",
        "--unit",
        "--smallest-difference",
        "--patients",
        "--splits",
    ):
        assert option in result.output


def test_the_number_left_out_stands_in_every_table(results, tmp_path):
    """A, B and C differ by 1 mm; B has no mask in one case."""

    def missing(table):
        hd = (table["metric"] == "hd") & (table["case"] == "P3_S1") & (table["modality"] == "T1")
        return table.assign(value=table["value"].mask(hd, math.inf))

    cases = [f"P{n // 2}_S{n % 2}" for n in range(8)]
    splits = tmp_path / "splits_final.json"
    splits.write_text(json.dumps([{"train": [], "val": cases}]))
    paths = [results("A"), results("B", 1, change=missing), results("C")]
    out = tmp_path / "out"
    result = compare(*paths, "-o", out, "--metrics", "hd", "--splits", splits, COLUMNS="200")
    assert result.exit_code == 0
    for table in ("B − A", "Ranking", "Run to run"):
        assert "Left out" in result.output[result.output.index(table) :].replace("┃", "")
    text = (out / "comparison.md").read_text()
    first = next(line for line in text.splitlines() if line.startswith("| HD [mm] ↓ | T1"))
    assert "| 7 | 1 (∞ 1/0) |" in first
    ranks = [line for line in text.splitlines() if line.startswith("| HD [mm] | T1 liver | ")]
    assert "| HD [mm] | T1 liver | B | 7 | 1 (∞ 1) | 18.1" in " ".join(ranks)
    assert any("all | 7 | 1 |" in line for line in ranks)
    assert r"1 (\ensuremath{\infty} 1/0)" in (out / "comparison.tex").read_text()
    page = (out / "report.html").read_text()
    assert page.count("Left out</th>") == 4  # at a glance, all numbers, ranking, run to run
    assert "3, ∞ 1" in page  # B's rank
