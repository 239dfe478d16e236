"""The report's plots: positions are those of the values, and what is written beside them says the
numbers."""

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
    against_size,
    bland_altman,
    quantity,
    scatter,
)
from nnunet_liver_ext.evaluation.report.plots.box_plots import Group, box_plot
from nnunet_liver_ext.evaluation.report.plots.distributions import distributions
from nnunet_liver_ext.evaluation.report.plots.evaluation_plots import plot_groups
from nnunet_liver_ext.evaluation.report.plots.forest_plots import forest_plots
from nnunet_liver_ext.evaluation.report.plots.lesion_plots import by_size, lesion_strip, size_plot
from nnunet_liver_ext.evaluation.report.plots.shapes import (
    BOTTOM,
    HEIGHT,
    TOP,
    Area,
    Line,
    Text,
    scale,
    shortened,
)
from nnunet_liver_ext.evaluation.statistics.paired_comparison import compare_paired
from tests.evaluation.report.report_pages import livers, object_values, results


def box(values, metric="hd95", lines=("T1 liver",)):
    rows = pd.DataFrame({"case": [f"P{n}" for n in range(len(values))], "value": values})
    return box_plot(METRICS[metric], [Group(lines, rows)], "")


def drawn(plot, kind, css):
    return [shape for shape in plot.shapes if isinstance(shape, kind) and css in shape.css.split()]


def y_axis(plot):
    """From position to value, by the labels of the ticks on the left."""
    ticks = [
        (shape.y - 4, float(shape.text.replace("−", "-")))
        for shape in plot.shapes
        if isinstance(shape, Text) and shape.anchor == "end" and shape.css == ""
    ]
    (first, low), (last, high) = ticks[0], ticks[-1]
    return lambda y: low + (y - first) / (last - first) * (high - low)


def x_axis(plot):
    ticks = [
        (shape.x, float(shape.text.replace("−", "-")))
        for shape in plot.shapes
        if isinstance(shape, Text) and shape.anchor == "middle" and shape.css == ""
    ]
    (first, low), (last, high) = ticks[0], ticks[-1]
    return lambda x: low + (x - first) / (last - first) * (high - low)


# --- scales


def test_a_scale_has_round_ticks_around_the_values():
    own = scale([3.2, 17.0], 200, 100)
    assert own.ticks == (0, 5, 10, 15, 20)
    assert [own.at(value) for value in (0, 10, 20)] == [200, 150, 100]
    assert own.holds(20)
    assert not own.holds(20.1)
    assert not own.holds(np.inf)
    assert not own.holds(np.nan)


def test_a_scale_ends_at_a_bound_and_says_minus_as_it_is_written():
    assert scale([0.91, 0.97], 0, 1, highest=1.0).ticks[-1] == 1.0
    assert scale([5.0, 80.0], 0, 1, lowest=0).ticks[0] == 0
    assert scale([-5.0, 5.0], 0, 1).labels[0][1].startswith("−")


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf], [0.0], [250.0, 250.0], [-3.0]])
def test_a_scale_exists_for_any_values(values):
    own = scale(values, 0, 100)
    assert len(own.ticks) > 1
    assert all(own.holds(value) for value in values if np.isfinite(value))


def test_long_names_are_shortened():
    assert (shortened("adversarial", 6), shortened("dual", 6)) == ("adver…", "dual")


# --- box plots


def test_quartiles_whiskers_and_outliers_are_where_they_belong():
    plot = box([0, 1, 2, 3, 4, 5, 6, 7, 14.0])
    value = y_axis(plot)
    (area,), (median,) = drawn(plot, Area, "box"), drawn(plot, Line, "median")
    below, above = drawn(plot, Line, "whisker")
    assert [value(y) for y in (area.y + area.height, area.y, median.y1)] == pytest.approx(
        [2, 6, 4], abs=0.05
    )
    assert [value(y) for y in (below.y1, above.y2)] == pytest.approx([0, 7], abs=0.05)
    assert [value(point.y) for point in plot.points] == pytest.approx(
        [0, 1, 2, 3, 4, 5, 6, 7, 14], abs=0.05
    )
    assert plot.points[8].text == "P8: 14.0"
    assert plot.points[8].case == "P8"
    assert plot.caption == ""


def test_infinite_values_are_above_the_frame_and_in_no_quartile():
    finite, plot = box([1, 2, 3.0]), box([1, 2, 3.0, np.inf])
    assert drawn(plot, Area, "box") == drawn(finite, Area, "box")
    assert [point.mark for point in plot.points] == ["dot"] * 3 + ["infinite"]
    assert plot.points[3].y < TOP
    assert "3 cases, median 2.0, from 1.0 to 3.0, 1 infinite" in plot.description
    assert not drawn(box([np.inf]), Area, "box")


