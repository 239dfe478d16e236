"""The report's plots: positions are those of the values, and texts say the numbers."""

import re

import numpy as np
import pandas as pd
import pytest

from nnunet_liver_ext.evaluation.agreement import limits_of_agreement
from nnunet_liver_ext.evaluation.lesion_scores import scores_by_size
from nnunet_liver_ext.evaluation.lesions import match_lesions
from nnunet_liver_ext.evaluation.measuring.one_class import lesion_rows
from nnunet_liver_ext.evaluation.metric_catalogue import METRICS
from nnunet_liver_ext.evaluation.report.plots.agreement_plots import (
    Quantity,
    bland_altman,
    dice_over_volume,
    find_quantity,
    scatter,
)
from nnunet_liver_ext.evaluation.report.plots.box_plots import BoxGroup, box_plot, box_plots
from nnunet_liver_ext.evaluation.report.plots.drawing import COLOURS, STYLE, round_ticks
from nnunet_liver_ext.evaluation.report.plots.evaluation_plots import plot_groups
from nnunet_liver_ext.evaluation.report.plots.forest_plots import (
    forest_plots,
)
from nnunet_liver_ext.evaluation.report.plots.lesion_plots import (
    count_by_size,
    lesion_strip,
    size_plot,
)
from nnunet_liver_ext.evaluation.statistics.paired_comparison import compare_paired
from tests.evaluation.report.report_pages import livers, object_values, results


def box(values, metric="hd95", lines=("T1 liver",)):
    rows = pd.DataFrame({"case": [f"P{n}" for n in range(len(values))], "value": values})
    return box_plot(METRICS[metric], [BoxGroup(lines, rows)], "")


def axes_of(plot):
    (axes,) = plot.figure.axes
    return axes


def drawn(plot, name):
    """The artists that a plot draws under a name, without their colour."""
    artists = axes_of(plot).get_children()
    return [artist for artist in artists if (artist.get_gid() or "").partition(" ")[0] == name]


def heights(lines):
    """Lowest and highest y of each line."""
    return [(min(line.get_ydata()), max(line.get_ydata())) for line in lines]


def offsets(plot):
    """x and y of all points, (N, 2), as they are drawn."""
    return np.concatenate([points.get_offsets() for points in drawn(plot, "points")])


def texts(plot):
    return [text.get_text() for text in axes_of(plot).texts]


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf], [0.0], [250.0, 250.0], [-3.0]])
def test_there_are_ticks_for_any_values(values):
    ticks = round_ticks(values)
    assert len(ticks) > 1
    assert all(ticks[0] <= value <= ticks[-1] for value in values if np.isfinite(value))


def test_ticks_end_at_a_bound():
    assert round_ticks([0.91, 0.97], highest=1.0)[-1] == 1.0
    assert round_ticks([5.0, 80.0], lowest=0)[0] == 0


def test_a_plot_has_the_colours_of_the_page_and_a_minus_as_it_is_written():
    svg = str(bland_altman(volumes([1010, 1190, 1430, 980], [1000, 1200, 1400, 1000])).svg({}))
    assert "stroke: var(--c0)" in svg
    assert "fill: var(--faint)" in svg
    assert "<title>P0: 1010.0 ml, reference 1000.0 ml</title>" in svg
    assert any(text.startswith("−") for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg))
    assert not re.findall(r"#[0-9a-f]{6}|url\(|font-family|<style", svg)
    assert COLOURS["c0"] == "#0f62c9"
    assert STYLE["text.color"] == COLOURS["faint"]


def test_points_lead_to_the_cases_that_are_on_the_page():
    svg = str(box([1, 2, 3.0]).svg({"P1": "case-7"}))
    assert svg.count("<a ") == svg.count('href="#case-7"') == 1
    assert re.search(r"<a href=\"#case-7\" tabindex=\"-1\"><use[^>]*><title>P1: 2.0</title>", svg)


def test_long_names_are_whole():
    (name,) = axes_of(box([1.0], lines=("T1 liver", "adversarial " * 12))).get_xticklabels()
    assert name.get_text().replace("\n", " ") == " ".join(["T1 liver", *["adversarial"] * 12])
    assert max(map(len, name.get_text().split("\n"))) < 60


# --- box plots


def test_quartiles_whiskers_and_outliers_are_where_they_belong():
    plot = box([0, 1, 2, 3, 4, 5, 6, 7, 14.0])
    (area,), (median,) = drawn(plot, "box"), drawn(plot, "median")
    below, above = heights(drawn(plot, "whisker"))
    box_ys = area.get_path().vertices[:, 1]
    assert [box_ys.min(), box_ys.max(), median.get_ydata()[0]] == [2, 6, 4]
    assert (below[0], above[1]) == (0, 7)
    assert list(offsets(plot)[:, 1]) == [0, 1, 2, 3, 4, 5, 6, 7, 14]
    assert plot.points[8].text == "P8: 14.0"
    assert plot.points[8].case == "P8"
    assert plot.caption == ""


