"""The page of an evaluation, without a browser: what stands in it, and that it stands alone."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.files.case_files import CaseFiles
from nnunet_liver_ext.evaluation.files.find_label_maps import ImageKey
from nnunet_liver_ext.evaluation.files.read_label_map import LabelMap
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.report.sections.case_table import rank_cases
from nnunet_liver_ext.evaluation.report.sections.citations import CITATIONS
from nnunet_liver_ext.evaluation.results.pair_summary import summarise_pairs
from nnunet_liver_ext.space.images import image_like, write_image
from tests.evaluation.conftest import GRID, block
from tests.evaluation.report.report_pages import Page, livers, object_values, results, write_page

DICES = {
    "P001": (0.96, 0.9),
    "P002": (0.94, 0.88),
    "P003": (0.5, 0.0),
    "P004": (0.95, 0.91),
    "P005": (0.97, 0.92),
}


@pytest.fixture
def page(tmp_path) -> Page:
    return write_page(tmp_path, livers(DICES))


def rows_of(page: Page, table: str):
    element = page.one("table", id=f"table-{table}")
    return [row for row in page.all("tr") if row.within(element) and "data-case" in row.attributes]


def stands_alone(page: Page) -> None:
    without_pictures = re.sub(r"base64,[^\"]*", "", page.html)
    assert not re.search(r"https?:|//\w|@import|url\(", without_pictures)
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in page.links)
    assert (
        "default-src 'none'"
        in page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    )


def leads_everywhere(page: Page) -> None:
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_the_page_stands_alone_and_its_links_lead_somewhere(page):
    stands_alone(page)
    leads_everywhere(page)
    assert page.text.count("Research use only") == 2
    assert page.one("html").attributes["lang"] == "en"


def test_there_are_cards_with_the_summary(page):
    cards = page.all("article", "card")
    assert [card.text.split("\n")[1] for card in cards] == ["T1 liver", "T2 liver"]
    first, second = (card.text for card in cards)
    assert "5 cases" in first
    values = [own[0] for own in DICES.values()]
    assert f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" in first
    assert "median 0.950, 0.500 to 0.970" in first
    assert "1 infinite" in second
    assert "1 infinite" not in first


def test_failures_are_on_top_on_the_card_and_in_the_table(tmp_path):
    failures = [
        CaseFailure("P009 T1", "the reference has no prediction."),
        CaseFailure("P001 T2", "unreadable."),
    ]
    table = livers(DICES)
    page = write_page(
        tmp_path, table[~((table.case == "P001") & (table.modality == "T2"))], failures=failures
    )
    alert = page.one("section", "problems", role="alert")
    assert "2 could not be evaluated" in alert.text
    assert [card.text.count("1 failed") for card in page.all("article", "card")] == [1, 1]
    rows = {
        (row.attributes["data-case"], row.attributes["data-modality"]): row
        for row in rows_of(page, "cases")
    }
    assert "no prediction" in rows["P009", "T1"].text
    assert "data-flagged" in rows["P009", "T1"].attributes
    assert "not evaluated" in rows["P001", "T2"].text
    sections = {section.attributes["data-case"]: section for section in page.all("details", "case")}
    assert "the reference has no prediction" in sections["P009"].text
    leads_everywhere(page)


def test_notes_are_grouped_and_repeated_where_they_belong(tmp_path):
    notes = [CaseFailure(f"{case} T2", "no image was found.") for case in DICES]
    notes.append(CaseFailure("P002 T1", "something odd."))
    page = write_page(tmp_path, livers(DICES), notes=notes)
    box = page.one("section", "notes")
    assert box.text.count("no image was found") == 1
    assert "P001 T2; P002 T2 and 3 more" in box.text
    assert "P003, T2 liver: the prediction is empty" in box.text
    section = page.one("details", "case", data_case="P002")
    assert "T1: something odd." in section.text
    assert "T2: no image was found." in section.text


def test_every_row_leads_to_its_case_and_has_what_it_is_filtered_and_sorted_by(page):
    rows = rows_of(page, "cases")
    assert [(row.attributes["data-case"], row.attributes["data-modality"]) for row in rows] == [
        (case, modality) for case in DICES for modality in ("T1", "T2")
    ]
    sections = {
        section.attributes["id"]: section.attributes["data-case"]
        for section in page.all("details", "case")
    }
    for row in rows:
        (link,) = [one for one in page.all("a") if one.within(row)]
        assert sections[link.attributes["href"][1:]] == row.attributes["data-case"] == link.text
    infinite = [cell for cell in page.all("td", "infinite") if cell.within(rows[5])]
    assert all(cell.attributes["data-v"] == "1e99" and cell.text == "∞" for cell in infinite)
    assert [row.attributes["data-case"] for row in rows if "data-flagged" in row.attributes] == [
        "P003",
        "P003",
    ]


def test_columns_are_grouped_by_family_and_some_are_shown_at_first(page):
    table = page.one("table", id="table-cases")
    families = [one.text for one in page.all("th", scope="colgroup") if one.within(table)]
    assert families == ["Overlap", "Surface", "Volume", "Plausibility"]
    boxes = [box for box in page.all("input", type="checkbox") if "data-column" in box.attributes]
    heads = [
        head for head in page.all("th") if "data-column" in head.attributes and head.within(table)
    ]
    assert [box.attributes["data-column"] for box in boxes] == [
        head.attributes["data-column"] for head in heads
    ]
    shown = {box.attributes["data-column"] for box in boxes if "checked" in box.attributes}
    titles = [head.text.strip() for head in heads if head.attributes["data-column"] in shown]
    assert titles[:4] == ["Dice", "Surface Dice", "HD95 [mm]", "ASD [mm]"]
    assert len(shown) < len(boxes)


def test_every_heading_is_a_button(page):
    table = page.one("table", id="table-cases")
    for head in page.all("th", scope="col"):
        if head.within(table):
            assert any(button.within(head) for button in page.all("button"))


def test_worst_median_and_best_cases_are_named(page):
    text = page.one("p", "first").text
    assert re.search(r"T1 worst P003 Dice 0.500, median P004 Dice 0.950, best P005", text)
    assert "worst T1" in page.one("details", "case", data_case="P003").text


@pytest.mark.parametrize(
    ("cases", "ranks"), [(1, ["only"]), (2, ["worst", "best"]), (3, ["worst", "median", "best"])]
)
def test_ranks_of_few_cases(cases, ranks):
    table = livers({f"P{n}": (n / 10,) for n in range(cases)})
    assert [(rank, case) for rank, case, _ in rank_cases(table, "T1")] == [
        (r, f"P{n}") for n, r in enumerate(ranks)
    ]


def test_a_section_has_all_numbers_of_its_case(page):
    section = page.one("details", "case", data_case="P002")
    for text in (
        "T1 liver Dice 0.940",
        "Volume, reference [ml]1010",
        "HD95 [mm]2.4",
        "Overlap",
        "Plausibility",
    ):
        assert text in re.sub(r"\s*\n\s*", "", section.text), text


def test_sections_to_look_at_are_printed(page):
    printed = [
        section.attributes["data-case"]
        for section in page.all("details", "case")
        if "data-print" in section.attributes
    ]
    assert printed == ["P001", "P003", "P004", "P005"]  # flagged, worst, median or best of an image


def test_points_lead_to_their_cases_and_say_their_numbers(page):
    plot = next(one for one in page.all("figure", "plot") if one.text.strip().startswith("Dice"))
    links = [link for link in page.all("a") if link.within(plot)]
    assert len(links) == 10
    assert all(link.attributes["tabindex"] == "-1" for link in links)
    titles = [title.text for title in page.all("title") if title.within(plot)]
    assert "P004: 0.950" in titles


def test_every_picture_and_plot_has_words_for_those_who_do_not_see_it(page):
    for plot in page.all("svg", role="img"):
        assert re.search(r"\d", plot.attributes["aria-label"])
    assert all(image.attributes["alt"] for image in page.all("img"))
    for table in page.all("table", "data"):
        assert any(caption.within(table) for caption in page.all("caption"))


def test_names_from_files_are_escaped_everywhere(tmp_path):
    evil = '<script>alert("1")</script>&\'"><b>'
    table = livers({evil: (0.9, 0.0), "B": (0.8, 0.7)})
    table["patient"] = [f"patient {case}" for case in table["case"]]
    lesions = pd.DataFrame(
        [{"case": evil, "modality": "T1", "class": evil, "rater": evil, **LESION}]
    )
    raters = pd.DataFrame(
        [
            {
                "case": evil,
                "modality": "T1",
                "class": evil,
                "first": evil,
                "second": evil,
                "dice": 0.5,
            }
        ]
    )
    page = write_page(
        tmp_path,
        table,
        failures=[CaseFailure(f"{evil} T9", evil)],
        notes=[CaseFailure(evil, evil)],
        details={"lesions": lesions, "raters": raters},
    )
    assert page.html.count("<script>") == 1
    assert "<b>" not in page.html
    assert evil in page.text
    leads_everywhere(page)


LESION = {
    "found": "hit",
    "reference": "1",
    "prediction": "1",
    "dice": 0.7,
    "reference_mm": 12.0,
    "prediction_mm": 11.0,
}


def test_the_liver_comes_first_and_lesions_last(tmp_path):
    table = results(
        {
            (case, modality, name): object_values(0.9)
            for case in "AB"
            for modality in ("T2", "T1")
            for name in ("Spleen", "lesion", "liver")
        }
    )
    page = write_page(tmp_path, table, Options(lesions=("lesion",)))
    names = [card.text.split("\n")[1] for card in page.all("article", "card")]
    assert names == ["T1 liver", "T1 Spleen", "T1 lesion", "T2 liver", "T2 Spleen", "T2 lesion"]
    assert [row.attributes["data-class"] for row in rows_of(page, "cases")][:3] == [
        "liver",
        "Spleen",
        "lesion",
    ]


def test_plain_label_maps_have_neither_modality_nor_class_to_choose(tmp_path):
    table = results({(case, "image", "1"): object_values(0.9) for case in ("A", "B")})
    page = write_page(tmp_path, table)
    assert not page.all("select")
    assert [card.text.split("\n")[1] for card in page.all("article", "card")] == ["label 1"]
    assert "Image" not in [button.text for button in page.all("button")]


def test_patients_are_named_where_they_say_more_than_the_case(tmp_path):
    table = results(
        {(case, "T1", "liver"): object_values(0.9) for case in ("A1", "A2", "B")},
        {"A1": "A", "A2": "A"},
    )
    page = write_page(tmp_path, table)
    assert "3 cases of 2 patients" in page.one("p", "meta").text
    assert "Patient" in [button.text for button in page.all("button")]
    assert "patient A" in page.one("details", "case", data_case="A2").text
    assert "patient" not in page.one("details", "case", data_case="B").text.split("\n")[1]


def test_results_of_the_overlap_alone(tmp_path):
    table = livers(DICES)
    page = write_page(
        tmp_path, table[table.metric.isin(["dice", "iou"])], Options(only=("overlap",))
    )
    assert "surface" not in page.one("p", "meta").text
    assert [dt.text for dt in page.all("dt") if dt.within(page.all("article", "card")[0])] == [
        "Dice"
    ]
    assert "HD95" not in page.one("table", id="table-cases").text
    assert "HD95 is the larger" not in methods(page)
    assert "Bland" not in methods(page)
    stands_alone(page)
    leads_everywhere(page)


# --- pairs, lesions, raters


def pair(prediction, reference, volume):
    return {
        "relative_similarity_prediction": prediction,
        "relative_similarity_reference": reference,
        "relative_similarity_gain": prediction - reference,
        "pair_volume_difference_prediction": volume,
        "pair_volume_difference_reference": volume / 2,
    }


def test_pairs_have_a_card_a_table_and_plots(tmp_path):
    singles = livers({"A": (0.9, 0.8), "B": (0.95, 0.85)})
    pairs = results(
        {
            ("A", "T1-T2", "liver"): pair(0.95, 0.93, 20.0),
            ("B", "T1-T2", "liver"): pair(math.nan, 0.9, -10.0),
        }
    )
    table = pd.concat([singles, pairs], ignore_index=True)
    page = write_page(tmp_path, table, Options(similarity="rigid"), pairs=summarise_pairs(table))
    card = page.one("article", "pair").text
    assert "0.950" in card
    assert "references 0.930, difference 0.020" in card
    assert "1 excluded" in card
    assert len(rows_of(page, "pairs")) == 2
    assert len(rows_of(page, "cases")) == 4
    assert "after a transform (rigid) of the first" in page.text
    assert (
        sum("Relative similarity, T1-T2 liver" in plot.text for plot in page.all("figure", "plot"))
        == 1
    )
    assert "Relative similarity, predictions" in page.one("details", "case", data_case="A").text


def test_without_pairs_nothing_is_said_of_them(page):
    assert "Agreement" not in page.html
    assert not page.all("table", id="table-pairs")


def test_lesions_and_raters_of_a_case_are_listed(tmp_path):
    more = {
        "lesion_f1": 0.5,
        "lesion_true_positives": 1.0,
        "lesion_false_positives": 2.0,
        "lesion_false_negatives": 0.0,
    }
    more |= {"uncertainty_aware_score": 0.93, "rater_dice": 0.9}
    table = results(
        {
            ("A", "T1", "lesion"): object_values(0.9, **more),
            ("B", "T1", "lesion"): object_values(0.9, **more),
        }
    )
    lesions = pd.DataFrame(
        [{"case": "A", "modality": "T1", "class": "lesion", "rater": "anna", **LESION}]
    )
    raters = pd.DataFrame(
        [
            {
                "case": "A",
                "modality": "T1",
                "class": "lesion",
                "first": "prediction",
                "second": "anna",
                "dice": 0.77,
            }
        ]
    )
    page = write_page(
        tmp_path,
        table,
        Options(lesions=("lesion",)),
        details={"lesions": lesions, "raters": raters},
    )
    first, second = (page.one("details", "case", data_case=case).text for case in "AB")
    assert "anna" in first
    assert "12.0" in first
    assert "0.770" in first
    assert "anna" not in second
    card = page.one("article", "card").text
    assert "2 of 2 as good as a rater" in card
    assert "2 found, 0 missed, 4 false; mean of cases 0.500" in card
    assert f"{2 * 2 / (2 * 2 + 4):.3f}" in card


# --- methods


def methods(page: Page) -> str:
    return page.one("div", id="methods-text").text


def test_methods_say_what_was_measured_and_cite_only_that(tmp_path):
    text = methods(write_page(tmp_path, livers(DICES), Options(tolerance_mm=3.5)))
    assert "5 cases (T1: 5, T2: 5)" in text
    assert "within 3.5 mm" in text
    assert "Maier-Hein" in text
    assert "Nikolov" in text
    assert "Kavur" not in text
    assert "Couteaux" not in text
    assert "Hänsch" not in text
    assert not re.search(r"\[[a-z_]+\]", text)


def test_methods_of_everything(tmp_path):
    more = {"lesion_f1": 0.5, "uncertainty_aware_score": 0.9, "fat_mean_difference": 0.1}
    more |= {
        f"lesion_{name}": 1.0 for name in ("true_positives", "false_positives", "false_negatives")
    }
    singles = results({("A", "T1", "lesion"): object_values(0.9, **more)})
    table = pd.concat(
        [singles, results({("A", "T1-T2", "lesion"): pair(0.9, 0.8, 1.0)})], ignore_index=True
    )
    raters = pd.DataFrame(
        [
            {
                "case": "A",
                "modality": "T1",
                "class": "lesion",
                "first": "anna",
                "second": "ben",
                "dice": 0.77,
            }
        ]
    )
    options = Options(
        similarity="elastic",
        lesions=("lesion",),
        min_lesion_dice=0.3,
        fat_margin_mm=5.0,
        convention="chaos",
        resample=True,
    )
    failures = [CaseFailure("B T1", "unreadable.")]
    page = write_page(tmp_path, table, options, details={"raters": raters}, failures=failures)
    text = methods(page)
    words = (
        "Kavur",
        "Couteaux",
        "Hänsch",
        "above 0.3",
        "margin of 5 mm",
        "(elastic)",
        "2 raters",
        "interpolated",
    )
    for word in (*words, "1 could not be evaluated"):
        assert word in text, word
    numbers = [int(number) for number in re.findall(r"\[(\d+)\]", text)]
    assert list(dict.fromkeys(numbers)) == list(range(1, max(numbers) + 1))
    assert [entry.text.split(".")[0] for entry in page.all("p", "entry")] == [
        str(n + 1) for n in range(max(numbers))
    ]


def test_no_citation_is_written_twice():
    assert len(set(CITATIONS.values())) == len(CITATIONS)


# --- pictures


def case_files(folder, dices):
    """Pairs of masks on disk; none of them has an image."""
    found = []
    for case, own in dices.items():
        for modality in ("T1", "T2")[: len(own)]:
            paths = [folder / f"{side}_{case}_{modality}.nii.gz" for side in ("pred", "ref")]
            for shift, path in enumerate(paths):
                write_image(image_like(block(shift), GRID), path)
            found.append(
                CaseFiles(
                    ImageKey(case, modality), LabelMap(paths[0]), {"": LabelMap(paths[1])}, case
                )
            )
    return found


def test_each_image_has_a_picture_with_outlines_beside_that_of_its_partner(tmp_path):
    dices = {"A": (0.9, 0.8), "B": (0.7,)}
    page = write_page(tmp_path, livers(dices), cases=case_files(tmp_path, dices))
    stands_alone(page)
    first, second = page.all("details", "case")
    assert [image.attributes["alt"].split(",")[:2] for image in page.all("img")] == [
        ["A", " T1"],
        ["A", " T2"],
        ["B", " T1"],
    ]
    assert "liver Dice 0.900, HD95 4.0 mm" in page.all("img")[0].attributes["alt"]
    assert [
        sum(image.within(section) for image in page.all("img")) for section in (first, second)
    ] == [2, 1]
    for css in ("ref", "pred"):
        assert all(path.attributes["d"].startswith("M") for path in page.all("path", css))
        assert len(page.all("path", css)) == 3
    assert first.text.count("without its image") == 2


def test_failed_images_have_no_picture_and_unreadable_ones_a_reason(tmp_path):
    dices = {"A": (0.9,), "B": (0.8,)}
    found = case_files(tmp_path, {**dices, "C": (0.5,)})
    found[1].prediction.path.write_bytes(b"")
    page = write_page(
        tmp_path, livers(dices), cases=found, failures=[CaseFailure("C T1", "other grid.")]
    )
    assert len(page.all("img")) == 1
    text = page.one("details", "case", data_case="B").text
    assert "No picture: the prediction: cannot be read" in text
    assert str(tmp_path) not in page.html


def test_the_page_is_the_same_whenever_it_is_written(tmp_path):
    dices = {"A": (0.9, 0.8), "B": (0.7, 0.6)}
    found = case_files(tmp_path, dices)
    assert (
        write_page(tmp_path, livers(dices), cases=found).html
        == write_page(tmp_path, livers(dices), cases=found).html
    )
