"""The reports in a real browser: what a reader's mouse and keyboard do."""

import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nnunet_liver_ext.errors import CaseFailure
from nnunet_liver_ext.evaluation.report import write_comparison_report
from nnunet_liver_ext.evaluation.statistics.paired_comparison import compare_paired
from tests.evaluation.report.browser import PROGRAM, Browser
from tests.evaluation.report.report_pages import livers, write_page
from tests.evaluation.report.test_evaluation_report import case_files

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="needs Chromium"),
    pytest.mark.timeout(300),
]

DICES = {f"P{n:03d}": (0.90 + n / 200, 0.80 + (7 * n % 11) / 100) for n in range(11)} | {
    "P011": (0.4, 0.0)
}
CASES = list(DICES)
CLICK = "new MouseEvent('click', { bubbles: true, cancelable: true })"


@pytest.fixture(scope="module")
def browser():
    found = Browser()
    yield found
    found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    table = livers(DICES)
    table["patient"] = ["anna" if case in ("P002", "P003") else case for case in table["case"]]
    failures = [CaseFailure("P012 T1", "the reference has no prediction.")]
    write_page(folder, table, cases=case_files(folder, DICES), failures=failures)
    return folder / "report.html"


@pytest.fixture
def page(browser, report):
    browser.colours("light")
    browser.size(1280, 900)
    browser.open(report)
    browser.run("localStorage.clear()")
    browser.open(report)
    return browser


def shown(browser, table="cases"):
    """Case and image of each row that is shown, from top to bottom."""
    rows = (
        f"[...document.querySelectorAll('#table-{table} tbody tr')].filter(row => row.offsetParent"
        " !== null)"
    )
    return [
        tuple(row)
        for row in browser.run(f"{rows}.map(row => [row.dataset.case, row.dataset.modality])")
    ]


def column(browser, title):
    """The texts that are shown below a heading."""
    return browser.run(f"""(() => {{
        const table = document.getElementById("table-cases");
        const head = [...table.tHead.rows[1].cells]
            .find(cell => cell.textContent.trim().startsWith("{title}"));
        return [...table.tBodies[0].rows].filter(row => row.offsetParent !== null)
            .map(row => row.cells[head.cellIndex].textContent.trim()); }})()""")


def heading(title):
    return f"""[...document.querySelectorAll("#table-cases thead button")]
        .find(button => button.textContent.trim().startsWith("{title}"))"""


def put(browser, selector, value):
    browser.run(f"""(() => {{ const field = document.querySelector('{selector}');
        if (field.type === "checkbox") field.checked = {json.dumps(value)};
        else field.value = {json.dumps(value)};
        field.dispatchEvent(new Event("input", {{ bubbles: true }}));
        field.dispatchEvent(new Event("change", {{ bubbles: true }})); }})()""")


def opened(browser):
    return browser.run(
        "[...document.querySelectorAll('details.case[open]')].map(section => section.dataset.case)"
    )


def brightness(browser):
    """Of the page's background, 0 to 255."""
    found = browser.run("getComputedStyle(document.body).backgroundColor")
    return np.mean([int(number) for number in re.findall(r"\d+", found)[:3]])


def test_it_opens_without_complaints_and_fetches_nothing(page):
    assert page.errors == []
    assert page.run("document.title") == "Liver segmentation: evaluation report"
    fetched = page.run(
        "performance.getEntriesByType('resource').map(one => one.name).filter(name =>"
        " !name.startsWith('data:'))"
    )
    assert fetched == []


def test_nothing_is_wider_than_the_page(page):
    for width in (1280, 390):
        page.size(width, 800)
        assert page.run(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )


def test_headings_sort_by_number_both_ways_with_the_missing_ones_last(page):
    page.run(f"{heading('Dice')}.click()")
    rising = column(page, "Dice")
    numbers = [float(text) for text in rising if text]
    assert numbers == sorted(numbers)
    assert rising[-1] == ""  # the image that failed
    page.run(f"{heading('Dice')}.click()")
    falling = column(page, "Dice")
    assert [float(text) for text in falling if text] == numbers[::-1]
    assert falling[-1] == ""
    assert (
        page.run("document.querySelector('th[aria-sort]').getAttribute('aria-sort')")
        == "descending"
    )
    page.run(f"{heading('HD95')}.click()")
    page.run(f"{heading('HD95')}.click()")
    assert column(page, "HD95")[0] == "∞"
    assert page.errors == []