def test_infinite_values_are_above_the_frame_and_in_no_quartile():
    finite, plot = box([1, 2, 3.0]), box([1, 2, 3.0, np.inf])
    boxes = [drawn(one, "box")[0].get_path().vertices for one in (finite, plot)]
    assert np.array_equal(*boxes)
    assert [point.symbol for point in plot.points] == ["dot"] * 3 + ["infinite"]
    assert offsets(plot)[3, 1] > 1  # in heights of the frame
    assert "3 cases, median 2.0, from 1.0 to 3.0, 1 infinite" in plot.description
    assert not drawn(box([np.inf]), "box")


def test_values_that_do_not_exist_are_not_drawn():
    assert len(box([1, np.nan, 3.0]).points) == 2


def test_a_failure_does_not_squeeze_the_boxes_and_is_named():
    dices = [0.94, 0.95, 0.955, 0.96, 0.965, 0.97, 0.98, 0.10]
    plot = box(dices, "dice")
    (area,) = drawn(plot, "box")
    low, high = axes_of(plot).get_ylim()
    assert np.ptp(area.get_path().vertices[:, 1]) > 0.15 * (high - low)
    assert [point.symbol for point in plot.points] == ["dot"] * 7 + ["below"]
    assert offsets(plot)[7, 1] < 0  # in heights of the frame
    assert plot.caption == "Beyond the axis: T1 liver P7 0.100."
    assert list(offsets(plot)[:7, 1]) == dices[:7]


def test_many_values_beyond_the_axis_are_counted():
    plot = box([*np.linspace(0.94, 0.98, 40), *[0.1] * 8], "dice")
    assert plot.caption.endswith("and 2 more.")


@pytest.mark.parametrize("value", [0.0, 1.0, 250.0, -3.0])
def test_equal_values_have_a_scale_too(value):
    plot = box([value, value])
    low, high = axes_of(plot).get_ylim()
    assert all(low <= y <= high for y in offsets(plot)[:, 1])
    assert len(drawn(box([min(value, 1.0)] * 2, "dice"), "box")) == 1


def test_phi_has_the_line_of_a_rater():
    plot = box([0.5, 0.95], "uncertainty_aware_score")
    assert heights(drawn(plot, "reference")) == [(0.9, 0.9)]
    assert "as good as a rater" in plot.caption


def test_each_modality_has_its_box_and_colour():
    plots = box_plots(
        livers({"A": (0.9, 0.8), "B": (0.95, 0.85)}),
        ("dice", "lesion_f1"),
        {"T1": "c0", "T2": "c1"},
    )
    assert [plot.title for plot in plots] == ["Dice"]
    assert [artist.get_gid() for artist in drawn(plots[0], "box")] == ["box c0", "box c1"]
    assert "T1 liver 2 cases" in plots[0].description
    assert "T2 liver 2 cases" in plots[0].description


def test_each_class_has_a_plot_of_its_own():
    table = results({("A", "T1", name): object_values(0.9) for name in ("liver", "lesion")})
    assert [plot.title for plot in box_plots(table, ("dice", "hd95"), {})] == [
        "Dice, liver",
        "HD95 [mm], liver",
        "Dice, lesion",
        "HD95 [mm], lesion",
    ]


# --- agreement


def volumes(measured, reference, **more):
    cases = [f"P{n}" for n in range(len(measured))]
    return Quantity(
        "Volume, T1 liver",
        "ml",
        1,
        cases,
        np.array(measured, float),
        np.array(reference, float),
        **more,
    )


def test_bland_altman_has_bias_limits_and_points():
    quantity = volumes([1010, 1190, 1430, 980], [1000, 1200, 1400, 1000])
    plot = bland_altman(quantity)
    limits = limits_of_agreement(quantity.measured - quantity.reference)
    assert heights(drawn(plot, "bias")) == [(limits.mean, limits.mean)]
    assert heights(drawn(plot, "limit")) == [(limits.lower,) * 2, (limits.upper,) * 2]
    assert offsets(plot).tolist() == [[1005, 10], [1195, -10], [1415, 30], [990, -20]]
    assert f"Bias {limits.mean:.1f} ml" in plot.caption
    assert plot.caption in plot.description
    assert plot.points[0].text == "P0: 1010.0 ml, reference 1000.0 ml"