def test_values_that_do_not_exist_are_not_drawn():
    assert len(box([1, np.nan, 3.0]).points) == 2


def test_a_failure_does_not_squeeze_the_boxes_and_is_named():
    dices = [0.94, 0.95, 0.955, 0.96, 0.965, 0.97, 0.98, 0.10]
    plot = box(dices, "dice")
    value = y_axis(plot)
    (area,) = drawn(plot, Area, "box")
    assert area.height > 30
    assert [point.mark for point in plot.points] == ["dot"] * 7 + ["below"]
    assert plot.points[7].y > HEIGHT - BOTTOM
    assert plot.caption == "Beyond the axis: T1 liver P7 0.100."
    assert [value(point.y) for point in plot.points[:7]] == pytest.approx(dices[:7], abs=1e-3)


def test_many_values_beyond_the_axis_are_counted():
    plot = box([*np.linspace(0.94, 0.98, 40), *[0.1] * 8], "dice")
    assert plot.caption.endswith("and 2 more.")


@pytest.mark.parametrize("value", [0.0, 1.0, 250.0, -3.0])
def test_equal_values_have_a_scale_too(value):
    plot = box([value, value])
    assert all(TOP - 1 <= point.y <= HEIGHT - BOTTOM + 1 for point in plot.points)
    assert len(drawn(box([min(value, 1.0)] * 2, "dice"), Area, "box")) == 1


def test_phi_has_the_line_of_a_rater():
    plot = box([0.5, 0.95], "uncertainty_aware_score")
    (line,) = drawn(plot, Line, "reference")
    assert y_axis(plot)(line.y1) == pytest.approx(0.9, abs=0.01)
    assert "as good as a rater" in plot.caption


def test_each_modality_has_its_box_and_colour():
    plots = distributions(
        livers({"A": (0.9, 0.8), "B": (0.95, 0.85)}),
        ("dice", "lesion_f1"),
        {"T1": "s0", "T2": "s1"},
    )
    assert [plot.title for plot in plots] == ["Dice"]
    assert [len(drawn(plots[0], Area, css)) for css in ("s0", "s1")] == [1, 1]
    assert "T1 liver 2 cases" in plots[0].description
    assert "T2 liver 2 cases" in plots[0].description