def test_headings_sort_by_keyboard(page):
    page.run(f"{heading('Case')}.focus()")
    page.press("Enter")
    page.press("Enter")
    cases = [case for case, _ in shown(page)]
    assert cases == sorted(cases, reverse=True)


def test_filters_leave_what_they_say(page):
    everything = len(shown(page))
    assert everything == 25
    put(page, '[data-filter="text"]', "p00")
    assert {case for case, _ in shown(page)} == set(CASES[:10])
    put(page, '[data-filter="modality"]', "T2")
    assert shown(page) == [(case, "T2") for case in CASES[:10]]
    assert (
        page.run("document.querySelector('.toolbar[data-for=cases] output').textContent")
        == "10 of 25 rows"
    )
    put(page, '[data-filter="text"]', "anna")
    assert shown(page) == [("P002", "T2"), ("P003", "T2")]
    put(page, '[data-filter="text"]', "")
    put(page, '[data-filter="modality"]', "")
    put(page, '[data-filter="flagged"]', True)
    assert set(shown(page)) == {("P011", "T1"), ("P011", "T2"), ("P012", "T1")}


def test_the_sections_follow_the_table(page):
    put(page, '[data-filter="text"]', "P01")
    page.run(f"{heading('Case')}.click()")
    page.run(f"{heading('Case')}.click()")
    sections = page.run(
        """[...document.querySelectorAll("details.case")].filter(one => one.offsetParent !== null)
        .map(one => one.dataset.case)"""
    )
    assert sections == ["P012", "P011", "P010"]


def test_columns_can_be_chosen(page):
    visible = """[...document.querySelectorAll("#table-cases thead tr:last-child th")]
        .filter(cell => cell.offsetParent !== null).map(cell => cell.textContent.trim())"""
    before = page.run(visible)
    assert "IoU" not in before
    number = page.run("""[...document.querySelectorAll("#table-cases th[data-column]")]
        .find(cell => cell.textContent.trim() === "IoU").dataset.column""")
    put(page, f'input[data-column="{number}"]', True)
    after = page.run(visible)
    assert set(after) - set(before) == {"IoU"}
    body = """[...document.querySelector("#table-cases tbody tr").cells]
        .filter(cell => cell.offsetParent !== null).length"""
    assert page.run(body) == len(after)
    spans = """[...document.querySelectorAll("#table-cases thead tr:first-child > *")]
        .filter(cell => cell.offsetParent !== null).reduce((sum, cell) => sum + cell.colSpan, 0)"""
    assert page.run(spans) == len(after)


def test_a_case_opens_by_link_and_by_address(page, report):
    page.run(
        "[...document.querySelectorAll('#table-cases a')].find(link => link.textContent ==="
        " 'P004').click()"
    )
    assert opened(page) == ["P004"]
    assert page.run("document.activeElement.closest('details').dataset.case") == "P004"
    assert page.run("document.querySelector('tr.current').dataset.case") == "P004"
    top = page.run("document.querySelector('details.case[open]').getBoundingClientRect().top")
    assert 0 <= top < 450
    anchor = page.run("location.hash")
    page.open(report, anchor)
    page.wait_for("document.querySelector('details.case[open]') !== null")
    assert opened(page) == ["P004"]
    page.run(f"document.querySelector('figure.plot a').dispatchEvent({CLICK})")
    assert opened(page) == ["P000"]
    assert page.errors == []


def test_a_case_that_is_filtered_away_is_found_again(page):
    put(page, '[data-filter="text"]', "P001")
    page.run("location.hash = '#case-6'")
    page.wait_for("document.querySelector('details.case[open]') !== null")
    assert opened(page) == ["P005"]
    assert len(shown(page)) == 25


def test_keys_go_from_case_to_case(page):
    for key, case in (
        ("j", "P000"),
        ("j", "P001"),
        ("ArrowRight", "P002"),
        ("k", "P001"),
        ("ArrowLeft", "P000"),
        ("k", "P000"),
    ):
        page.press(key)
        assert opened(page) == [case]