def test_one_case_has_a_bias_but_no_limits():
    plot = bland_altman(volumes([1010], [1000]))
    assert not drawn(plot, "limit")
    assert "limits of agreement – to –, 1 case." in plot.caption


def test_scatter_counts_what_is_left_out():
    plot = scatter(volumes([1010, np.nan, 1200], [1000, 1100, 1200]))
    assert len(plot.points) == 2
    assert "2 cases, 1 left out." in plot.caption
    assert "100 % within 5 %" in plot.caption


def test_fat_fractions_are_sorted_by_the_threshold():
    fat = Quantity(
        "Fat", "%", 2, ["A", "B", "C"], np.array([3.0, 6.0, 12.0]), np.array([2.0, 5.0, 11.0])
    )
    plot = scatter(fat, threshold=5.56, threshold_name="5.56 %")
    flat, upright = drawn(plot, "reference")
    assert list(upright.get_xdata()) == list(flat.get_ydata()) == [5.56, 5.56]
    assert texts(plot) == ["5.56 %"]
    assert (
        "On the same side of 5.56: 2 of 3 (above in both 1, only predicted 1, only in the"
        " reference 0)." in plot.caption
    )


def test_a_quantity_needs_both_sides():
    table = livers({"A": (0.9,), "B": (0.8,)})
    quantity = find_quantity(
        table, ("volume_prediction", "volume_reference"), title="Volume", unit="ml", decimals=0
    )
    assert quantity.cases == ["A", "B"]
    assert (
        find_quantity(
            table, ("volume_prediction", "fat_mean_reference"), title="", unit="", decimals=0
        )
        is None
    )


def test_dice_over_volume_shows_every_image():
    rows = pd.DataFrame(
        {
            "case": ["A", "B", "C"],
            "modality": ["T1", "T2", "T2"],
            "dice": [0.9, 0.8, np.nan],
            "volume_reference": [900, 1500, 1200],
        }
    )
    plot = dice_over_volume(rows, "liver", {"T1": "c0", "T2": "c1"})
    assert [point.text for point in plot.points] == [
        "A T1: Dice 0.900, 900 ml",
        "B T2: Dice 0.800, 1500 ml",
    ]
    assert plot.legend == [("c0", "T1"), ("c1", "T2")]
    assert dice_over_volume(rows[2:], "liver", {}) is None


# --- lesions


def some_lesions() -> pd.DataFrame:
    """Lesions of 6 mm (found), 12 mm (poor overlap), 24 mm (missed) and 12 mm (false)."""
    reference, prediction = np.zeros((2, 60, 60, 120), np.uint8)
    reference[5:10, 5:10, 5:10] = prediction[5:10, 5:10, 5:10] = 1
    reference[20:30, 20:30, 20:30], prediction[28:38, 28:38, 28:38] = 2, 2
    reference[35:55, 35:55, 60:80] = 3
    prediction[5:15, 5:15, 100:110] = 4
    match = match_lesions(reference, prediction, spacing_mm=(1.0, 1.0, 1.0))
    rows = pd.DataFrame(lesion_rows(match)).assign(
        case="P001", modality="T1", rater="", **{"class": "lesion"}
    )
    rows.attrs["by_size"] = scores_by_size(match)
    return rows


def test_counts_by_size_are_those_of_the_measures():
    rows = some_lesions()
    sizes = count_by_size(rows)
    assert [size.name for size in sizes] == ["< 10 mm", "10–20 mm", "≥ 20 mm"]
    assert [
        (size.true_positives, size.false_positives, size.false_negatives) for size in sizes
    ] == [
        (scores.true_positives, scores.false_positives, scores.false_negatives)
        for scores in rows.attrs["by_size"].values()
    ]


def test_bars_are_as_high_as_the_counts():
    plot = size_plot(some_lesions(), "T1 lesion")
    bars = drawn(plot, "column")
    assert [bar.get_height() for bar in bars if " found " in bar.get_gid()] == [1, 0, 0]
    assert [bar.get_height() for bar in bars if " false " in bar.get_gid()] == [0, 2, 0]
    assert "<title>2 false</title>" in str(plot.svg({}))
    assert texts(plot) == ["1/1", "0/1", "2", "0/1"]
    assert "10–20 mm 0 found, 1 missed (recall 0.00), 2 false" in plot.description
    assert "raters" not in plot.caption
    two = pd.concat([some_lesions(), some_lesions().assign(rater="b")])
    assert "2 raters" in size_plot(two, "T1 lesion").caption