def test_each_class_has_a_plot_of_its_own():
    table = results({("A", "T1", name): object_values(0.9) for name in ("liver", "lesion")})
    assert [plot.title for plot in distributions(table, ("dice", "hd95"), {})] == [
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
    own = volumes([1010, 1190, 1430, 980], [1000, 1200, 1400, 1000])
    plot = bland_altman(own)
    limits = limits_of_agreement(own.measured - own.reference)
    value, across = y_axis(plot), x_axis(plot)
    assert [value(line.y1) for line in drawn(plot, Line, "bias")] == pytest.approx(
        [limits.mean], abs=1
    )
    assert [value(line.y1) for line in drawn(plot, Line, "limit")] == pytest.approx(
        [limits.lower, limits.upper], abs=1
    )
    assert [value(point.y) for point in plot.points] == pytest.approx([10, -10, 30, -20], abs=1)
    assert [across(point.x) for point in plot.points] == pytest.approx(
        [1005, 1195, 1415, 990], abs=2
    )
    assert f"Bias {limits.mean:.1f} ml" in plot.caption
    assert plot.caption in plot.description
    assert plot.points[0].text == "P0: 1010.0 ml, reference 1000.0 ml"


def test_one_case_has_a_bias_but_no_limits():
    plot = bland_altman(volumes([1010], [1000]))
    assert not drawn(plot, Line, "limit")
    assert "limits of agreement – to –, 1 case." in plot.caption


def test_scatter_counts_what_is_left_out():
    plot = scatter(volumes([1010, np.nan, 1200], [1000, 1100, 1200]))
    assert len(plot.points) == 2
    assert "2 cases, 1 left out." in plot.caption
    assert "100 % within 5 %" in plot.caption


def test_fat_fractions_are_sorted_by_the_threshold():
    own = Quantity(
        "Fat", "%", 2, ["A", "B", "C"], np.array([3.0, 6.0, 12.0]), np.array([2.0, 5.0, 11.0])
    )
    plot = scatter(own, threshold=5.56, threshold_name="5.56 %")
    value, across = y_axis(plot), x_axis(plot)
    upright, flat = drawn(plot, Line, "reference")
    assert across(upright.x1) == pytest.approx(5.56, abs=0.1)
    assert value(flat.y1) == pytest.approx(5.56, abs=0.1)
    assert (
        "On the same side of 5.56: 2 of 3 (above in both 1, only predicted 1, only in the"
        " reference 0)." in plot.caption
    )


def test_a_quantity_needs_both_sides():
    table = livers({"A": (0.9,), "B": (0.8,)})
    own = quantity(
        table, ("volume_prediction", "volume_reference"), title="Volume", unit="ml", decimals=0
    )
    assert own.cases == ["A", "B"]
    assert (
        quantity(table, ("volume_prediction", "fat_mean_reference"), title="", unit="", decimals=0)
        is None
    )


def test_dice_over_volume_shows_every_image():
    rows = pd.DataFrame(
        {
            "case": ["A", "B", "C"],
            "modality": ["T1", "T2", "T2"],
            "dice": [0.9, 0.8, np.nan],
            "volume": [900, 1500, 1200],
        }
    )
    plot = against_size(rows, "liver", {"T1": "s0", "T2": "s1"})
    assert [point.text for point in plot.points] == [
        "A T1: Dice 0.900, 900 ml",
        "B T2: Dice 0.800, 1500 ml",
    ]
    assert plot.legend == [("s0", "T1"), ("s1", "T2")]
    assert against_size(rows[2:], "liver", {}) is None


# --- lesions


def some_lesions() -> pd.DataFrame:
    """Of 6, 12 and 24 mm; the first is found, the second has a poor overlap, the third is missed; a
    false one of 12 mm."""
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
    found = by_size(rows)
    assert [own.name for own in found] == ["< 10 mm", "10–20 mm", "≥ 20 mm"]
    assert [(own.true_positives, own.false_positives, own.false_negatives) for own in found] == [
        (own.true_positives, own.false_positives, own.false_negatives)
        for own in rows.attrs["by_size"].values()
    ]


def test_bars_are_as_high_as_the_counts():
    plot = size_plot(some_lesions(), "T1 lesion")
    value = y_axis(plot)
    assert [value(area.y) for area in drawn(plot, Area, "good")] == pytest.approx(
        [1, 0, 0], abs=0.02
    )
    assert [value(area.y) for area in drawn(plot, Area, "false")] == pytest.approx(
        [0, 2, 0], abs=0.02
    )
    assert "10–20 mm 0 found, 1 missed (recall 0.00), 2 false" in plot.description
    assert "raters" not in plot.caption
    two = pd.concat([some_lesions(), some_lesions().assign(rater="b")])
    assert "2 raters" in size_plot(two, "T1 lesion").caption


def test_every_lesion_is_a_point_that_leads_to_its_case():
    plot = lesion_strip(some_lesions(), "T1 lesion")
    assert len(plot.points) == 4
    assert {point.case for point in plot.points} == {"P001"}
    assert plot.description.endswith("found 1, poor overlap 1, missed 1, false 1.")
    across = x_axis(plot)
    assert across(plot.points[0].x) == pytest.approx(np.cbrt(6 * 125 / np.pi), abs=0.3)


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
            for point in plot.points:
                assert 0 <= point.x <= plot.width
                assert 0 <= point.y <= plot.height


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
    across = x_axis(overlap)
    (interval,) = drawn(overlap, Line, "interval")
    assert across(overlap.points[0].x) == pytest.approx(row["mean_difference"], abs=5e-4)
    assert [across(interval.x1), across(interval.x2)] == pytest.approx(
        [row["low"], row["high"]], abs=5e-4
    )
    assert "better" in overlap.points[0].css
    assert any("dual is better →" in shape.text for shape in drawn(overlap, Text, "axis"))
    assert any("← dual is better" in shape.text for shape in drawn(surface, Text, "axis"))
    (band,) = drawn(overlap, Area, "band")
    assert across(band.x + band.width) == pytest.approx(0.005, abs=5e-4)
    assert "Dice, T1 liver 0.026" in overlap.description


def test_too_few_patients_have_a_hollow_point():
    overlap, _ = forest_plots(compared({name: own[:3] for name, own in MODELS.items()}))
    assert not drawn(overlap, Line, "interval")
    assert "hollow" in overlap.points[0].css


def test_without_a_comparable_case_there_is_no_forest():
    comparison = compared({"a": [0.0] * 6, "b": [0.0] * 6})
    plots = forest_plots(comparison[comparison.metric == "hd95"])
    assert plots == []