def test_keys_filter_help_and_masks(page):
    page.press("/")
    assert page.run("document.activeElement.dataset.filter") == "text"
    page.press("j")  # is typed into the field
    assert page.run("document.activeElement.value") == "j"
    assert opened(page) == []
    page.run("document.activeElement.blur()")
    page.press("?")
    assert page.run("document.getElementById('keys').open")
    page.run("document.getElementById('keys').close()")
    for masks in ("areas", "none", "outlines"):
        page.press("o")
        assert page.run("document.documentElement.dataset.masks") == masks
        assert page.run("document.querySelector('input[name=masks]:checked').value") == masks


def test_masks_are_lines_or_areas(page):
    page.press("j")

    def style(css, name):
        return page.run(
            f"getComputedStyle(document.querySelector('details[open] .layers .{css}'))['{name}']"
        )

    assert (style("ref", "fill"), style("ref", "stroke")) == ("none", "rgb(255, 77, 77)")
    page.run("document.querySelector('input[value=areas]').click()")
    assert (style("ref", "fill"), style("pred", "fill")) == ("rgb(208, 31, 47)", "rgb(35, 71, 224)")
    assert style("pred", "mixBlendMode") == "screen"
    assert page.run("document.querySelector('.key.areas').offsetParent !== null")
    assert page.run("document.querySelector('.key.outlines').offsetParent === null")


def test_both_masks_are_purple_and_one_alone_red_or_blue(page, tmp_path):
    """The prediction is the reference moved by a column to the patient's right, hence leftwards."""
    page.press("j")
    page.run("document.querySelector('input[value=areas]').click()")
    page.run("document.querySelector('details[open] .layers').scrollIntoView()")
    left, top, width = page.run(
        "(() => { const box = document.querySelector('details[open]"
        " .layers').getBoundingClientRect();return [box.left, box.top, box.width]; })()"
    )
    page.screenshot(tmp_path / "areas.png")
    picture = np.asarray(Image.open(tmp_path / "areas.png").convert("RGB"), int)
    axial = picture[round(top) : round(top + 0.2 * width), round(left) : round(left + 0.3 * width)]
    red, green, blue = np.moveaxis(axial, -1, 0)
    both = (red > green + 40) & (blue > green + 40)
    under, over = (red > green + 40) & (red > blue + 40), (blue > green + 40) & (blue > red + 40)
    assert both.sum() > 4 * under.sum() > 0
    assert both.sum() > 4 * over.sum() > 0
    places = [np.nonzero(region)[1].mean() for region in (under, both, over)]
    assert places == sorted(places) or places == sorted(places, reverse=True)


def test_pictures_can_be_enlarged(page):
    page.press("j")
    widths = (
        "[...document.querySelectorAll('details[open] .picture')].map(one =>"
        " one.getBoundingClientRect().width)"
    )
    before = page.run(widths)
    page.run("document.querySelector('details[open] [data-do=enlarge]').click()")
    after = page.run(widths)
    assert after[0] > 1.5 * before[0]
    assert (
        page.run(
            "document.querySelector('details[open] [data-do=enlarge]').getAttribute('aria-pressed')"
        )
        == "true"
    )
    page.press("z")
    page.press("z")
    assert page.run(widths) == pytest.approx([after[0]] * 2, abs=2)


def test_pictures_are_decoded(page):
    page.press("j")
    page.wait_for(
        "[...document.querySelectorAll('details[open] img')].every(one => one.complete &&"
        " one.naturalWidth > 100)"
    )
    boxes = page.run("""[...document.querySelectorAll("details[open] .layers")].map(layers => {
        const [a, b] = [...layers.children].map(child => child.getBoundingClientRect());
        return [a.left - b.left, a.top - b.top, a.width - b.width, a.height - b.height]; })""")
    assert np.abs(boxes).max() < 1  # outlines lie on their image


