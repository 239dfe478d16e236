"""The whole evaluation from folders to files, and the command."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from nnunet_liver_ext.cli import app
from nnunet_liver_ext.errors import InputError, SomeCasesFailed
from nnunet_liver_ext.evaluation.options import Options
from nnunet_liver_ext.evaluation.report import ranked_cases
from nnunet_liver_ext.evaluation.run import evaluate_folders
from nnunet_liver_ext.evaluation.tables import read_results
from nnunet_liver_ext.pairing import PairLabels, encode_pair
from tests.evaluation.conftest import GRID, OTHER_GRID, T2_GRID, block

SHIFTS = {"P001": (0, 4), "P002": (1, 3), "P003": (2, 2), "P004": (3, 1)}


@pytest.fixture
def four_pairs(tmp_path, put) -> Path:
    """Four cases; Dice is (8 - shift) / 8."""
    for case, shifts in SHIFTS.items():
        for modality, shift, grid in zip(("T1", "T2"), shifts, (GRID, T2_GRID), strict=True):
            put(f"predictions/{case}_{modality}", block(shift, grid=grid), grid)
            put(f"references/{case}_{modality}", block(grid=grid), grid)
            put(
                f"images/{case}_{modality}",
                np.random.default_rng(0).normal(100, 30, grid.size[::-1]).astype(np.float32),
                grid,
            )
    return tmp_path


def evaluate(root: Path, options: Options = Options(), **more) -> pd.DataFrame:
    return evaluate_folders(root / "predictions", root / "references", root / "out", options, **more)


class Page(HTMLParser):
    """What a browser would load, and the nesting of the tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.images, self.links, self.open, self.texts = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "img":
            self.images.append(attributes)
        self.links += [value for name, value in attrs if name in ("href", "src", "srcset", "action", "data")]
        if tag not in ("img", "meta", "link", "br", "line", "rect", "circle", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_three_files_and_their_numbers(four_pairs):
    table = evaluate(four_pairs, processes=1)
    assert sorted(path.name for path in (four_pairs / "out").glob("[!.]*")) == ["report.html", "results.csv", "results.json"]
    for case, shifts in SHIFTS.items():
        dice = table[(table.case == case) & (table.metric == "dice")]
        assert list(dice.value) == pytest.approx([(8 - shift) / 8 for shift in shifts])
    pd.testing.assert_frame_equal(read_results(four_pairs / "out/results.csv"), table)


def test_nothing_written_knows_this_machine(four_pairs):
    evaluate(four_pairs, images=four_pairs / "images", processes=1)
    written = [path for path in (four_pairs / "out").rglob("*") if path.is_file()]
    assert len(written) == 3 + 8
    for path in written:
        assert str(four_pairs) not in path.read_text()


def test_several_processes_give_the_same(four_pairs):
    one = evaluate(four_pairs, processes=1)
    two = evaluate(four_pairs, processes=2, overwrite=True, fresh=True)
    pd.testing.assert_frame_equal(one, two)


def test_results_are_not_overwritten_unasked(four_pairs):
    evaluate(four_pairs, processes=1)
    with pytest.raises(InputError, match=r"results.csv exists: .* --overwrite"):
        evaluate(four_pairs)
    evaluate(four_pairs, Options(tolerance_mm=0.5), overwrite=True)
    assert json.loads((four_pairs / "out/results.json").read_text())["tolerance_mm"] == 0.5


def test_bad_options_are_refused_before_anything_is_written(four_pairs):
    for options in ({"processes": 0}, {"images": four_pairs / "none"}):
        with pytest.raises(InputError):
            evaluate(four_pairs, **options)
    assert not (four_pairs / "out").exists()
    (four_pairs / "out").write_text("")
    with pytest.raises(InputError, match="is a file"):
        evaluate(four_pairs)


def test_problems_are_listed_everywhere_and_the_others_evaluated(four_pairs, put):
    put("predictions/P002_T1", block(grid=OTHER_GRID), OTHER_GRID)
    (four_pairs / "predictions/P003_T2.nii.gz").unlink()
    put("predictions/P009_T1", block())
    put("predictions/P001_T1", block() * 0)
    with pytest.raises(SomeCasesFailed, match="2 of 8 cases") as error:
        evaluate(four_pairs, processes=1)
    assert [failure.case for failure in error.value.failures] == ["P002 T1", "P003 T2"]
    assert read_results(four_pairs / "out/results.csv").groupby(["case", "modality"]).ngroups == 6
    content = json.loads((four_pairs / "out/results.json").read_text())
    report = "".join(Page((four_pairs / "out/report.html").read_text()).texts)
    for case, words in (("P002 T1", "different grids"), ("P003 T2", "no prediction")):
        assert any(failure["case"] == case and words in failure["reason"] for failure in content["failures"])
        assert re.search(f"{case}: [^\n]*{words}", report)
    assert [note["case"] for note in content["notes"]] == ["P009 T1"]
    assert "P009 T1: P009_T1.nii.gz has no reference" in report
    assert "P001, T1 label 1: the prediction is empty" in report


def test_if_no_case_can_be_evaluated_nothing_is_written(tmp_path, put):
    put("predictions/P001_T1", block(grid=OTHER_GRID), OTHER_GRID)
    put("references/P001_T1", block())
    with pytest.raises(SomeCasesFailed, match="1 of 1"):
        evaluate(tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_report_stands_alone_with_a_picture_of_each_ranked_case(four_pairs):
    evaluate(four_pairs, images=four_pairs / "images", processes=1)
    html = (four_pairs / "out/report.html").read_text()
    page = Page(html)
    assert not page.open
    assert len(page.images) == 6
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"https?:|//\w|@import|url\(", re.sub(r"base64,[^\"]*", "", html))
    assert "Research use only" in html
    assert html.count("<svg") == 6
    assert html.count('<circle class="point"') == 6 * 8
    first = page.images[0]
    assert first["alt"].startswith("Worst case P004, T1, Dice 0.625")
    picture = Image.open(io.BytesIO(base64.b64decode(first["src"].split(",")[1]))).convert("RGB")
    red, green = _pixels(picture, (255, 77, 77)), _pixels(picture, (61, 220, 106))
    assert red.any()
    assert green.any()
    assert _columns(green).mean() > _columns(red).mean()  # the prediction is moved to the patient's left


def _pixels(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(np.asarray(picture, int) - colour).sum(-1) < 90


def _columns(mask: np.ndarray) -> np.ndarray:
    """Column numbers in the axial slice, which is the first of the three."""
    columns = np.nonzero(mask)[1]
    return columns[columns < mask.shape[1] / 3]


def test_without_images_the_pictures_are_grey_and_say_so(four_pairs):
    evaluate(four_pairs, processes=1)
    assert (four_pairs / "out/report.html").read_text().count("without its image") == 6


def test_a_missing_image_is_a_note_and_a_damaged_one_costs_its_picture(four_pairs):
    (four_pairs / "images/P001_T1.nii.gz").unlink()
    path = four_pairs / "images/P004_T1.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    evaluate(four_pairs, images=four_pairs / "images", processes=1)
    html = (four_pairs / "out/report.html").read_text()
    assert len(Page(html).images) == 5
    assert "No picture: P004_T1.nii.gz: cannot be read" in html
    notes = json.loads((four_pairs / "out/results.json").read_text())["notes"]
    assert [note["case"] for note in notes] == ["P001 T1"]


def test_names_from_files_are_escaped(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/<b>&_T1", block())
    evaluate(tmp_path)
    html = (tmp_path / "out/report.html").read_text()
    assert "<b>&_" not in html
    assert "&lt;b&gt;&amp;" in html


@pytest.mark.parametrize(("cases", "ranks"), [(1, ["only"]), (2, ["worst", "best"]), (3, ["worst", "median", "best"])])
def test_ranks_of_few_cases(cases, ranks):
    rows = [(f"P{n}", "T1", "liver", "dice", n / 10, "1") for n in range(cases)]
    table = pd.DataFrame(rows, columns=["case", "modality", "class", "metric", "value", "unit"])
    assert [(rank, case) for rank, case, _ in ranked_cases(table, "T1")] == [(r, f"P{n}") for n, r in enumerate(ranks)]


def test_joint_maps_with_nnunet_images_end_to_end(tmp_path, put):
    pair = PairLabels(("T1", "T2"), ("background", "liver"))
    for case, shift in (("A", 1), ("B", 0)):
        put(f"predictions/{case}", encode_pair(block(shift), block()))
        put(f"references/{case}", encode_pair(block(), block()))
        for channel in ("0000", "0001"):
            put(f"imagesTs/{case}_{channel}", block().astype(np.float32))
    description = {"pair": pair.to_json(), "labels": pair.dataset_labels()}
    (tmp_path / "predictions/dataset.json").write_text(json.dumps(description))
    table = evaluate(tmp_path, images=tmp_path / "imagesTs")
    dice = table[table.metric == "dice"].set_index(["case", "modality", "class"]).value
    assert dice["A", "T1", "liver"] == pytest.approx(7 / 8)
    assert dice["A", "T2", "liver"] == 1
    html = (tmp_path / "out/report.html").read_text()
    assert len(Page(html).images) == 4
    assert "without its image" not in html


def test_plain_maps_end_to_end(tmp_path, put):
    for side in ("predictions", "references"):
        put(f"{side}/case_1", block())
    put("images/case_1_0000", block().astype(np.float32))
    table = evaluate(tmp_path, images=tmp_path / "images")
    assert set(table.modality) == {"image"}
    assert "without its image" not in (tmp_path / "out/report.html").read_text()


def arguments(root: Path) -> list[str]:
    return ["evaluate", "-p", str(root / "predictions"), "-r", str(root / "references"), "-o", str(root / "out")]


def test_the_command_prints_a_summary(four_pairs):
    result = CliRunner().invoke(
        app, [*arguments(four_pairs), "--processes", "1", "--tolerance", "1"], env={"COLUMNS": "120"}
    )
    assert result.exit_code == 0
    assert "T1 label 1" in result.output
    assert "0.812" in result.output  # mean Dice of shifts 0, 1, 2, 3
    assert "Surface Dice within 1 mm" in result.output


def test_the_command_fails_after_the_summary_if_a_prediction_is_missing(four_pairs):
    (four_pairs / "predictions/P003_T2.nii.gz").unlink()
    result = CliRunner().invoke(app, arguments(four_pairs), env={"COLUMNS": "120"})
    assert isinstance(result.exception, SomeCasesFailed)  # which `main` turns into its message and exit code 1
    assert "T1 label 1" in result.output
    assert (four_pairs / "out/results.csv").exists()