def test_every_lesion_is_a_point_that_leads_to_its_case():
    plot = lesion_strip(some_lesions(), "T1 lesion")
    assert len(plot.points) == 4
    assert {point.case for point in plot.points} == {"P001"}
    assert plot.description.endswith("found 1, poor overlap 1, missed 1, false 1.")
    assert offsets(plot)[0, 0] == pytest.approx(np.cbrt(6 * 125 / np.pi))


# --- which plots there are


def test_results_of_one_class_have_overlap_and_volume():
    groups = plot_groups(livers({"A": (0.9, 0.8), "B": (0.95, 0.85)}), {})
    assert [group.title for group in groups] == ["Overlap and distances", "Volume"]
    titles = [plot.title for plot in groups[0].plots]
    assert titles == [
        "Dice",
        "Surface Dice",
        "HD95 [mm]",
        "ASD [mm]",
        "HD [mm]",
        "Dice over volume, liver",
    ]
    assert len(groups[1].plots) == 5


def test_what_else_was_measured_has_plots_too():
    more = {
        "fat_mean_prediction": 6.0,
        "fat_mean_reference": 5.0,
        "fat_mean_difference": 1.0,
        "uncertainty_aware_score": 0.93,
        "lesion_f1": 0.5,
    }
    pair = {
        "relative_similarity_prediction": 0.95,
        "relative_similarity_reference": 0.94,
        "relative_similarity_gain": 0.01,
        "pair_volume_difference_prediction": 10.0,
        "pair_volume_difference_reference": -4.0,
    }
    table = results(
        {("A", "T1", "lesion"): object_values(0.9, **more), ("A", "T1-T2", "lesion"): pair}
    )
    titles = {
        group.title: len(group.plots) for group in plot_groups(table, {"lesions": some_lesions()})
    }
    assert titles["Fat fraction"] == 2
    assert titles["Lesions"] == 3
    assert titles["Among raters"] == 1
    assert titles["Both images of a pair"] == 2


def test_every_plot_says_its_numbers_and_stays_within_its_size():
    dices = {f"P{n:02d}": (0.9 + n / 200, 0.85 + n / 150) for n in range(12)}
    table = livers({**dices, "P99": (0.0, 0.2)})
    for group in plot_groups(table, {}):
        for plot in group.plots:
            assert any(character.isdigit() for character in plot.description)
            svg = str(plot.svg({}))
            size = [float(number) for number in re.search('viewBox="0 0 ([^"]*)"', svg)[1].split()]
            assert size[0] == pytest.approx(plot.width)
            place = '(?:use href="#[^"]*" x="(.*?)" y="(.*?)"|path d="M (\\S+) (\\S+) )'
            place = f"<{place}[^>]*><title"
            points = [[*filter(None, found)] for found in re.findall(place, svg)]
            assert len(points) == len(plot.points) > 0
            for point in points:
                assert all(0 <= float(at) <= end for at, end in zip(point, size, strict=True))


# --- forest plots


def compared(models):
    tables = [
        livers({f"P{n}": (dice,) for n, dice in enumerate(own)}).assign(model=name)
        for name, own in models.items()
    ]
    return compare_paired(pd.concat(tables), metrics=["dice", "hd95"], resamples=200)


MODELS = {
    "single": [0.90, 0.91, 0.92, 0.93, 0.94, 0.95, 0.90],
    "dual": [0.93, 0.94, 0.95, 0.96, 0.96, 0.97, 0.92],
}


def test_a_forest_plot_shows_differences_and_intervals():
    comparison = compared(MODELS)
    overlap, surface = forest_plots(comparison)
    row = comparison[comparison.metric == "dice"].iloc[0]
    (interval,) = drawn(overlap, "interval")
    assert offsets(overlap)[0, 0] == row["mean_difference"]
    assert list(interval.get_xdata()) == [row["low"], row["high"]]
    assert overlap.points[0].colour == "c0"  # better
    assert axes_of(overlap).get_xlabel().endswith("; dual is better →")
    assert axes_of(surface).get_xlabel().endswith("; ← dual is better")
    (band,) = drawn(overlap, "band")
    assert band.get_x() + band.get_width() == pytest.approx(0.005)
    assert "Dice, T1 liver 0.026" in overlap.description


def test_too_few_patients_have_a_hollow_point():
    overlap, _ = forest_plots(compared({name: own[:3] for name, own in MODELS.items()}))
    assert not drawn(overlap, "interval")
    assert overlap.points[0].symbol == "hollow"


def test_without_a_comparable_case_there_is_no_forest():
    comparison = compared({"a": [0.0] * 6, "b": [0.0] * 6})
    plots = forest_plots(comparison[comparison.metric == "hd95"])
    assert plots == []