def test_dark_and_light_follow_the_system_until_the_reader_chooses(page, report):
    assert brightness(page) > 200
    page.colours("dark")
    assert brightness(page) < 60
    page.press("t")
    assert brightness(page) > 200
    page.open(report)
    assert brightness(page) > 200  # is remembered
    page.run("document.querySelector('[data-do=theme]').click()")
    assert brightness(page) < 60
    assert page.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_its_background(page, scheme):
    """Contrast of at least 4.5 (WCAG 2, AA) for the colours that carry text."""
    page.colours(scheme)
    names = [
        "paper",
        "panel",
        "ink",
        "faint",
        "accent",
        "bad",
        "note",
        "good",
        "bad-panel",
        "note-panel",
        "raised",
    ]
    style = "getComputedStyle(document.documentElement)"
    values = page.run(f"{names}.map(name => {style}.getPropertyValue('--' + name).trim())")
    colours = dict(zip(names, values, strict=True))

    def luminance(name):
        digits = colours[name].lstrip("#")
        digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    pairs = [
        (text, ground)
        for text in ("ink", "faint", "accent", "bad", "good")
        for ground in ("paper", "panel", "raised")
    ]
    for text, ground in [*pairs, ("bad", "bad-panel"), ("note", "note-panel"), ("note", "paper")]:
        lighter, darker = sorted((luminance(text), luminance(ground)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (text, ground)


def test_the_methods_are_copied_or_selected(page):
    page.run("document.querySelector('[data-do=copy]').click()")
    page.wait_for("document.querySelector('.copied').textContent !== ''")
    assert page.run("document.querySelector('.copied').textContent").startswith(
        ("copied", "selected")
    )


def test_the_skip_link_is_the_first_stop(page):
    page.call(
        "Input.dispatchKeyEvent", type="rawKeyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9
    )
    page.call(
        "Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9
    )
    assert page.run("document.activeElement.className") == "skip"
    assert page.run("document.activeElement.getBoundingClientRect().left") >= 0


def test_paper_shows_the_cases_that_matter_and_the_page_is_as_before(page, tmp_path):
    page.colours("dark")
    page.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.wait_for("document.querySelector('details.case[open]') === null")
    page.run("dispatchEvent(new Event('beforeprint'))")
    printed = page.run(
        "[...document.querySelectorAll('details.case[open]')].map(section => section.dataset.case)"
    )
    assert {"P010", "P011", "P012"} <= set(printed)  # the best one, one with flags, one that failed
    assert "P001" not in printed
    page.run("dispatchEvent(new Event('afterprint'))")
    assert opened(page) == []


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="needs pdftotext")
def test_the_printed_table_has_every_row_and_the_masks_are_there(page, tmp_path):
    page.pdf(tmp_path / "report.pdf")
    command = ["pdftotext", "-layout", str(tmp_path / "report.pdf"), "-"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    for case in CASES:
        assert len(re.findall(rf"^\s*{case}\s", text, re.M)) >= 2
    assert "Research use only" in text
    assert "Printed are the cases with a flag" in text
    assert "P011" in text.split("Printed are the cases with a flag")[1]
    assert "is far from the other cases" in text  # in a section that was closed on the screen
    assert "only flagged" not in text


MODELS = {"single": (0.0, 0.01), "dual": (0.02, 0.0), "third": (0.01, 0.03)}


@pytest.fixture
def comparison(browser, tmp_path):
    tables = {
        name: livers({f"P{n}": (0.9 + gain * (n % 3), 0.8 + other * (n % 2)) for n in range(9)})
        for name, (gain, other) in MODELS.items()
    }
    stacked = pd.concat(
        [table.assign(model=name) for name, table in tables.items()], ignore_index=True
    )
    compared = compare_paired(stacked, metrics=["dice", "hd95"], resamples=200)
    write_comparison_report(tables, compared, tmp_path / "comparison.html")
    browser.colours("light")
    browser.size(1280, 900)
    browser.open(tmp_path / "comparison.html")
    return browser


def test_a_comparison_shows_one_measure_at_a_time_and_sorts_by_difference(comparison):
    assert comparison.errors == []
    assert len(shown(comparison)) == 18
    comparison.run(f"{heading('dual − single')}.click()")
    differences = [float(text.replace("−", "-")) for text in column(comparison, "dual − single")]
    assert differences == sorted(differences)
    assert differences[-1] == pytest.approx(0.04)
    put(comparison, '[data-filter="metric"]', "HD95 [mm]")
    assert len(shown(comparison)) == 18
    assert max(float(text) for text in column(comparison, "single")) == pytest.approx(8.0)
    put(comparison, '[data-filter="modality"]', "T2")
    assert len(shown(comparison)) == 9


def test_a_point_of_a_comparison_finds_its_case_in_the_table(comparison):
    links = "[...document.querySelectorAll('figure.plot a')]"
    comparison.run(
        f"{links}.find(link => link.textContent.startsWith('P4:')).dispatchEvent({CLICK})"
    )
    assert shown(comparison) == [("P4", "T1"), ("P4", "T2")]
    assert comparison.errors == []
